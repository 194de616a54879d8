"""Everything that gives chunks is a ``Source``: a store, a cache, a peer, or a wrapper around one.

Behaviours (coalescing, failover, nearest first, disk cache) are wrappers, one small file each; the
same HTTP routes (``wire.http_routes``) serve any Source, so every tier speaks one protocol.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from wire.chunk import Chunk, ChunkId


class Source(Protocol):
    """Gives signed metadata, manifests and chunks. All methods are safe to call concurrently."""

    @property
    def name(self) -> str:
        """Short and stable; appears in logs, metrics and the boot waterfall."""
        ...

    async def trust_bundle(self, root_version: int) -> bytes:
        """All current role files in one answer (``wire.trust``), with the roots after
        ``root_version``.

        Raises:
            SourceUnavailableError: not reachable, or broke the protocol.
        """
        ...

    async def channel(self, model: str, channel: str) -> bytes:
        """The channel's target file, as signed. What it says counts only after ``wire.trust``.

        Raises:
            NotFoundError: no such channel.
            SourceUnavailableError: not reachable, or broke the protocol.
        """
        ...

    async def manifest(self, revision: str) -> bytes:
        """Manifest bytes whose SHA-256 is ``revision`` (already checked by the source).

        Raises:
            NotFoundError, GoneError, ManifestInvalidError, SourceUnavailableError
        """
        ...

    async def chunk(
        self,
        id: ChunkId,  # noqa: A002
        *,
        revalidate: bool = False,
        into: memoryview | None = None,
    ) -> Chunk:
        """The chunk, verified.

        Args:
            revalidate: do not trust a stored copy: check it, and fetch it again where it is rotten
                (``Cache-Control: no-cache`` on the wire, RFC 9111 section 5.2.1.4).
            into: a writable buffer, as large as the chunk or larger. A source may receive straight
                into its beginning, where the chunk's ``data`` then is; one that does not gives
                bytes of its own. Once the call has ended, by answer, error or cancellation, nobody
                writes there any more.

        Raises:
            NotFoundError, GoneError: not to be had from this source.
            ChunkMismatchError: the source holds or sent rotten bytes.
            SourceUnavailableError: not reachable, broke off, or broke the protocol.
        """
        ...

    async def aclose(self) -> None:
        """Release what is held; may be called twice."""
        ...


@dataclass(frozen=True, slots=True)
class StoredChunk:
    """A chunk at rest, verified when it was stored: a file that holds exactly its bytes.

    A server sends it from the file without reading it into memory.
    """

    id: ChunkId
    path: Path
    size: int


@dataclass(frozen=True, slots=True)
class Delivery:
    """A chunk on its way out, and how a cache came by it.

    ``cache_status`` holds the parameters of RFC 9211 after the cache's name (``hit``,
    ``fwd=uri-miss; stored``, …); empty where the server is no cache.
    """

    body: Chunk | StoredChunk
    cache_status: str = ""


@dataclass(frozen=True, slots=True)
class PointerState:
    """How fresh a cached pointer is: its age in seconds and the Cache-Status parameters."""

    age_s: float
    cache_status: str


class ChunkServer(Source, Protocol):
    """A Source that can hand a chunk to the HTTP routes without copying it."""

    async def deliver(self, id: ChunkId, *, revalidate: bool = False) -> Delivery:  # noqa: A002
        """Like ``chunk``, for sending on. Raises the same errors."""
        ...

    def at_hand(self, id: ChunkId) -> StoredChunk | None:  # noqa: A002
        """Where the chunk lies as a file, counted as a use; None where ``deliver`` must be asked.

        Returns at once. Raises ``GoneError``.
        """
        ...

    def expect(self, ids: Sequence[ChunkId]) -> None:
        """These chunks will be asked for next, in this order: a cache may fetch them already.

        A hint: it returns at once, raises nothing and promises nothing.
        """
        ...

    def refuse_gone(self, key: str) -> None:
        """Raise ``GoneError`` where this surrogate key was taken down. No I/O."""
        ...
