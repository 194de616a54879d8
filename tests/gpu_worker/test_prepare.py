from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import pytest

from gpu_worker.check import ModelFiles
from gpu_worker.config import WorkerConfig
from gpu_worker.engine import EngineStartError, ProbeFailedError
from gpu_worker.errors import DiskError, LoadFailedError
from gpu_worker.prepare import Preparation
from gpu_worker.waterfall import Waterfall
from tests.fakes.quick_disk import quick_folder
from tests.fakes.revisions import Revision
from tests.fakes.rolling import Faults, RollingEngine, broken_model, model
from tests.fakes.source import MemorySource
from wire.errors import NotFoundError
from wire.sources.failover import Failover

ONE, TWO = model(1), model(2)


class Bench:
    """A preparation over one source, with engines that were made."""

    def __init__(self, folder: Path, executor: ThreadPoolExecutor, faults: Faults) -> None:
        self.config = WorkerConfig(model="chat", models_dir=folder, load_timeout_s=0.05)
        self.source = MemorySource()
        self.engines: list[RollingEngine] = []
        self._faults = faults
        self._executor = executor
        self.prepare = self.with_config(self.config)

    def with_config(self, config: WorkerConfig) -> Preparation:
        return Preparation(config, Failover([self.source]), self._executor, self._make)

    def _make(self, path: Path, name: str, revision: str) -> RollingEngine:
        self.engines.append(RollingEngine(path, name, revision, self._faults))
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
    assert files == ModelFiles(path, len(ONE.files["model.gguf"]))
    assert {"pull", "check"} <= waterfall.steps_ms.keys()


async def test_files_that_no_engine_may_see_are_refused(bench: Bench) -> None:
    bad = broken_model()
    bench.hold(bad)
    with pytest.raises(LoadFailedError, match=bad.id[:12]):
        await bench.prepare.files(bad.id, Waterfall())


async def test_a_source_without_the_revision_is_no_fault_of_the_revision(bench: Bench) -> None:
    with pytest.raises(NotFoundError):
        await bench.prepare.files("0" * 64, Waterfall())


async def test_an_engine_is_started_and_probed(bench: Bench) -> None:
    waterfall = Waterfall()
    files = await bench.prepare.files(ONE.id, waterfall)
    engine = await bench.prepare.engine(files, ONE.id, waterfall)
    assert engine is bench.engines[0]
    assert (engine.ready, engine.revision, engine.model) == (True, ONE.id, "chat")
    assert waterfall.steps_ms["probe: first token"] == 125.0


@pytest.mark.parametrize(
    ("faults", "why"),
    [
        (Faults(start=EngineStartError("out of memory")), "out of memory"),
        (Faults(probe=ProbeFailedError("nonsense")), "nonsense"),
        (Faults(hang=True), "did not load and answer within 0.05 s"),
    ],
)
async def test_an_engine_that_fails_is_closed_and_named(bench: Bench, why: str) -> None:
    files = await bench.prepare.files(ONE.id, Waterfall())
    with pytest.raises(LoadFailedError, match=f"{ONE.id[:12]}: {why}"):
        await bench.prepare.engine(files, ONE.id, Waterfall())
    assert bench.engines[0].closed


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


async def test_a_disk_that_fails_is_an_error_of_ours(bench: Bench) -> None:
    (bench.config.models_dir / "chat").symlink_to("chat")  # leads to itself
    with pytest.raises(DiskError):
        await bench.prepare.files(ONE.id, Waterfall())
