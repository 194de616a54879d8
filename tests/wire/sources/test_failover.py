from __future__ import annotations

import asyncio

import pytest

from tests.fakes.clock import ManualClock
from tests.fakes.source import MemorySource
from wire.chunk import ChunkId, hash_chunk
from wire.errors import (
    ChunkMismatchError,
    ConfigError,
    GoneError,
    ManifestInvalidError,
    NotFoundError,
    SourceUnavailableError,
)
from wire.sources.failover import Failover


@pytest.fixture
def peer() -> MemorySource:
    return MemorySource("peer")


@pytest.fixture
def origin() -> MemorySource:
    return MemorySource("origin")


@pytest.fixture
def source(peer: MemorySource, origin: MemorySource) -> Failover:
    return Failover([peer, origin])


def _on_both(peer: MemorySource, origin: MemorySource, data: bytes = b"weights") -> ChunkId:
    peer.add_chunk(data)
    return origin.add_chunk(data)


async def test_the_first_source_that_has_it_answers(
    source: Failover, peer: MemorySource, origin: MemorySource
) -> None:
    chunk = _on_both(peer, origin)
    await source.chunk(chunk)
    assert (peer.call_count, origin.call_count) == (1, 0)


async def test_missing_at_one_source_moves_on(source: Failover, origin: MemorySource) -> None:
    chunk = origin.add_chunk(b"weights")
    assert bytes((await source.chunk(chunk)).data) == b"weights"
    assert [stats.missing for stats in source.stats()] == [1, 0]


async def test_an_unavailable_source_moves_on_for_every_kind_of_answer(
    source: Failover, peer: MemorySource, origin: MemorySource
) -> None:
    peer.down = SourceUnavailableError("refused")
    revision = origin.add_manifest(b"{}")
    origin.channels["chat", "stable"] = b"pointer"
    origin.bundle = b"bundle"
    assert await source.manifest(revision) == b"{}"
    assert await source.channel("chat", "stable") == b"pointer"
    assert await source.trust_bundle(7) == b"bundle"
    assert origin.root_versions == [7]
    assert source.stats()[0].failures == 3


async def test_rotten_bytes_are_first_asked_for_again_at_the_same_source(
    source: Failover, peer: MemorySource, origin: MemorySource
) -> None:
    chunk = _on_both(peer, origin)
    peer.rotten.add(chunk)
    await source.chunk(chunk)
    assert (peer.call_count, peer.revalidations, origin.call_count) == (2, 1, 0)
    assert source.stats()[0].mismatches == 1
    assert source.stats()[0].chunks == 1


async def test_bytes_that_stay_bad_move_on_and_count_twice(
    source: Failover, peer: MemorySource, origin: MemorySource
) -> None:
    chunk = _on_both(peer, origin)
    peer.poisoned.add(chunk)
    await source.chunk(chunk)
    first, second = source.stats()
    assert (first.mismatches, first.chunks, first.bytes) == (2, 0, 0)
    assert (second.chunks, second.bytes) == (1, 7)


async def test_a_caller_that_revalidates_asks_each_source_once(
    source: Failover, peer: MemorySource, origin: MemorySource
) -> None:
    chunk = _on_both(peer, origin)
    peer.poisoned.add(chunk)
    await source.chunk(chunk, revalidate=True)
    assert (peer.call_count, origin.call_count, origin.revalidations) == (1, 1, 1)


async def test_a_takedown_is_final(
    source: Failover, peer: MemorySource, origin: MemorySource
) -> None:
    chunk = _on_both(peer, origin)
    peer.gone.add(f"chunk:{chunk}")
    with pytest.raises(GoneError):
        await source.chunk(chunk)
    assert origin.call_count == 0


@pytest.mark.parametrize(
    ("at_peer", "at_origin", "raised"),
    [
        (NotFoundError("no"), NotFoundError("no"), NotFoundError),
        (NotFoundError("no"), SourceUnavailableError("reset"), SourceUnavailableError),
        (SourceUnavailableError("reset"), NotFoundError("no"), SourceUnavailableError),
        (NotFoundError("no"), ManifestInvalidError("bad"), ManifestInvalidError),
        (ManifestInvalidError("bad"), SourceUnavailableError("reset"), SourceUnavailableError),
    ],
)
async def test_when_all_fail_the_error_names_all(
    source: Failover,
    peer: MemorySource,
    origin: MemorySource,
    at_peer: NotFoundError,
    at_origin: NotFoundError,
    raised: type[Exception],
) -> None:
    peer.down, origin.down = at_peer, at_origin
    with pytest.raises(raised) as caught:
        await source.manifest("0" * 64)
    assert type(caught.value) is raised
    assert f"peer: {at_peer}" in str(caught.value)
    assert f"origin: {at_origin}" in str(caught.value)


async def test_bad_bytes_everywhere_are_a_mismatch(
    source: Failover, peer: MemorySource, origin: MemorySource
) -> None:
    chunk = _on_both(peer, origin)
    peer.poisoned.add(chunk)
    origin.poisoned.add(chunk)
    with pytest.raises(ChunkMismatchError):
        await source.chunk(chunk)


async def test_a_cancelled_request_asks_nobody_else(
    source: Failover, peer: MemorySource, origin: MemorySource
) -> None:
    peer.gate = asyncio.Event()
    task = asyncio.create_task(source.chunk(hash_chunk(b"weights")))
    await peer.until_called(1)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert origin.call_count == 0
    assert source.stats()[0].failures == 0


async def test_stats_add_up_time_and_bytes() -> None:
    clock = ManualClock()
    peer = MemorySource("peer")
    source = Failover([peer], clock=clock)
    peer.gate = asyncio.Event()
    task = asyncio.create_task(source.chunk(peer.add_chunk(b"weights")))
    await peer.until_called(1)
    clock.advance(0.25)
    peer.gate.set()
    await task
    (stats,) = source.stats()
    assert (stats.name, stats.chunks, stats.bytes, stats.busy_s) == ("peer", 1, 7, 0.25)


async def test_closing_closes_all(
    source: Failover, peer: MemorySource, origin: MemorySource
) -> None:
    await source.aclose()
    assert peer.closed
    assert origin.closed
    assert source.name == "failover"


def test_sources_must_be_there_and_tell_apart() -> None:
    with pytest.raises(ConfigError, match="at least one"):
        Failover([])
    with pytest.raises(ConfigError, match="different names: a, a"):
        Failover([MemorySource("a"), MemorySource("a")])
