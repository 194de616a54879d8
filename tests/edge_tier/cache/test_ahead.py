from __future__ import annotations

import asyncio

from edge_tier.cache.ahead import ReadAhead
from edge_tier.cache.fill import CachingSource
from edge_tier.cache.fill_config import FillConfig
from tests.fakes.cache import EdgeFactory, FaultyDisk
from tests.fakes.source import MemorySource
from tests.fakes.waiting import until
from wire.chunk import MAX_CHUNK_BYTES, ChunkId
from wire.errors import SourceUnavailableError


def _chunks(upstream: MemorySource, count: int) -> list[ChunkId]:
    return [upstream.add_chunk(bytes([number]) * 5_000) for number in range(count)]


async def _turns(count: int = 20) -> None:
    for _ in range(count):
        await asyncio.sleep(0)


async def test_what_is_expected_is_a_hit_when_it_is_asked_for(
    edge: CachingSource, upstream: MemorySource
) -> None:
    ids = _chunks(upstream, 3)
    edge.expect(ids)
    await until(lambda: edge.stats.ahead == 3)
    assert [(await edge.deliver(id)).cache_status for id in ids] == ["hit"] * 3  # noqa: A001
    assert upstream.call_count == 3
    assert edge.stats.misses == 0


async def test_no_more_than_the_bound_are_fetched_at_once(
    open_edge: EdgeFactory, upstream: MemorySource
) -> None:
    ids = _chunks(upstream, 8)
    fill = FillConfig(fill_bytes_in_flight=32 * MAX_CHUNK_BYTES, read_ahead_chunks=2)
    async with open_edge(fill=fill) as edge:
        upstream.gate = asyncio.Event()
        edge.expect(ids)
        await upstream.until_called(2)
        await _turns()
        assert upstream.call_count == 2
        assert edge.stats.ahead_dropped == 6
        upstream.gate.set()
        await until(lambda: edge.stats.ahead == 2)


async def test_nothing_is_fetched_ahead_where_real_requests_need_the_memory(
    open_edge: EdgeFactory, upstream: MemorySource
) -> None:
    wanted, *later = _chunks(upstream, 3)
    async with open_edge(fill=FillConfig(fill_bytes_in_flight=MAX_CHUNK_BYTES)) as edge:
        upstream.gate = asyncio.Event()
        real = asyncio.create_task(edge.deliver(wanted))
        await upstream.until_called(1)
        edge.expect(later)
        await _turns()
        assert (upstream.call_count, edge.stats.ahead_dropped) == (1, 2)
        upstream.gate.set()
        await real


async def test_a_real_request_that_needs_what_waits_in_the_background_is_served_first(
    open_edge: EdgeFactory, upstream: MemorySource
) -> None:
    """Otherwise a hint would make its own request slower."""
    first, second, third = _chunks(upstream, 3)
    fill = FillConfig(fill_bytes_in_flight=2 * MAX_CHUNK_BYTES, background_share=0.5)
    async with open_edge(fill=fill) as edge:
        upstream.gate = asyncio.Event()
        warming = [asyncio.create_task(edge.warm(id)) for id in (first, second, third)]  # noqa: A001
        await upstream.until_called(1)
        await _turns()
        assert upstream.call_count == 1, "the others wait for the background's share"
        real = asyncio.create_task(edge.deliver(third))
        await upstream.until_called(2)
        assert upstream.calls[f"chunk:{third}"] == 1
        upstream.gate.set()
        assert (await real).cache_status.endswith("stored; collapsed")
        await asyncio.gather(*warming)
        assert upstream.call_count == 3


async def test_failures_are_swallowed_and_counted(
    edge: CachingSource, upstream: MemorySource
) -> None:
    upstream.down = SourceUnavailableError("origin is away")
    edge.expect(_chunks(upstream, 2))
    await until(lambda: edge.stats.ahead_failures == 2)
    upstream.down = None
    assert (await edge.deliver(_chunks(upstream, 1)[0])).cache_status.startswith("fwd=uri-miss")


async def test_with_a_full_disk_nothing_is_fetched_that_would_be_lost(
    edge: CachingSource, upstream: MemorySource, disk: FaultyDisk
) -> None:
    first, second = _chunks(upstream, 2)
    disk.fill_up()
    await edge.deliver(first)
    edge.expect([second])
    await _turns()
    assert (upstream.call_count, edge.stats.ahead_dropped) == (1, 1)


async def test_what_was_taken_down_or_is_here_is_not_fetched(
    edge: CachingSource, upstream: MemorySource
) -> None:
    here, gone = _chunks(upstream, 2)
    await edge.deliver(here)
    await edge.purge([f"chunk:{gone}"], hard=True)
    edge.expect([here, gone])
    await _turns()
    assert upstream.call_count == 1


async def test_closing_stops_what_runs(open_edge: EdgeFactory, upstream: MemorySource) -> None:
    ids = _chunks(upstream, 2)
    async with open_edge() as edge:
        upstream.gate = asyncio.Event()
        edge.expect(ids)
        await upstream.until_called(2)
    assert edge.stats.ahead == 0
    edge.expect(ids)
    await _turns()
    assert upstream.call_count == 2


async def test_a_fetch_that_dies_takes_nothing_else_down() -> None:
    async def fetch(id: ChunkId) -> int:  # noqa: A002
        if id == "bad":
            raise ZeroDivisionError
        return 1

    ahead = ReadAhead(fetch, is_needed=lambda _: True, has_room=lambda: True, most=4)
    ahead.expect([ChunkId("bad"), ChunkId("good")])
    await until(lambda: (ahead.fetched, ahead.failures) == (1, 1))
    await ahead.aclose()
