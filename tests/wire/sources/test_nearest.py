from __future__ import annotations

import asyncio

import pytest

from tests.fakes.clock import ManualClock
from tests.fakes.source import MemorySource
from wire.chunk import Chunk, ChunkId
from wire.errors import ConfigError, SourceUnavailableError
from wire.sources.nearest import Nearest

CHUNK = b"w" * (1024 * 1024)


class SlowSource(MemorySource):
    """Takes ``seconds`` of the manual clock for each chunk."""

    def __init__(self, name: str, clock: ManualClock, seconds: float) -> None:
        super().__init__(name)
        self._clock = clock
        self.seconds = seconds

    async def chunk(
        self,
        id: ChunkId,  # noqa: A002
        *,
        revalidate: bool = False,
        into: memoryview | None = None,
    ) -> Chunk:
        chunk = await super().chunk(id, revalidate=revalidate)
        self._clock.advance(self.seconds)
        return chunk


@pytest.fixture
def clock() -> ManualClock:
    return ManualClock()


@pytest.fixture
def near(clock: ManualClock) -> SlowSource:
    return SlowSource("near", clock, 0.01)


@pytest.fixture
def far(clock: ManualClock) -> SlowSource:
    return SlowSource("far", clock, 0.5)


@pytest.fixture
def source(far: SlowSource, near: SlowSource, clock: ManualClock) -> Nearest:
    return Nearest([far, near], clock=clock)


@pytest.fixture
def chunk(far: SlowSource, near: SlowSource) -> ChunkId:
    far.add_chunk(CHUNK)
    return near.add_chunk(CHUNK)


async def test_after_one_probe_each_the_near_source_serves(
    source: Nearest, chunk: ChunkId, near: SlowSource, far: SlowSource
) -> None:
    for _ in range(20):
        await source.chunk(chunk)
    assert (far.call_count, near.call_count) == (1, 19)


async def test_a_source_that_becomes_faster_is_found_by_a_probe(
    source: Nearest, chunk: ChunkId, near: SlowSource, far: SlowSource, clock: ManualClock
) -> None:
    for _ in range(5):
        await source.chunk(chunk)
    far.seconds, near.seconds = 0.001, 2.0
    for _ in range(6):
        clock.advance(31)
        await source.chunk(chunk)
    near_calls = near.call_count
    for _ in range(10):
        await source.chunk(chunk)
    assert near.call_count == near_calls


async def test_inside_one_call_it_falls_over_to_the_next(
    source: Nearest, chunk: ChunkId, near: SlowSource, far: SlowSource
) -> None:
    for _ in range(3):
        await source.chunk(chunk)
    near.down = SourceUnavailableError("refused")
    assert bytes((await source.chunk(chunk)).data) == CHUNK
    failing = near.call_count
    for _ in range(5):
        await source.chunk(chunk)
    assert near.call_count == failing  # it is not asked first again soon


async def test_a_broken_source_is_forgiven_once_it_works(
    source: Nearest, chunk: ChunkId, near: SlowSource, clock: ManualClock
) -> None:
    for _ in range(3):
        await source.chunk(chunk)
    near.down = SourceUnavailableError("refused")
    await source.chunk(chunk)
    near.down = None
    clock.advance(300)
    before = near.call_count
    for _ in range(4):
        await source.chunk(chunk)
    assert near.call_count >= before + 3


async def test_a_source_that_lies_and_then_heals_is_still_scored_down(
    source: Nearest, chunk: ChunkId, near: SlowSource, far: SlowSource
) -> None:
    for _ in range(3):
        await source.chunk(chunk)
    near.rotten.add(chunk)
    await source.chunk(chunk)
    assert near.revalidations == 1
    before = far.call_count
    await source.chunk(chunk)
    assert far.call_count == before + 1


async def test_a_stalling_source_is_learnt_from_its_cancellation(
    source: Nearest, chunk: ChunkId, near: SlowSource, far: SlowSource, clock: ManualClock
) -> None:
    for _ in range(3):
        await source.chunk(chunk)
    near.gate = asyncio.Event()
    task = asyncio.create_task(source.chunk(chunk))
    await near.until_called(near.call_count + 1)
    clock.advance(25)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert bytes((await source.chunk(chunk)).data) == CHUNK  # from far


async def test_documents_go_where_they_are_fastest_and_probe_nobody(
    source: Nearest, near: SlowSource, far: SlowSource
) -> None:
    far.add_manifest(b"{}")
    revision = near.add_manifest(b"{}")
    for _ in range(3):
        assert await source.manifest(revision) == b"{}"
    assert (far.call_count, near.call_count) == (3, 0)  # unmeasured: the order given


async def test_scores_and_stats_are_readable(source: Nearest, chunk: ChunkId) -> None:
    for _ in range(3):
        await source.chunk(chunk)
    assert [score.name for score in source.scores()] == ["far", "near"]
    assert [stats.chunks for stats in source.stats()] == [1, 2]
    assert source.name == "nearest"


def test_nearest_needs_a_source() -> None:
    with pytest.raises(ConfigError):
        Nearest([])
