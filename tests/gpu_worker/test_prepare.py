from __future__ import annotations

import asyncio
import os
import tempfile
from collections.abc import AsyncIterator, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import pytest
from msgspec import structs

from gpu_worker.check import ModelFiles
from gpu_worker.config import WorkerConfig
from gpu_worker.engine import EngineStartError, ProbeFailedError
from gpu_worker.engines.config import EngineConfig
from gpu_worker.errors import DiskError, LoadFailedError
from gpu_worker.flush import MARK
from gpu_worker.hardware import Hardware
from gpu_worker.hardware_table import preset
from gpu_worker.order import EngineOrder
from gpu_worker.prepare import Preparation
from gpu_worker.residency import resident_share
from gpu_worker.waterfall import Waterfall
from tests.fakes import raw_gguf
from tests.fakes.quick_disk import quick_folder
from tests.fakes.revisions import Revision, make_revision
from tests.fakes.rolling import Faults, RollingEngine, broken_model, model
from tests.fakes.source import MemorySource
from tests.fakes.waiting import until
from wire.errors import NotFoundError
from wire.golden import GOLDEN_PATH, GoldenPrompt, GoldenToken, build
from wire.golden import encode as encode_golden
from wire.manifest import encode
from wire.sources.failover import Failover

ONE, TWO = model(1), model(2)


class Bench:
    """A preparation over one source, with engines that were made."""

    def __init__(self, folder: Path, executor: ThreadPoolExecutor, faults: Faults) -> None:
        self.config = WorkerConfig(model="chat", models_dir=folder, load_timeout_s=60)
        self.source = MemorySource()
        self.engines: list[RollingEngine] = []
        self.hardware = preset("cpu-server").hardware()
        self._faults = faults
        self._executor = executor
        self.prepare = self.with_config(self.config)

    def with_config(self, config: WorkerConfig) -> Preparation:
        source = Failover([self.source])
        return Preparation(config, source, self._executor, self.make, hardware=self.hardware)

    def make(self, order: EngineOrder) -> RollingEngine:
        self.engines.append(RollingEngine(order, self._faults))
        return self.engines[-1]

    def hold(self, *revisions: Revision) -> None:
        for revision in revisions:
            self.source.add_manifest(revision.data)
            self.source.chunks |= revision.chunks


@pytest.fixture
def faults() -> Faults:
    return Faults()


@pytest.fixture
def executor() -> Iterator[ThreadPoolExecutor]:
    with ThreadPoolExecutor(4) as pool:
        yield pool


@pytest.fixture
async def bench(executor: ThreadPoolExecutor, faults: Faults) -> AsyncIterator[Bench]:
    with quick_folder() as folder:
        made = Bench(folder, executor, faults)
        made.hold(ONE, TWO)
        yield made


async def test_files_are_pulled_and_checked(bench: Bench) -> None:
    waterfall = Waterfall()
    files = await bench.prepare.files(ONE.id, waterfall)
    path = bench.config.models_dir / "chat" / ONE.id / "model.gguf"
    wanted = ModelFiles(path, len(ONE.files["model.gguf"]), gpu_layers=0)
    assert files == replace(wanted, needs_bytes=files.needs_bytes)
    assert files.needs(1.3) == files.needs_bytes > files.size
    assert {"choose", "pull", "check"} <= waterfall.steps_ms.keys()


async def test_what_was_pulled_is_flushed_while_it_is_used(bench: Bench) -> None:
    bench.hold(ONE)
    await bench.prepare.files(ONE.id, Waterfall())
    folder = bench.config.models_dir / "chat" / ONE.id
    await until(lambda: not (folder / MARK).exists())


async def test_files_that_no_engine_may_see_are_refused(bench: Bench) -> None:
    bad = broken_model()
    bench.hold(bad)
    with pytest.raises(LoadFailedError, match=bad.id[:12]) as caught:
        await bench.prepare.files(bad.id, Waterfall())
    assert caught.value.fault == "bad_file"


async def test_a_source_without_the_revision_is_no_fault_of_the_revision(bench: Bench) -> None:
    with pytest.raises(NotFoundError):
        await bench.prepare.files("0" * 64, Waterfall())


async def test_an_engine_is_started_and_probed(bench: Bench) -> None:
    waterfall = Waterfall()
    files = await bench.prepare.files(ONE.id, waterfall)
    engine = await bench.prepare.engine(files, ONE.id, waterfall)
    assert engine is bench.engines[0]
    assert (engine.ready, engine.revision, engine.model) == (True, ONE.id, "chat")
    assert bench.engines[0].order == EngineOrder(
        path=files.path, model="chat", revision=ONE.id, gpu_layers=0, mmap=True
    )
    assert waterfall.decisions["load"].startswith("mmap: ")
    assert waterfall.steps_ms["probe: first token"] == 125.0


async def test_cold_weights_are_read_where_a_gpu_takes_them(
    executor: ThreadPoolExecutor, faults: Faults
) -> None:
    with tempfile.TemporaryDirectory(dir="/var/tmp") as folder:
        bench = Bench(Path(folder), executor, faults)
        bench.hold(ONE)
        prepare = Preparation(
            bench.config, Failover([bench.source]), executor, bench.make, on_gpu=True
        )
        files = await prepare.files(ONE.id, Waterfall())
        for path in files.paths:
            drop_pages(path)
        if (resident_share(files.paths) or 0.0) > 0.5:
            pytest.skip("/var/tmp is in memory, or nobody tells what is resident")
        waterfall = Waterfall()
        await prepare.engine(files, ONE.id, waterfall)
    assert bench.engines[0].order.mmap is False
    assert waterfall.decisions["load"].startswith("read: ")


@pytest.mark.parametrize(
    ("faults", "why", "fault", "counted"),
    [
        (
            Faults(start=EngineStartError("no memory", fault="out_of_memory")),
            "no memory",
            "out_of_memory",
            {},
        ),
        (
            Faults(probe=ProbeFailedError("nonsense")),
            "nonsense",
            "probe_failed",
            {"probe_failed": 1},
        ),
        (
            Faults(probe=ProbeFailedError("it is gone"), fault="out_of_memory"),
            "it is gone",
            "out_of_memory",
            {},
        ),
        (Faults(probe=OverflowError("odd")), "OverflowError: odd", "crashed", {}),
        (Faults(hang=True), "did not load and answer within 0.05 s", "hung", {"hung": 1}),
    ],
)
async def test_an_engine_that_fails_is_closed_and_named(
    bench: Bench, why: str, fault: str, counted: dict[str, int]
) -> None:
    """And counted, where that has not been done by who supervises it."""
    prepare = bench.with_config(replace(bench.config, load_timeout_s=0.05))
    files = await prepare.files(ONE.id, Waterfall())
    with pytest.raises(LoadFailedError, match=f"{ONE.id[:12]}: {why}") as caught:
        await prepare.engine(files, ONE.id, Waterfall())
    assert caught.value.fault == fault
    assert bench.engines[0].closed
    assert bench.engines[0].order.tally.endings == counted


def drop_pages(path: Path) -> None:
    """Have a file on the disk and not in memory."""
    handle = os.open(path, os.O_RDONLY)
    os.fsync(handle)
    os.posix_fadvise(handle, 0, 0, os.POSIX_FADV_DONTNEED)
    os.close(handle)


def golden_model() -> Revision:
    """A revision that says what its model must answer."""
    prompt, answer = GoldenPrompt(ids=(1,), text="a"), (GoldenToken(7, b"x", -0.5),)
    golden = encode_golden(build((prompt,), {"": (answer,)}))
    return make_revision({"model.gguf": [ONE.files["model.gguf"]], GOLDEN_PATH: [golden]})


async def test_an_engine_is_asked_what_the_revision_says_it_must_answer(bench: Bench) -> None:
    revision, waterfall = golden_model(), Waterfall()
    bench.hold(revision)
    files = await bench.prepare.files(revision.id, waterfall)
    await bench.prepare.engine(files, revision.id, waterfall)
    assert bench.engines[0].asked_golden == files.golden
    assert files.golden is not None
    assert waterfall.divergence_nats == 0.125


async def test_golden_answers_that_are_not_the_signed_ones_are_never_used(bench: Bench) -> None:
    revision = golden_model()
    bench.hold(revision)
    await bench.prepare.files(revision.id, Waterfall())
    path = bench.config.models_dir / "chat" / revision.id / GOLDEN_PATH
    path.write_bytes(path.read_bytes().replace(b'"max_nats":0.5', b'"max_nats":9.5'))
    with pytest.raises(LoadFailedError, match="not the file that the publisher signed"):
        await bench.prepare.files(revision.id, Waterfall())


async def test_files_are_brought_again_where_that_is_wanted(bench: Bench) -> None:
    files = await bench.prepare.files(ONE.id, Waterfall())
    files.path.write_bytes(bytes(files.size))
    waterfall = Waterfall()
    await bench.prepare.fresh_files(ONE.id, waterfall)
    assert waterfall.from_network == ONE.unique_bytes
    assert files.path.read_bytes() == ONE.files["model.gguf"]
    bench.source.chunks.clear()
    with pytest.raises(NotFoundError):
        await bench.prepare.fresh_files(ONE.id, Waterfall())
    assert await bench.prepare.older() == [ONE.id]


async def test_a_pull_tells_what_is_missing(bench: Bench) -> None:
    last = [*ONE.chunks][-1]
    gate, waterfall = bench.source.hold(last), Waterfall()
    pulling = asyncio.create_task(bench.prepare.files(ONE.id, waterfall))
    await until(lambda: waterfall.missing_bytes == len(ONE.chunks[last]))
    assert waterfall.running == "pull"
    gate.set()
    await pulling
    assert (waterfall.missing_bytes, waterfall.running) == (0, "")


async def test_for_a_server_that_runs_already_nothing_is_pulled(bench: Bench) -> None:
    config = replace(bench.config, engine=EngineConfig(kind="openai"))
    prepare = bench.with_config(config)
    assert (await prepare.files("0" * 64, Waterfall())).size == 0


async def test_tidying_keeps_the_serving_one_and_the_previous(bench: Bench) -> None:
    three = model(3)
    bench.hold(three)
    for revision in (ONE, TWO, three):
        await bench.prepare.files(revision.id, Waterfall())
    assert (await bench.prepare.older())[0] == three.id
    await bench.prepare.tidy(three.id, ONE.id)
    assert set(await bench.prepare.older()) == {ONE.id, three.id}
    await bench.with_config(replace(bench.config, keep_previous=0)).tidy(three.id, ONE.id)
    assert await bench.prepare.older() == [three.id]


async def test_tidying_keeps_what_it_is_told_whatever_the_count(bench: Bench) -> None:
    for revision in (ONE, TWO):
        await bench.prepare.files(revision.id, Waterfall())
    none = bench.with_config(replace(bench.config, keep_previous=0))
    await none.tidy(TWO.id, "", frozenset((ONE.id,)))
    assert set(await bench.prepare.older()) == {ONE.id, TWO.id}


async def test_a_disk_that_fails_is_an_error_of_ours(bench: Bench) -> None:
    (bench.config.models_dir / "chat").symlink_to("chat")  # leads to itself
    with pytest.raises(DiskError):
        await bench.prepare.files(ONE.id, Waterfall())


def several(*variants: str) -> Revision:
    """A revision whose files belong to one variant each, and a text that belongs to all."""
    keys = [raw_gguf.text_key("general.architecture", "llama")]
    files = {f"m-{name}.gguf": [raw_gguf.header(keys), name.encode()] for name in variants}
    made = make_revision({**files, "m.json": [b"{}"]})
    entries = tuple(
        structs.replace(entry, variant=entry.path[2:-5])
        if entry.path.endswith(".gguf")
        else structs.replace(entry, role="other")
        for entry in made.manifest.files
    )
    data = encode(structs.replace(made.manifest, files=entries))
    return replace(made, data=data)


async def test_one_variant_is_pulled_and_loaded(bench: Bench) -> None:
    revision = several("Q4_0", "Q8_0", "Q4_K_M")
    bench.hold(revision)
    waterfall = Waterfall()
    files = await bench.prepare.files(revision.id, waterfall)
    # The header was read before, to choose, and was not fetched again.
    assert waterfall.by_source == {"memory": waterfall.size + len(revision.data)}
    folder = bench.config.models_dir / "chat" / revision.id
    assert files.path == folder / "m-Q8_0.gguf"
    assert sorted(p.name for p in folder.iterdir() if p.name[0] != ".") == ["m-Q8_0.gguf", "m.json"]


async def test_the_engine_is_told_the_layers_that_fit(bench: Bench) -> None:
    bench.hold(ONE)
    bench.hardware = preset("h100").hardware()
    prepare = bench.with_config(bench.config)
    files = await prepare.files(ONE.id, Waterfall())
    await prepare.engine(files, ONE.id, Waterfall())
    assert bench.engines[-1].order.gpu_layers == files.gpu_layers == 2
    bench.hardware = preset("cpu-server").hardware()
    assert (await bench.with_config(bench.config).files(ONE.id, Waterfall())).gpu_layers == 0


async def test_what_fits_nowhere_is_refused_before_it_is_pulled(bench: Bench) -> None:
    bench.hold(ONE)
    bench.hardware = Hardware(name="tiny", ram_bytes=1_000, ram_free_bytes=1_000)
    with pytest.raises(LoadFailedError, match=rf"{ONE.id[:12]}: nothing fits: .* are missing"):
        await bench.with_config(bench.config).files(ONE.id, Waterfall())
    assert not (bench.config.models_dir / "chat").exists()


async def test_the_variant_that_the_configuration_names_is_taken(bench: Bench) -> None:
    revision = several("Q4_0", "Q8_0", "Q4_K_M")
    bench.hold(revision)
    named = bench.with_config(replace(bench.config, variant="Q4_0"))
    assert (await named.files(revision.id, Waterfall())).path.name == "m-Q4_0.gguf"
    # Nobody names one any more: what is here will do, also while no source answers.
    bench.source.chunks.clear()
    bench.source.manifests.clear()
    assert (await bench.prepare.files(revision.id, Waterfall())).path.name == "m-Q4_0.gguf"


async def test_another_variant_of_the_same_revision_is_pulled(bench: Bench) -> None:
    revision = several("Q4_0", "Q8_0")
    bench.hold(revision)
    for name in ("Q4_0", "Q8_0"):
        prepare = bench.with_config(replace(bench.config, variant=name))
        assert (await prepare.files(revision.id, Waterfall())).path.name == f"m-{name}.gguf"


async def test_a_variant_that_the_revision_lacks_is_told(bench: Bench) -> None:
    revision = several("Q4_0", "Q8_0")
    bench.hold(revision, ONE)
    prepare = bench.with_config(replace(bench.config, variant="Q9"))
    with pytest.raises(LoadFailedError, match="no variant 'Q9'; there is Q4_0, Q8_0"):
        await prepare.files(revision.id, Waterfall())
    assert (await prepare.files(ONE.id, Waterfall())).path.name == "model.gguf"
    with pytest.raises(NotFoundError):
        await prepare.files("0" * 64, Waterfall())
