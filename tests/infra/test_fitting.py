from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path

import pytest
from rich.console import Console
from typer.testing import CliRunner

from gpu_worker.errors import VariantUnknownError
from gpu_worker.fit_needs import Ask, FitConfig
from infra import demo_models
from infra.cli import app
from infra.fitting import Place, describe, fit_file, fit_model, parts, place_for
from infra.local import Local
from tests.fakes.shaped_gguf import LLAMA_8B, LLAMA_70B, write_shaped_gguf
from wire.errors import ConfigError, GGUFInvalidError, NotFoundError

CONFIG = FitConfig()


def place(key: str) -> Place:
    return place_for(replace(CONFIG, hardware=key))


def shown(path: Path, key: str) -> str:
    console = Console(width=80, record=True)
    fit_file(path, place(key), Ask(), CONFIG).show(console)
    return console.export_text()


@pytest.fixture(scope="module")
def llama_70b(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """42 GB of holes."""
    return write_shaped_gguf(tmp_path_factory.mktemp("m") / "llama-70b-Q4_K_M.gguf", LLAMA_70B)


def test_a_file_is_judged_without_its_weights(llama_70b: Path) -> None:
    fitted = fit_file(llama_70b, place("rtx4090"), Ask(), CONFIG)
    assert [row.variant for row in fitted.rows] == ["Q4_K_M"]
    assert fitted.choice.gpu_layers == 38
    document = fitted.as_dict()
    assert document["choice"]["row"] == document["variants"][0]
    assert document["hardware"]["watts"] == 450
    json.dumps(document)


@pytest.mark.parametrize("key", ["rtx4090", "m4-max", "cpu-laptop", "b200"])
def test_what_is_shown_fits_a_terminal(llama_70b: Path, key: str) -> None:
    text = shown(llama_70b, key)
    assert max(map(len, text.splitlines())) <= 80
    words = " ".join(text.split())
    assert "Q4_K_M 42.5 GB 5.37 GB" in words
    assert ("boot would refuse it" in words) == (key == "cpu-laptop")


def test_a_split_between_gpu_and_cpu_is_told_in_words(llama_70b: Path) -> None:
    words = " ".join(shown(llama_70b, "rtx4090").split())
    assert "GPU memory 25.8 GB, 1,008 GB/s" in words
    assert "GPU + CPU 37/80" in words
    assert "43 to the CPU and 26.4 GB of main memory" in words


def test_the_parts_of_a_split_file_are_one_model(tmp_path: Path) -> None:
    assert parts(tmp_path / "m.gguf") == [tmp_path / "m.gguf"]
    two = [tmp_path / f"m-Q8_0-{n:05d}-of-00002.gguf" for n in (1, 2)]
    assert parts(two[1]) == two
    write_shaped_gguf(two[0], replace(LLAMA_8B, layers=1), "Q8_0")
    with pytest.raises(NotFoundError, match="00002-of-00002"):
        fit_file(two[0], place("h100"), Ask(), CONFIG)
    write_shaped_gguf(tmp_path / "tail.gguf", replace(LLAMA_8B, layers=1), "Q8_0")
    (tmp_path / "tail.gguf").rename(two[1])
    row = fit_file(two[0], place("h100"), Ask(), CONFIG).rows[0]
    assert row.variant == "Q8_0"


def test_files_that_are_none_are_named(tmp_path: Path) -> None:
    with pytest.raises(NotFoundError, match=r"missing\.gguf"):
        fit_file(tmp_path / "missing.gguf", place("h100"), Ask(), CONFIG)
    (tmp_path / "text.gguf").write_text("no model")
    with pytest.raises(GGUFInvalidError, match="not a GGUF"):
        fit_file(tmp_path / "text.gguf", place("h100"), Ask(), CONFIG)


def test_this_machine_is_measured() -> None:
    found = place_for(CONFIG)
    assert found.hardware.ram_bandwidth > 1e8
    assert found.row is None
    assert "main memory" in describe(found)
    with pytest.raises(ConfigError, match="--ram goes with --hardware"):
        place_for(CONFIG, ram_bytes=1)
    assert place_for(replace(CONFIG, hardware="l4"), ram_bytes=7).hardware.ram_bytes == 7


def test_several_gpus_are_counted() -> None:
    one = place("l4")
    two = replace(one.hardware, gpus=one.hardware.gpus * 2, note="something was not read")
    lines = describe(Place(hardware=two))
    assert lines["GPU memory"] == "2 x 48.3 GB, 300 GB/s"
    assert lines["note"] == "something was not read"


@pytest.fixture
async def local(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Local]:
    """A launcher whose origin runs; the command finds it by its state directory."""
    async with Local(tmp_path / "state") as started:
        await started.start("origin")
        await started.ready("origin")
        started.urls = started.urls.knowing("edge", started.urls.origin)
        started.announce()
        monkeypatch.setenv("HEADWATER_STATE_DIR", str(started.state.root))
        yield started


async def test_of_a_published_model_only_the_headers_are_fetched(local: Local) -> None:
    model = str(demo_models.path("edge-small-r1"))
    arguments = ["publish", model, "--model", "chat", "--quant", "Q4_0,Q8_0", "--no-parity"]
    published = await asyncio.to_thread(CliRunner().invoke, app, [*arguments, "--json"])
    assert published.exit_code == 0, published.stderr
    urls, root = [local.urls.origin], local.state.trust_root
    fitted = await fit_model("chat", "stable", urls, root, place("h100"), Ask(), CONFIG)
    made = json.loads(published.stdout)
    assert fitted.revision == made["revision"]
    assert 0 < fitted.fetched_bytes < made["size"] / 4
    assert [row.variant for row in fitted.rows] == ["Q8_0", "Q4_0"]
    assert fitted.choice.variant == "Q8_0"

    command = ["fit", "chat", "--hardware", "h100", "--variant", "Q4_0", "--json"]
    result = await asyncio.to_thread(CliRunner().invoke, app, command)
    assert result.exit_code == 0, result.stderr
    assert json.loads(result.stdout)["choice"]["variant"] == "Q4_0"
    with pytest.raises(VariantUnknownError):
        await fit_model(
            "chat", "stable", urls, root, place("h100"), Ask(), CONFIG, variant="Q9"
        )  # fmt: skip
    with pytest.raises(NotFoundError):
        await fit_model("other", "stable", urls, root, place("h100"), Ask(), CONFIG)
