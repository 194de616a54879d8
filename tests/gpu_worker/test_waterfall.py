from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import pytest

from gpu_worker.disk import ModelFolder
from gpu_worker.pull import pull
from gpu_worker.waterfall import Waterfall
from tests.fakes.clock import ManualClock
from tests.fakes.quick_disk import quick_folder
from tests.fakes.revisions import Revision, chunk_of, make_revision
from tests.fakes.source import MemorySource
from wire.chunk import hash_chunk
from wire.sources.failover import Failover

A, B, C, D = (chunk_of(seed) for seed in range(4))
OLD, NEW = make_revision({"m.gguf": [A, B]}), make_revision({"m.gguf": [B, C, D]})


@pytest.fixture
def executor() -> Iterator[ThreadPoolExecutor]:
    with ThreadPoolExecutor(4) as pool:
        yield pool


def holding(name: str, *revisions: Revision) -> MemorySource:
    source = MemorySource(name)
    for revision in revisions:
        source.add_manifest(revision.data)
        source.chunks |= revision.chunks
    return source


def fail_after_half_a_second(waterfall: Waterfall, clock: ManualClock) -> None:
    with waterfall.step("probe", clock):
        clock.advance(0.5)
        _ = 1 / 0


def test_steps_are_timed_also_where_they_fail() -> None:
    clock, waterfall = ManualClock(), Waterfall()
    with waterfall.step("load", clock):
        clock.advance(0.25)
    clock.advance(1)
    with pytest.raises(ZeroDivisionError):
        fail_after_half_a_second(waterfall, clock)
    with waterfall.step("load", clock):
        clock.advance(0.25)
    assert waterfall.steps_ms == pytest.approx({"load": 500.0, "probe": 500.0})


async def test_its_numbers_are_those_of_the_sources_and_the_disk(
    executor: ThreadPoolExecutor,
) -> None:
    near, far = holding("near", OLD, NEW), holding("far", OLD, NEW)
    near.poisoned = {hash_chunk(C)}
    source = Failover([near, far])
    with quick_folder() as root:
        folder = ModelFolder(root)
        await pull("chat", OLD.id, source, folder, executor)
        before = source.stats()
        report = await pull("chat", NEW.id, source, folder, executor)
    waterfall = Waterfall()
    waterfall.add_pull(report, before, source.stats())
    assert (waterfall.revision, waterfall.size) == (NEW.id, 3_000)
    assert (waterfall.from_disk, waterfall.from_seeds, waterfall.from_network) == (0, 1_000, 2_000)
    assert waterfall.by_source == {"near": 1_000 + len(NEW.data), "far": 1_000}
    assert waterfall.mismatches == {"near": 2, "far": 0}  # asked once more, to check its store
    assert {"pull: fetch", "pull: seed", "pull: commit"} <= waterfall.steps_ms.keys()


async def test_a_revision_that_is_here_costs_no_source_a_byte(
    executor: ThreadPoolExecutor,
) -> None:
    source = Failover([holding("near", OLD)])
    with quick_folder() as root:
        await pull("chat", OLD.id, source, ModelFolder(root), executor)
        before = source.stats()
        report = await pull("chat", OLD.id, source, ModelFolder(root), executor)
    waterfall = Waterfall()
    waterfall.add_pull(report, before, source.stats())
    assert (waterfall.from_disk, waterfall.from_network) == (2_000, 0)
    assert waterfall.by_source == {"near": 0}


def test_the_step_that_runs_is_known_until_it_ends() -> None:
    waterfall = Waterfall()
    with waterfall.step("load"):
        assert waterfall.running == "load"
    assert waterfall.running == ""
    with pytest.raises(ZeroDivisionError):
        fail_after_half_a_second(waterfall, ManualClock())
    assert waterfall.running == ""


def test_what_a_pull_still_lacks_is_known() -> None:
    waterfall = Waterfall()
    waterfall.progressed("net", 3, 10)
    assert waterfall.missing_bytes == 7
