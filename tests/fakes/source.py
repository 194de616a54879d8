"""Sources that serve from memory, and fail on demand: they implement ``ChunkServer``."""

from __future__ import annotations

import asyncio
from collections import Counter, deque
from collections.abc import Sequence

from wire.chunk import Chunk, ChunkId
from wire.errors import ChunkMismatchError, GoneError, HeadwaterError, NotFoundError
from wire.manifest import revision_of
from wire.source import Delivery, StoredChunk


class MemorySource:
    """Serves what was put into it.

    Faults: ``gate`` holds every call until it is set; ``down`` fails every call; ``failures`` fails
    the next calls, one each; ``rotten`` chunks mismatch until asked for with ``revalidate``;
    ``poisoned`` ones always do; ``gone`` keys (``chunk:…``, ``revision:…``) were taken down.
    """

    def __init__(self, name: str = "memory") -> None:
        self._name = name
        self.chunks: dict[ChunkId, bytes] = {}
        self.manifests: dict[str, bytes] = {}
        self.channels: dict[tuple[str, str], bytes] = {}
        self.bundle: bytes | None = None
        self.gate: asyncio.Event | None = None
        self.down: HeadwaterError | None = None
        self.failures: deque[HeadwaterError] = deque()
        self.rotten: set[ChunkId] = set()
        self.poisoned: set[ChunkId] = set()
        self.gone: set[str] = set()
        self.calls: Counter[str] = Counter()
        """By what was asked for: ``chunk:…``, ``revision:…``, ``channel:…@…`` or ``trust``."""
        self.expected: list[tuple[ChunkId, ...]] = []
        self.revalidations = 0
        self.root_versions: list[int] = []
        self.closed = False
        self._held: dict[str, asyncio.Event] = {}
        self._arrived = asyncio.Condition()

    def add_chunk(self, data: bytes) -> ChunkId:
        chunk = Chunk.of(data)
        self.chunks[chunk.id] = data
        return chunk.id

    def add_manifest(self, data: bytes) -> str:
        revision = revision_of(data)
        self.manifests[revision] = data
        return revision

    def hold(self, chunk: ChunkId) -> asyncio.Event:
        """Who asks for this chunk waits until the event is set."""
        return self._held.setdefault(f"chunk:{chunk}", asyncio.Event())

    @property
    def name(self) -> str:
        return self._name

    @property
    def call_count(self) -> int:
        return self.calls.total()

    async def until_called(self, times: int) -> None:
        """Wait until so many calls have come in, whether or not they were answered."""
        async with self._arrived:
            await self._arrived.wait_for(lambda: self.call_count >= times)

    async def trust_bundle(self, root_version: int) -> bytes:
        self.root_versions.append(root_version)
        await self._enter("trust")
        if self.bundle is None:
            raise NotFoundError("no trust metadata yet")
        return self.bundle

    async def channel(self, model: str, channel: str) -> bytes:
        await self._enter(f"channel:{model}@{channel}")
        if (model, channel) not in self.channels:
            raise NotFoundError(f"no channel {model}@{channel}")
        return self.channels[model, channel]

    async def manifest(self, revision: str) -> bytes:
        await self._enter(f"revision:{revision}")
        if revision not in self.manifests:
            raise NotFoundError(f"no revision {revision}")
        return self.manifests[revision]

    async def chunk(
        self,
        id: ChunkId,  # noqa: A002
        *,
        revalidate: bool = False,
        into: memoryview | None = None,
    ) -> Chunk:
        self.revalidations += revalidate
        await self._enter(f"chunk:{id}")
        if id not in self.chunks:
            raise NotFoundError(f"no chunk {id}")
        if revalidate:
            self.rotten.discard(id)
        if id in self.rotten or id in self.poisoned:
            raise ChunkMismatchError(f"{self._name}: chunk {id} holds other bytes")
        return Chunk(id, self.chunks[id])

    async def deliver(self, id: ChunkId, *, revalidate: bool = False) -> Delivery:  # noqa: A002
        return Delivery(await self.chunk(id, revalidate=revalidate))

    def at_hand(self, id: ChunkId) -> StoredChunk | None:  # noqa: A002
        """Never: nothing here is a file."""
        self.refuse_gone(f"chunk:{id}")
        return None

    def expect(self, ids: Sequence[ChunkId]) -> None:
        self.expected.append(tuple(ids))

    def refuse_gone(self, key: str) -> None:
        if key in self.gone:
            raise GoneError(f"{key} was taken down")

    async def aclose(self) -> None:
        self.closed = True

    async def _enter(self, key: str) -> None:
        self.calls[key] += 1
        async with self._arrived:
            self._arrived.notify_all()
        if self.gate is not None:
            await self.gate.wait()
        if key in self._held:
            await self._held[key].wait()
        if self.failures:
            raise self.failures.popleft()
        if self.down is not None:
            raise self.down
        if key in self.gone:
            raise GoneError(f"{key} was taken down")
