"""The origin as everybody reads it: straight from its store."""

from __future__ import annotations

from collections.abc import Sequence

from origin.announce import Publisher
from origin.takedowns import chunk_key
from wire.chunk import Chunk, ChunkId
from wire.paths import channel_key, revision_key
from wire.source import Delivery, StoredChunk


class OriginServer:
    """The origin as a ``ChunkServer``: straight from its store."""

    def __init__(self, publisher: Publisher) -> None:
        self._publisher = publisher
        self._store = publisher.store

    @property
    def name(self) -> str:
        return "origin"

    async def trust_bundle(self, root_version: int) -> bytes:
        return self._publisher.repository.bundle(root_version)

    async def channel(self, model: str, channel: str) -> bytes:
        self._publisher.refuse_unserved(channel_key(model, channel))
        return self._publisher.repository.pointer(model, channel)

    async def manifest(self, revision: str) -> bytes:
        self._publisher.refuse_unserved(revision_key(revision))
        return await self._store.manifest(revision)

    async def chunk(
        self,
        id: ChunkId,  # noqa: A002
        *,
        revalidate: bool = False,  # noqa: ARG002
        into: memoryview | None = None,  # noqa: ARG002
    ) -> Chunk:
        """Always verified; there is nothing fresher than the origin to ask."""
        self._publisher.refuse_unserved(chunk_key(id))
        return await self._store.chunk(id)

    async def deliver(self, id: ChunkId, *, revalidate: bool = False) -> Delivery:  # noqa: A002
        """From the file where there is one; checked first where the client doubts it."""
        self._publisher.refuse_unserved(chunk_key(id))
        if not revalidate and (stored := self._store.locate(id)) is not None:
            return Delivery(stored)
        return Delivery(await self._store.chunk(id))

    def at_hand(self, id: ChunkId) -> StoredChunk | None:  # noqa: A002
        self._publisher.refuse_unserved(chunk_key(id))
        return self._store.locate(id)

    def expect(self, ids: Sequence[ChunkId]) -> None:
        """All of them are at hand already."""

    def refuse_gone(self, key: str) -> None:
        self._publisher.refuse_unserved(key)

    def document(self, name: str) -> bytes:
        """A role file by its own name, for stock clients of The Update Framework; those of the
        generation before too, for whoever is in the middle of an update."""
        return self._publisher.repository.document(name)

    async def aclose(self) -> None:
        """Nothing is held."""
