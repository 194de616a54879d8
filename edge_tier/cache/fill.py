"""The edge's cache: a source that keeps what passes through it.

Chunks and manifests never change, so they are kept until they are evicted or taken down; channels
and trust are pointers, revalidated (``pointers``). Concurrent misses share one fetch, which
verifies, stores and only then answers, so that a slow reader is served from the file and memory
stays bounded. Parameters of ``Cache-Status`` are those of RFC 9211.
"""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace

from edge_tier.cache.ahead import ReadAhead
from edge_tier.cache.budget import ByteBudget, Loan
from edge_tier.cache.buffers import Buffers
from edge_tier.cache.bundles import Bundles
from edge_tier.cache.documents import DocumentStore
from edge_tier.cache.fill_config import CacheStats, FillConfig, NotStoredError
from edge_tier.cache.pointers import Pointers
from edge_tier.cache.purge import CHUNK_PREFIX, Effect, Purges
from edge_tier.cache.store import ChunkStore
from edge_tier.cache.takedowns import orphans
from wire.channel import decode_pointer
from wire.chunk import MAX_CHUNK_BYTES, Chunk, ChunkId
from wire.errors import (
    ChunkMismatchError,
    GoneError,
    ManifestInvalidError,
    SourceUnavailableError,
)
from wire.manifest import MAX_MANIFEST_BYTES, revision_of
from wire.paths import TRUST_KEY, channel_key, revision_key
from wire.source import Delivery, PointerState, Source, StoredChunk
from wire.sources.flights import Flights

_TAKEDOWNS = "takedowns"


@dataclass(frozen=True, slots=True)
class _Filled:
    """What a fill brought: a file, or bytes that could not be stored."""

    stored: StoredChunk | None
    chunk: Chunk | None
    cache_status: str


class CachingSource:
    """A ``ChunkServer`` over an upstream and two folders. Call :meth:`start` first.

    It owns all three and closes them. The trust bundle is always fetched for root version 0: that
    one holds every root, so it serves every client, of whatever version, from one entry.

    Args:
        upstream: where misses go; usually ``Failover`` or ``Nearest``, which know a second source.
        verify: raises a ``HeadwaterError`` (``TrustError``) on a bundle that must not be cached.
        members: the sources that ``upstream`` is made of; asked one by one for trust metadata where
            what ``upstream`` gave does not verify.
        clock: seconds, monotonic.
        wall_clock: seconds since the epoch.
    """

    def __init__(
        self,
        upstream: Source,
        store: ChunkStore,
        documents: DocumentStore,
        config: FillConfig,
        *,
        verify: Callable[[bytes], None],
        members: Sequence[Source] = (),
        name: str = "edge",
        clock: Callable[[], float] = time.monotonic,
        wall_clock: Callable[[], float] = time.time,
    ) -> None:
        self._upstream = upstream
        self._store = store
        self._documents = documents
        self._verify = verify
        self._bundles = Bundles(upstream, members, verify, lambda: TRUST_KEY in documents)
        self._name = name
        self._purges = Purges()
        self._pointers = Pointers(
            documents, self._purges, config.freshness, clock=clock, wall_clock=wall_clock
        )
        self._budget = ByteBudget(
            config.fill_bytes_in_flight, background_share=config.background_share
        )
        self._buffers = Buffers(
            MAX_CHUNK_BYTES, max(1, config.fill_bytes_in_flight // MAX_CHUNK_BYTES)
        )
        self._wanted: Counter[ChunkId] = Counter()
        """Chunks that real requests wait for, and how many of them."""
        self._ahead = ReadAhead(
            self.warm,
            is_needed=lambda id: id not in self._store and not self._is_gone(id),  # noqa: A006
            has_room=lambda: not self._store.degraded and self._budget.has_room(MAX_CHUNK_BYTES),
            most=config.read_ahead_chunks,
        )
        self._fills: Flights[tuple[ChunkId, bool], _Filled] = Flights(
            "fill", attempts=config.attempts
        )
        self._manifests: Flights[str, bytes] = Flights("manifest", attempts=config.attempts)
        self._stats = CacheStats()
        self._hits = 0
        self._hit_bytes = 0

    async def start(self) -> None:
        """Take the folders; what was taken down in an earlier life stays down.

        Raises:
            ConfigError: a folder cannot be used.
        """
        await self._store.start()
        await self._documents.start()
        takedowns = await self._documents.get(_TAKEDOWNS)
        if takedowns is not None:
            await self._drop(self._purges.load(takedowns.body))

    @property
    def name(self) -> str:
        return self._name

    @property
    def degraded(self) -> str:
        """Why something could not be stored; empty while all is well."""
        return self._store.degraded or self._documents.degraded

    @property
    def stats(self) -> CacheStats:
        ahead = self._ahead
        return replace(
            self._stats,
            hits=self._hits,
            hit_bytes=self._hit_bytes,
            ahead=ahead.fetched,
            ahead_dropped=ahead.dropped,
            ahead_failures=ahead.failures,
        )

    @property
    def store(self) -> ChunkStore:
        """The chunks at rest, for pins and figures."""
        return self._store

    @property
    def documents(self) -> DocumentStore:
        """The documents at rest."""
        return self._documents

    def takedowns(self) -> tuple[str, ...]:
        """The surrogate keys of all that was taken down, the oldest first."""
        return self._purges.gone_keys()

    async def probe(self) -> None:
        """Where a disk failed, see whether it works again."""
        await self._store.probe()
        await self._documents.probe()

    def pointer_state(self, key: str) -> PointerState | None:
        """The state of the pointer last given under this surrogate key."""
        return self._pointers.state(key)

    async def trust_bundle(self, root_version: int) -> bytes:  # noqa: ARG002
        """The bundle with all roots, whatever ``root_version`` the client has."""
        return await self._pointers.get(TRUST_KEY, self._bundles.newest, self._verify)

    async def channel(self, model: str, channel: str) -> bytes:
        return await self._pointers.get(
            channel_key(model, channel),
            lambda: self._upstream.channel(model, channel),
            lambda body: _check_pointer(body, model, channel),
        )

    async def manifest(self, revision: str) -> bytes:
        key = revision_key(revision)
        self.refuse_gone(key)
        document = await self._documents.get(key)
        if document is not None:
            self.refuse_gone(key)
            self._count(manifest_hits=1)
            return document.body
        self._count(manifest_misses=1)
        landed = await self._manifests.board(revision, lambda: self._fetch_manifest(revision))
        return landed.value

    async def chunk(
        self,
        id: ChunkId,  # noqa: A002
        *,
        revalidate: bool = False,
        into: memoryview | None = None,  # noqa: ARG002
    ) -> Chunk:
        key = _chunk_key(id)
        self.refuse_gone(key)
        if not revalidate:
            chunk = await self._store.read(id)
            if chunk is not None:
                self.refuse_gone(key)
                self._count_hit(len(chunk))
                return chunk
        filled, _ = await self._filled(id, revalidate)
        if filled.chunk is not None:
            return filled.chunk
        chunk = await self._store.read(id)
        if chunk is None:  # evicted meanwhile
            chunk = await self._fetch(id, revalidate=False)
        self.refuse_gone(key)
        return chunk

    async def deliver(self, id: ChunkId, *, revalidate: bool = False) -> Delivery:  # noqa: A002
        self.refuse_gone(_chunk_key(id))
        if not revalidate and (stored := self._store.locate(id)) is not None:
            self._count_hit(stored.size)
            return Delivery(stored, "hit")
        filled, status = await self._filled(id, revalidate)
        body = filled.stored or filled.chunk
        assert body is not None, "a fill brings a file or bytes"
        return Delivery(body, status)

    def at_hand(self, id: ChunkId) -> StoredChunk | None:  # noqa: A002
        self.refuse_gone(_chunk_key(id))
        stored = self._store.locate(id)
        if stored is not None:
            self._count_hit(stored.size)
        return stored

    def expect(self, ids: Sequence[ChunkId]) -> None:
        """Fetch some of these in the background, as far as there is room (``ReadAhead``)."""
        self._ahead.expect(ids)

    async def warm(self, id: ChunkId) -> int:  # noqa: A002
        """Bring a chunk into the cache, behind all real requests; the bytes fetched for it alone.

        0 where it was here, or on its way already.

        Raises:
            NotStoredError: it was fetched, but there is no room or the disk failed.
            HeadwaterError: as :meth:`chunk`.
        """
        self.refuse_gone(_chunk_key(id))
        if id in self._store:
            return 0
        landed = await self._fills.board(
            (id, False), lambda: self._fill(id, False, background=True)
        )
        if landed.value.stored is None:
            reason = self.degraded or "what is pinned leaves no room"
            raise NotStoredError(f"chunk {id} was fetched but not stored: {reason}")
        return 0 if landed.collapsed else landed.value.stored.size

    async def take_down(self, keys: Iterable[str]) -> list[str]:
        """Take down what another tier lists as taken down; what of it was news."""
        news = self._purges.unknown(keys)
        if news:
            await self.purge(news, hard=True)
        return news

    async def purge(self, keys: Iterable[str], *, hard: bool) -> Effect:
        """Do what an event asks for: revalidate pointers, take chunks and revisions down (410)."""
        effect = self._purges.apply(keys, hard=hard)
        self._pointers.mark(effect.marked)
        if effect.takes_down:
            # Written down before anything is dropped, so a kill in between forgets neither.
            await self._documents.put(_TAKEDOWNS, self._purges.gone())
        await self._drop(effect)
        return effect

    async def aclose(self) -> None:
        await self._ahead.aclose()
        for flights in (self._fills, self._manifests):
            await flights.aclose()
        await self._pointers.aclose()
        await self._upstream.aclose()
        await self._store.aclose()
        await self._documents.aclose()

    async def _filled(self, id: ChunkId, revalidate: bool) -> tuple[_Filled, str]:  # noqa: A002
        self._wanted[id] += 1
        self._budget.hurry(id)  # it may wait already, on behalf of the background
        try:
            landed = await self._fills.board((id, revalidate), lambda: self._fill(id, revalidate))
        finally:
            self._wanted[id] -= 1
            if not self._wanted[id]:
                del self._wanted[id]
        status = landed.value.cache_status
        if status.startswith("fwd"):
            self._count(misses=1, collapsed=int(landed.collapsed))
            status += "; collapsed" if landed.collapsed else ""
        return landed.value, status

    async def _fill(
        self,
        id: ChunkId,  # noqa: A002
        revalidate: bool,
        *,
        background: bool = False,
    ) -> _Filled:
        """Fetch, verify (in the Chunk), store. What is taken down meanwhile is not kept."""
        if revalidate and await self._store.verify(id) and (sound := self._store.locate(id)):
            return _Filled(sound, None, "hit; detail=verified")
        patient = background and id not in self._wanted
        loan = await self._budget.lend(MAX_CHUNK_BYTES, background=patient, key=id)
        try:
            stored, unstored = await self._fetch_and_store(id, revalidate, loan)
        finally:
            loan.give_back()
        if self._purges.is_gone(_chunk_key(id)):
            await self._store.drop(id)
            self.refuse_gone(_chunk_key(id))
        forwarded = "fwd=request" if revalidate else "fwd=uri-miss"
        return _Filled(stored, unstored, forwarded + ("; stored" if stored else ""))

    async def _fetch_and_store(
        self,
        id: ChunkId,  # noqa: A002
        revalidate: bool,
        loan: Loan,
    ) -> tuple[StoredChunk | None, Chunk | None]:
        """The chunk's file, or else its bytes. What is on disk is read from there, so that its
        buffer is free for the next."""
        buffer = self._buffers.take()
        try:
            chunk = await self._fetch(id, revalidate, buffer)
            self.refuse_gone(_chunk_key(id))
        except BaseException:
            self._buffers.give_back(buffer)
            raise
        loan.shrink(len(chunk))
        stored = None
        try:
            stored = await self._store.put(chunk)
        finally:
            # A store that was not waited for goes on writing from it.
            (self._buffers.lose if stored is None else self._buffers.give_back)(buffer)
        return (stored, None) if stored is not None else (None, chunk)

    async def _fetch(
        self,
        id: ChunkId,  # noqa: A002
        revalidate: bool,
        into: memoryview | None = None,
    ) -> Chunk:
        try:
            chunk = await self._upstream.chunk(id, revalidate=revalidate, into=into)
        except ChunkMismatchError:
            self._count(mismatches=1)
            raise
        except SourceUnavailableError:
            self._count(failures=1)
            raise
        self._count(fetched=1, fetched_bytes=len(chunk))
        return chunk

    async def _fetch_manifest(self, revision: str) -> bytes:
        key = revision_key(revision)
        body = await self._upstream.manifest(revision)
        await asyncio.to_thread(_check_manifest, body, revision)
        self.refuse_gone(key)
        await self._documents.put(key, body)
        if self._purges.is_gone(key):
            await self._documents.remove(key)
            self.refuse_gone(key)
        return body

    async def _drop(self, effect: Effect) -> None:
        """Remove from disk; the manifests last, for they tell which chunks go with them."""
        for key in effect.dropped_pointers:
            await self._pointers.drop(key)
        revisions = effect.dropped_revisions
        for id in (*effect.dropped_chunks, *await orphans(self._documents, revisions)):  # noqa: A001
            await self._store.drop(id)
        for revision in revisions:
            await self._documents.remove(revision_key(revision))

    def refuse_gone(self, key: str) -> None:
        """Raise ``GoneError`` where this surrogate key was taken down."""
        if self._purges.is_gone(key):
            raise GoneError(f"{key} was taken down")

    def _is_gone(self, id: ChunkId) -> bool:  # noqa: A002
        return self._purges.is_gone(_chunk_key(id))

    def _count_hit(self, size_bytes: int) -> None:
        self._hits += 1
        self._hit_bytes += size_bytes

    def _count(self, **increments: int) -> None:
        stats = self._stats
        self._stats = replace(
            stats, **{name: getattr(stats, name) + by for name, by in increments.items()}
        )


def _chunk_key(id: ChunkId) -> str:  # noqa: A002
    return CHUNK_PREFIX + id


def _check_manifest(body: bytes, revision: str) -> None:
    if len(body) > MAX_MANIFEST_BYTES or revision_of(body) != revision:
        raise ManifestInvalidError(f"upstream gave other bytes for the manifest of {revision}")


def _check_pointer(body: bytes, model: str, channel: str) -> None:
    pointer = decode_pointer(body)
    if (pointer.model, pointer.channel) != (model, channel):
        raise SourceUnavailableError(
            f"upstream gave the pointer {pointer.model}@{pointer.channel} for {model}@{channel}"
        )
