from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from edge_tier.cache.fill import CachingSource
from edge_tier.cache.fill_config import FillConfig
from tests.fakes.cache import EdgeFactory, FaultyDisk
from tests.fakes.clock import ManualClock
from tests.fakes.source import MemorySource
from wire.channel import encode_pointer, pointer_to
from wire.chunk import MAX_CHUNK_BYTES, Chunk, ChunkId
from wire.errors import (
    ChunkMismatchError,
    ConfigError,
    GoneError,
    ManifestInvalidError,
    NotFoundError,
    SourceUnavailableError,
    TrustError,
)
from wire.manifest import revision_of
from wire.paths import TRUST_KEY, channel_key, revision_key
from wire.source import ChunkServer, Delivery, StoredChunk
from wire.sources.failover import Failover

REVISION = "b" * 64


@pytest.fixture
def chunk(upstream: MemorySource) -> ChunkId:
    return upstream.add_chunk(b"weights" * 1_000)


def _pointer(revision: str = REVISION, sequence: int = 1) -> bytes:
    return encode_pointer(pointer_to("chat", "stable", revision, sequence=sequence))


def _body(delivery: Delivery) -> bytes:
    body = delivery.body
    return body.path.read_bytes() if isinstance(body, StoredChunk) else bytes(body.data)


def _rot(delivery: Delivery) -> None:
    assert isinstance(delivery.body, StoredChunk)
    data = bytearray(delivery.body.path.read_bytes())
    data[10] ^= 0x40
    delivery.body.path.write_bytes(data)


def _chunk_files(tmp_path: Path) -> list[Path]:
    return [path for path in (tmp_path / "chunks" / "chunks").rglob("*") if path.is_file()]


# Chunks


async def test_a_miss_is_stored_and_then_a_hit(
    edge: CachingSource, upstream: MemorySource, chunk: ChunkId
) -> None:
    first = await edge.deliver(chunk)
    second = await edge.deliver(chunk)
    assert first.cache_status == "fwd=uri-miss; stored"
    assert second.cache_status == "hit"
    assert isinstance(first.body, StoredChunk)
    assert _body(first) == _body(second) == upstream.chunks[chunk]
    assert upstream.call_count == 1


async def test_the_edge_serves_as_a_chunk_server(edge: CachingSource, chunk: ChunkId) -> None:
    server: ChunkServer = edge
    assert (await server.chunk(chunk)).id == chunk
    assert (await server.chunk(chunk)).id == chunk
    assert server.name == "edge"
    assert edge.stats.hits == edge.stats.misses == 1


async def test_200_concurrent_misses_are_exactly_one_upstream_fetch(
    edge: CachingSource, upstream: MemorySource, chunk: ChunkId
) -> None:
    upstream.gate = asyncio.Event()
    tasks = [asyncio.create_task(edge.deliver(chunk)) for _ in range(200)]
    await upstream.until_called(1)
    upstream.gate.set()
    deliveries = await asyncio.gather(*tasks)
    statuses = [delivery.cache_status for delivery in deliveries]
    assert upstream.call_count == 1
    assert statuses.count("fwd=uri-miss; stored") == 1
    assert statuses.count("fwd=uri-miss; stored; collapsed") == 199
    assert edge.stats.collapsed == 199
    assert edge.stats.fetched == 1


async def test_when_the_leader_hangs_up_the_waiters_get_the_chunk(
    edge: CachingSource, upstream: MemorySource, chunk: ChunkId
) -> None:
    upstream.gate = asyncio.Event()
    leader, *waiters = (asyncio.create_task(edge.deliver(chunk)) for _ in range(10))
    await upstream.until_called(1)
    leader.cancel()
    with pytest.raises(asyncio.CancelledError):
        await leader
    upstream.gate.set()
    assert {_body(delivery) for delivery in await asyncio.gather(*waiters)} == {
        upstream.chunks[chunk]
    }
    assert upstream.call_count == 1


async def test_when_the_leader_fails_a_waiter_fetches_again(
    edge: CachingSource, upstream: MemorySource, chunk: ChunkId
) -> None:
    upstream.failures.append(SourceUnavailableError("connection reset"))
    results = await asyncio.gather(
        *(edge.deliver(chunk) for _ in range(20)), return_exceptions=True
    )
    assert sum(isinstance(result, SourceUnavailableError) for result in results) == 1
    assert sum(isinstance(result, Delivery) for result in results) == 19
    assert upstream.call_count == 2
    assert edge.stats.failures == 1


async def test_what_mismatches_is_never_cached(
    edge: CachingSource, upstream: MemorySource, chunk: ChunkId, tmp_path: Path
) -> None:
    upstream.poisoned.add(chunk)
    with pytest.raises(ChunkMismatchError):
        await edge.deliver(chunk)
    assert _chunk_files(tmp_path) == []
    assert edge.stats.mismatches == 1


async def test_a_full_disk_still_gives_the_bytes(
    edge: CachingSource, upstream: MemorySource, chunk: ChunkId, disk: FaultyDisk
) -> None:
    disk.fill_up()
    delivery = await edge.deliver(chunk)
    assert isinstance(delivery.body, Chunk)
    assert delivery.cache_status == "fwd=uri-miss"
    assert _body(delivery) == upstream.chunks[chunk]
    assert "No space left" in edge.degraded
    disk.error = None
    assert (await edge.deliver(chunk)).cache_status == "fwd=uri-miss; stored"
    assert edge.degraded == ""


async def test_a_flipped_bit_heals_when_asked_to_revalidate(
    edge: CachingSource, upstream: MemorySource, chunk: ChunkId
) -> None:
    _rot(await edge.deliver(chunk))
    healed = await edge.deliver(chunk, revalidate=True)
    assert healed.cache_status == "fwd=request; stored"
    assert _body(healed) == upstream.chunks[chunk]
    assert edge.store.stats.corrupt == 1
    assert upstream.call_count == 2
    assert (await edge.deliver(chunk)).cache_status == "hit"


async def test_a_sound_copy_is_not_fetched_again(
    edge: CachingSource, upstream: MemorySource, chunk: ChunkId
) -> None:
    await edge.deliver(chunk)
    delivery = await edge.deliver(chunk, revalidate=True)
    assert delivery.cache_status == "hit; detail=verified"
    assert bytes((await edge.chunk(chunk, revalidate=True)).data) == upstream.chunks[chunk]
    assert upstream.call_count == 1


async def test_reading_a_rotten_copy_heals_by_itself(
    edge: CachingSource, upstream: MemorySource, chunk: ChunkId
) -> None:
    _rot(await edge.deliver(chunk))
    assert bytes((await edge.chunk(chunk)).data) == upstream.chunks[chunk]
    assert edge.store.stats.corrupt == 1
    assert upstream.call_count == 2


async def test_a_vanished_file_is_fetched_again(
    edge: CachingSource, upstream: MemorySource, chunk: ChunkId
) -> None:
    stored = (await edge.deliver(chunk)).body
    assert isinstance(stored, StoredChunk)
    stored.path.unlink()
    assert bytes((await edge.chunk(chunk)).data) == upstream.chunks[chunk]
    assert upstream.call_count == 2


async def test_a_worker_that_got_rotten_bytes_heals_the_edge(
    edge: CachingSource, upstream: MemorySource, chunk: ChunkId
) -> None:
    """The whole round: a client verifies, and asks again with ``revalidate``."""
    _rot(await edge.deliver(chunk))

    class Worker(MemorySource):
        async def chunk(
            self,
            id: ChunkId,  # noqa: A002
            *,
            revalidate: bool = False,
            into: memoryview | None = None,
        ) -> Chunk:
            return Chunk(id, _body(await edge.deliver(id, revalidate=revalidate)))

    source = Failover([Worker("edge")])
    assert bytes((await source.chunk(chunk)).data) == upstream.chunks[chunk]
    assert source.stats()[0].mismatches == 1
    assert edge.store.stats.corrupt == 1


async def test_memory_for_fills_is_bounded(open_edge: EdgeFactory, upstream: MemorySource) -> None:
    ids = [upstream.add_chunk(bytes([number]) * 5_000) for number in range(20)]
    fill = FillConfig(fill_bytes_in_flight=3 * MAX_CHUNK_BYTES)
    async with open_edge(fill=fill) as edge:
        upstream.gate = asyncio.Event()
        tasks = [asyncio.create_task(edge.deliver(chunk)) for chunk in ids]
        await upstream.until_called(3)
        for _ in range(20):
            await asyncio.sleep(0)
        assert upstream.call_count == 3
        upstream.gate.set()
        assert len(await asyncio.gather(*tasks)) == 20


def test_a_fill_needs_some_memory_and_an_attempt() -> None:
    with pytest.raises(ConfigError):
        FillConfig(fill_bytes_in_flight=0)
    with pytest.raises(ConfigError):
        FillConfig(attempts=0)


async def test_an_unknown_chunk_is_not_found(edge: CachingSource) -> None:
    with pytest.raises(NotFoundError):
        await edge.deliver(Chunk.of(b"unknown").id)


async def test_chunks_survive_a_restart_without_an_origin(
    open_edge: EdgeFactory, upstream: MemorySource, chunk: ChunkId
) -> None:
    async with open_edge() as edge:
        await edge.deliver(chunk)
    upstream.down = SourceUnavailableError("origin is away")
    async with open_edge() as edge:
        assert (await edge.deliver(chunk)).cache_status == "hit"


# Takedowns


async def test_a_takedown_answers_gone_and_removes_the_file(
    edge: CachingSource, chunk: ChunkId, tmp_path: Path
) -> None:
    await edge.deliver(chunk)
    await edge.purge([f"chunk:{chunk}"], hard=True)
    for revalidate in (False, True):
        with pytest.raises(GoneError):
            await edge.deliver(chunk, revalidate=revalidate)
        with pytest.raises(GoneError):
            await edge.chunk(chunk, revalidate=revalidate)
    assert _chunk_files(tmp_path) == []


async def test_a_takedown_that_races_a_fill_wins(
    edge: CachingSource, upstream: MemorySource, chunk: ChunkId, tmp_path: Path
) -> None:
    upstream.gate = asyncio.Event()
    filling = [asyncio.create_task(edge.deliver(chunk)) for _ in range(3)]
    await upstream.until_called(1)
    await edge.purge([f"chunk:{chunk}"], hard=True)
    upstream.gate.set()
    errors = await asyncio.gather(*filling, return_exceptions=True)
    assert all(isinstance(error, GoneError) for error in errors)
    assert _chunk_files(tmp_path) == []
    assert edge.store.locate(chunk) is None


@pytest.mark.parametrize("turns", range(8))
async def test_a_takedown_at_any_moment_of_a_fill_leaves_nothing(
    edge: CachingSource, chunk: ChunkId, tmp_path: Path, turns: int
) -> None:
    filling = asyncio.create_task(edge.deliver(chunk))
    for _ in range(turns):
        await asyncio.sleep(0)
    await edge.purge([f"chunk:{chunk}"], hard=True)
    await asyncio.gather(filling, return_exceptions=True)
    assert edge.store.locate(chunk) is None
    assert _chunk_files(tmp_path) == []


async def test_takedowns_are_remembered_over_a_restart(
    open_edge: EdgeFactory, upstream: MemorySource, chunk: ChunkId, tmp_path: Path
) -> None:
    revision = upstream.add_manifest(b"{}")
    async with open_edge() as edge:
        await edge.deliver(chunk)
        kept = tmp_path / "kept"
        kept.write_bytes(_chunk_files(tmp_path)[0].read_bytes())
        await edge.purge([f"chunk:{chunk}", revision_key(revision)], hard=True)
    # As if the kill had come before the file was removed.
    kept.rename(tmp_path / "chunks" / "chunks" / chunk[:2] / chunk)
    async with open_edge() as edge:
        with pytest.raises(GoneError):
            await edge.deliver(chunk)
        with pytest.raises(GoneError):
            await edge.manifest(revision)
        assert _chunk_files(tmp_path) == []


async def test_a_takedown_upstream_is_passed_on(
    edge: CachingSource, upstream: MemorySource, chunk: ChunkId
) -> None:
    upstream.gone.add(f"chunk:{chunk}")
    with pytest.raises(GoneError):
        await edge.deliver(chunk)


async def test_a_chunk_purged_softly_is_asked_for_again(
    edge: CachingSource, upstream: MemorySource, chunk: ChunkId
) -> None:
    await edge.deliver(chunk)
    await edge.purge([f"chunk:{chunk}"], hard=False)
    assert (await edge.deliver(chunk)).cache_status.startswith("fwd=uri-miss")
    await edge.purge([f"chunk:{chunk}"], hard=False)
    upstream.gone.add(f"chunk:{chunk}")
    with pytest.raises(GoneError):
        await edge.deliver(chunk)
    upstream.gone.clear()
    assert (await edge.deliver(chunk)).cache_status.startswith("fwd=uri-miss"), "no memory of it"


# Manifests


async def test_a_manifest_is_fetched_once_and_for_ever(
    open_edge: EdgeFactory, upstream: MemorySource
) -> None:
    revision = upstream.add_manifest(b'{"files":[]}')
    async with open_edge() as edge:
        bodies = await asyncio.gather(*(edge.manifest(revision) for _ in range(20)))
        assert set(bodies) == {b'{"files":[]}'}
        assert upstream.call_count == 1
    upstream.down = SourceUnavailableError("origin is away")
    async with open_edge() as edge:
        assert await edge.manifest(revision) == b'{"files":[]}'
        assert edge.stats.manifest_hits == 1


async def test_other_bytes_for_a_manifest_are_never_cached(
    edge: CachingSource, upstream: MemorySource
) -> None:
    revision = revision_of(b"{}")
    upstream.manifests[revision] = b'{"evil":1}'
    for _ in range(2):
        with pytest.raises(ManifestInvalidError):
            await edge.manifest(revision)
    assert upstream.call_count == 2


async def test_a_revision_taken_down_while_it_is_fetched_is_not_kept(
    edge: CachingSource, upstream: MemorySource, tmp_path: Path
) -> None:
    revision = upstream.add_manifest(b"{}")
    upstream.gate = asyncio.Event()
    fetching = asyncio.create_task(edge.manifest(revision))
    await upstream.until_called(1)
    await edge.purge([revision_key(revision)], hard=True)
    upstream.gate.set()
    with pytest.raises(GoneError):
        await fetching
    assert not (tmp_path / "documents" / "documents" / revision_key(revision)).exists()


async def test_a_manifest_taken_down_is_gone(edge: CachingSource, upstream: MemorySource) -> None:
    revision = upstream.add_manifest(b"{}")
    await edge.manifest(revision)
    await edge.purge([revision_key(revision)], hard=True)
    with pytest.raises(GoneError):
        await edge.manifest(revision)


# Pointers


async def test_a_channel_is_cached_and_its_state_readable(
    edge: CachingSource, upstream: MemorySource, clock: ManualClock
) -> None:
    upstream.channels["chat", "stable"] = _pointer()
    key = channel_key("chat", "stable")
    assert edge.pointer_state(key) is None
    assert await edge.channel("chat", "stable") == _pointer()
    clock.advance(2)
    await edge.channel("chat", "stable")
    state = edge.pointer_state(key)
    assert state is not None
    assert (state.age_s, state.cache_status) == (2.0, "hit; ttl=3")
    assert upstream.call_count == 1


@pytest.mark.parametrize(
    "body",
    [
        b"<html>gateway timeout</html>",
        encode_pointer(pointer_to("chat", "beta", REVISION, sequence=1)),
        encode_pointer(pointer_to("other", "stable", REVISION, sequence=1)),
    ],
)
async def test_what_is_not_this_channels_pointer_is_never_cached(
    edge: CachingSource, upstream: MemorySource, clock: ManualClock, body: bytes
) -> None:
    upstream.channels["chat", "stable"] = _pointer()
    await edge.channel("chat", "stable")
    upstream.channels["chat", "stable"] = body
    clock.advance(60)
    assert await edge.channel("chat", "stable") == _pointer()


async def test_an_event_has_the_pointer_revalidated(
    edge: CachingSource, upstream: MemorySource
) -> None:
    upstream.channels["chat", "stable"] = _pointer()
    await edge.channel("chat", "stable")
    rolled = _pointer("c" * 64, sequence=2)
    upstream.channels["chat", "stable"] = rolled
    await edge.purge([channel_key("chat", "stable"), TRUST_KEY], hard=False)
    assert await edge.channel("chat", "stable") == rolled


async def test_a_hard_purge_of_a_channel_drops_the_pointer(
    edge: CachingSource, upstream: MemorySource
) -> None:
    upstream.channels["chat", "stable"] = _pointer()
    await edge.channel("chat", "stable")
    del upstream.channels["chat", "stable"]
    await edge.purge([channel_key("chat", "stable")], hard=True)
    with pytest.raises(NotFoundError):
        await edge.channel("chat", "stable")


async def test_one_bundle_serves_clients_of_every_root_version(
    edge: CachingSource, upstream: MemorySource
) -> None:
    upstream.bundle = b"bundle"
    for root_version in (7, 1, 3):
        assert await edge.trust_bundle(root_version) == b"bundle"
    assert upstream.root_versions == [0]


async def test_a_bundle_that_does_not_verify_is_never_cached(
    open_edge: EdgeFactory, upstream: MemorySource, clock: ManualClock
) -> None:
    def verify(body: bytes) -> None:
        if body != b"signed":
            raise TrustError("signature does not verify")

    async with open_edge(verify=verify) as edge:
        upstream.bundle = b"forged"
        with pytest.raises(TrustError):
            await edge.trust_bundle(1)
        upstream.bundle = b"signed"
        assert await edge.trust_bundle(1) == b"signed"
        upstream.bundle = b"forged"
        clock.advance(60)
        assert await edge.trust_bundle(1) == b"signed"
        state = edge.pointer_state(TRUST_KEY)
        assert state is not None
        assert state.cache_status == "fwd=stale; detail=stale-if-error"


async def test_a_hostile_member_does_not_keep_the_news_of_an_honest_one_away(
    open_edge: EdgeFactory, upstream: MemorySource
) -> None:
    def only_signed(bundle: bytes) -> None:
        if bundle != b"signed":
            raise TrustError("not signed")

    lost, honest = MemorySource("lost"), MemorySource("honest")
    upstream.bundle, honest.bundle = b"forged", b"signed"
    async with open_edge(verify=only_signed, members=(upstream, lost, honest)) as edge:
        assert await edge.trust_bundle(1) == b"signed"
    honest.bundle = b"forged too"
    async with open_edge(verify=only_signed, members=(upstream, honest)) as edge:
        assert await edge.trust_bundle(1) == b"signed", "what was verified before"


async def test_an_upstream_that_lost_its_trust_metadata_does_not_cost_us_ours(
    edge: CachingSource, upstream: MemorySource, clock: ManualClock
) -> None:
    with pytest.raises(NotFoundError):
        await edge.trust_bundle(1)
    upstream.bundle = b"bundle"
    await edge.trust_bundle(1)
    upstream.bundle = None
    clock.advance(60)
    assert await edge.trust_bundle(1) == b"bundle"


async def test_an_edge_restarts_whole_without_an_origin(
    open_edge: EdgeFactory, upstream: MemorySource, wall_clock: ManualClock
) -> None:
    upstream.channels["chat", "stable"] = _pointer()
    upstream.bundle = b"bundle"
    async with open_edge() as edge:
        await edge.trust_bundle(1)
        await edge.channel("chat", "stable")
    upstream.down = SourceUnavailableError("origin is away")
    wall_clock.advance(12 * 3600)
    async with open_edge() as edge:
        assert await edge.trust_bundle(1) == b"bundle"
        assert await edge.channel("chat", "stable") == _pointer()
        state = edge.pointer_state(TRUST_KEY)
        assert state is not None
        assert state.age_s >= 12 * 3600


async def test_closing_the_edge_closes_the_upstream(
    open_edge: EdgeFactory, upstream: MemorySource, chunk: ChunkId
) -> None:
    async with open_edge() as edge:
        upstream.gate = asyncio.Event()
        waiting = asyncio.create_task(edge.deliver(chunk))
        await upstream.until_called(1)
    assert upstream.closed
    with pytest.raises(SourceUnavailableError):
        await waiting
    await edge.aclose()
