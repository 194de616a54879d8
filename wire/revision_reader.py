"""Manifests and small files of revisions, read from any server of chunks.

Manifests stay decoded as long as there is room: clients that ask for many ranges of a file would
have the same one decoded every time.
"""

from __future__ import annotations

import asyncio
from collections import OrderedDict
from concurrent.futures import Executor

from wire.errors import TooLargeError
from wire.manifest import FileEntry, Manifest, decode
from wire.paths import revision_key
from wire.source import ChunkServer

HELD_MANIFEST_BYTES = 32 * 1024 * 1024
_DECODED_AT_ONCE = 64 * 1024
"""Bytes of a manifest that the event loop can decode without being missed."""


class RevisionReader:
    """Reads revisions.

    Args:
        executor: threads, for large manifests.
        held_bytes: manifests kept decoded, by the size of their bytes.
    """

    def __init__(self, server: ChunkServer, executor: Executor, held_bytes: int) -> None:
        self._server = server
        self._executor = executor
        self._free_bytes = held_bytes
        self._held: OrderedDict[str, tuple[Manifest, int]] = OrderedDict()

    async def manifest(self, revision: str) -> Manifest:
        """The manifest of a revision.

        Raises:
            GoneError: it was taken down.
            HeadwaterError: as ``Source.manifest``.
        """
        self._server.refuse_gone(revision_key(revision))
        held = self._held.get(revision)
        if held is not None:
            self._held.move_to_end(revision)
            return held[0]
        data = await self._server.manifest(revision)
        if len(data) < _DECODED_AT_ONCE:
            manifest = decode(data, revision)
        else:
            loop = asyncio.get_running_loop()
            manifest = await loop.run_in_executor(self._executor, decode, data, revision)
        self._keep(revision, manifest, len(data))
        return manifest

    async def read(self, entry: FileEntry, limit_bytes: int) -> bytes:
        """A small file whole.

        Raises:
            TooLargeError: it is larger than ``limit_bytes``.
            HeadwaterError: as ``Source.chunk``.
        """
        if entry.size > limit_bytes:
            raise TooLargeError(f"{entry.path} of {entry.size} B is over {limit_bytes} B")
        chunks = [await self._server.chunk(ref.id) for ref in entry.chunks]
        return b"".join(chunk.data for chunk in chunks)

    def _keep(self, revision: str, manifest: Manifest, size: int) -> None:
        if revision in self._held:
            return
        self._held[revision] = (manifest, size)
        self._free_bytes -= size
        while self._free_bytes < 0:
            _, (_, freed) = self._held.popitem(last=False)
            self._free_bytes += freed
