"""The golden file of a publish, and what a worker's engine makes of it: with the real llama.cpp."""

from __future__ import annotations

from collections.abc import AsyncIterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from gpu_worker.engine import EngineStartError, ProbeFailedError
from gpu_worker.engines.llamacpp import LlamaCpp, LlamaCppConfig
from gpu_worker.order import EngineOrder
from infra import demo_models
from infra.golden import PROMPTS, GoldenConfig, GoldenMaker, read_prompts
from origin.errors import PublishError
from tests.fakes.quick_disk import quick_folder
from tests.fakes.revisions import Revision, make_revision
from tests.fakes.rolling import Rig
from tests.fakes.spoilt_gguf import spoil
from wire.errors import ConfigError
from wire.golden import GOLDEN_PATH, Expectations, Golden, decode, encode

LARGE, SMALL = demo_models.path("cloud-large"), demo_models.path("edge-small-r1")


@pytest.fixture(scope="module")
def golden() -> Golden:
    """Of two variants."""
    data = GoldenMaker()({"": (LARGE,), "small": (SMALL,)})
    assert data is not None
    return decode(data)


@pytest.fixture
def expected(golden: Golden) -> Expectations:
    found = golden.of_variant("")
    assert found is not None
    return found


class Probed:
    """Probes a file in an engine that is loaded as told."""

    def __init__(self) -> None:
        self.engines: list[LlamaCpp] = []

    async def __call__(self, path: Path, expected: Expectations, **how: int) -> float:
        """The largest divergence."""
        settings = {"slots": 1, "context_tokens": 512, "threads": 1, "warmup": False, **how}
        config = LlamaCppConfig(**settings)  # type: ignore[arg-type]  # numbers all
        engine = LlamaCpp(path, model="m", revision="0" * 64, config=config)
        self.engines.append(engine)
        await engine.start()
        probe = await engine.probe(expected)
        assert probe.verdict is not None
        return probe.verdict.max_nats


@pytest.fixture
async def probed() -> AsyncIterator[Probed]:
    probing = Probed()
    yield probing
    for engine in probing.engines:
        await engine.aclose()


def test_every_variant_answers_every_prompt(golden: Golden) -> None:
    assert [prompt.text for prompt in golden.prompts] == list(PROMPTS)
    assert set(golden.answers) == {"", "small"}
    large, small = golden.answers[""], golden.answers["small"]
    assert large != small
    assert all(0 < len(answer) <= 8 for answer in (*large, *small))


def test_the_same_file_gives_the_same_bytes() -> None:
    one, two = (GoldenMaker()({"": (SMALL,)}) for _ in range(2))
    assert one == two


@pytest.mark.parametrize(
    "how",
    [{}, {"threads": 2}, {"batch_tokens": 8}, {"slots": 4, "batch_tokens": 32}],
    ids=["the same", "two threads", "small batches", "all prompts in one batch"],
)
async def test_the_right_file_passes_however_it_is_loaded(
    probed: Probed, expected: Expectations, how: dict[str, int]
) -> None:
    assert await probed(LARGE, expected, **how) <= 0.1


@pytest.mark.parametrize("tensor", ["blk.0.ffn_down.weight", "blk.3.attn_v.weight"])
async def test_a_file_with_one_scrambled_tensor_fails(
    probed: Probed, expected: Expectations, tmp_path: Path, tensor: str
) -> None:
    spoilt = spoil(LARGE, tmp_path / "spoilt.gguf", tensor)
    with pytest.raises(ProbeFailedError, match=r"not what was published: prompt \d, token"):
        await probed(spoilt, expected)


async def test_another_model_with_the_same_vocabulary_fails(
    probed: Probed, expected: Expectations
) -> None:
    with pytest.raises(ProbeFailedError, match="divergence"):
        await probed(SMALL, expected)


def test_a_large_model_is_left_out_unless_it_is_wanted() -> None:
    config = GoldenConfig(max_bytes=1_000)
    shy = GoldenMaker(config=config)
    assert shy({"": (SMALL,)}) is None
    assert "--golden makes them all the same" in shy.note
    assert GoldenMaker(config=config, required=True)({"": (SMALL,)}) is not None


def test_a_prompt_that_is_too_long_and_a_model_that_is_too_slow_are_told() -> None:
    with pytest.raises(PublishError, match="at most 1024"):
        GoldenMaker(["word " * 2_000], required=True)({"": (SMALL,)})
    with pytest.raises(PublishError, match="--no-golden"):
        GoldenMaker(config=GoldenConfig(timeout_s=0.001), required=True)({"": (SMALL,)})


def test_a_file_that_cannot_be_asked_is_published_without_unless_it_is_required(
    tmp_path: Path,
) -> None:
    (tmp_path / "bad.gguf").write_bytes(b"GGUF" + b"\xff" * 64)
    models = {"": (tmp_path / "bad.gguf",)}
    maker = GoldenMaker()
    assert maker(models) is None
    assert maker.note.startswith("no golden answers were made: llama.cpp golden@")
    with pytest.raises(EngineStartError):
        GoldenMaker(required=True)(models)


def test_prompts_of_ones_own_are_a_line_each(tmp_path: Path) -> None:
    file = tmp_path / "prompts.txt"
    file.write_text("Eins,\n\n zwei\n")
    assert read_prompts(file) == ("Eins,", " zwei")


@pytest.mark.parametrize("content", [b"", b"\n \n", b"\xff", b"x\n" * 33, b"x" * 300_000])
def test_prompts_that_cannot_be_used_are_refused(tmp_path: Path, content: bytes) -> None:
    file = tmp_path / "prompts.txt"
    file.write_bytes(content)
    with pytest.raises(ConfigError, match=r"prompts\.txt"):
        read_prompts(file)
    with pytest.raises(ConfigError, match="absent"):
        read_prompts(tmp_path / "absent")


# As a worker


def revision_of(weights: Path, golden: Golden) -> Revision:
    return make_revision({"model.gguf": [weights.read_bytes()], GOLDEN_PATH: [encode(golden)]})


class RealRig(Rig):
    """A worker's parts with the real engine."""

    def _make_engine(self, order: EngineOrder) -> Any:
        config = LlamaCppConfig(slots=4, context_tokens=512, threads=1, warmup=False)
        return LlamaCpp(order.path, model=order.model, revision=order.revision, config=config)


async def test_a_worker_serves_the_right_file_and_refuses_one_that_answers_otherwise(
    golden: Golden, tmp_path: Path
) -> None:
    right = revision_of(LARGE, golden)
    wrong = revision_of(spoil(LARGE, tmp_path / "spoilt.gguf"), golden)
    with quick_folder() as folder, ThreadPoolExecutor(4) as executor:
        rig = RealRig(folder, executor)
        rig.source.publish(right)
        await rig.roller.look()
        assert (rig.roller.revision, rig.serving.state) == (right.id, "ready")
        assert 0 < rig.roller.waterfalls[-1].divergence_nats < 0.1
        rig.source.publish(wrong)
        await rig.roller.look()
        assert (rig.roller.revision, rig.serving.state) == (right.id, "ready")
        assert (rig.roller.refused, rig.roller.fault) == (wrong.id, "probe_failed")
        assert "not what was published: prompt 0" in rig.roller.reason
        assert "divergence " in rig.roller.reason
        await rig.roller.aclose()
