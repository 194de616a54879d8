"""Many concurrent requests for one chunk or manifest become one fetch (threat 12)."""

from __future__ import annotations

from wire.chunk import Chunk, ChunkId
from wire.source import Source
from wire.sources.flights import Flights


class Coalescing:
    """A Source that fetches each chunk and manifest once for all who ask at the same time.

    Pointers (channels, trust) pass through: whoever asks for one after an event must not get the
    answer of a fetch that began before it. The wrapper owns ``inner`` and closes it.

    Args:
        attempts: fetches for one crowd before all of them get the failure (``Flights``).
    """

    def __init__(self, inner: Source, *, attempts: int = 3) -> None:
        self._inner = inner
        self._chunks: Flights[tuple[ChunkId, bool], Chunk] = Flights("chunk", attempts=attempts)
        self._manifests: Flights[str, bytes] = Flights("manifest", attempts=attempts)

    @property
    def name(self) -> str:
        return self._inner.name

    async def trust_bundle(self, root_version: int) -> bytes:
        return await self._inner.trust_bundle(root_version)

    async def channel(self, model: str, channel: str) -> bytes:
        return await self._inner.channel(model, channel)

    async def manifest(self, revision: str) -> bytes:
        landed = await self._manifests.board(revision, lambda: self._inner.manifest(revision))
        return landed.value

    async def chunk(
        self,
        id: ChunkId,  # noqa: A002
        *,
        revalidate: bool = False,
        into: memoryview | None = None,  # noqa: ARG002
    ) -> Chunk:
        # What many share cannot stand in one caller's buffer.
        # A caller who distrusts stored copies must not board a fetch that trusts them.
        landed = await self._chunks.board(
            (id, revalidate), lambda: self._inner.chunk(id, revalidate=revalidate)
        )
        return landed.value

    async def aclose(self) -> None:
        await self._chunks.aclose()
        await self._manifests.aclose()
        await self._inner.aclose()
