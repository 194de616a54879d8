"""Small files of revisions, held in memory by whoever serves them over and over.

A few kilobytes cost less to send from here than a thread that sends them from a file. What is held
was verified chunk by chunk when it was read, and is found by its SHA-256; one that was taken down
is refused as if it were asked for anew.
"""

from __future__ import annotations

from collections import OrderedDict

from wire.manifest import FileEntry
from wire.revision_reader import RevisionReader
from wire.source import ChunkServer


class SmallFiles:
    """Holds what fits.

    Args:
        file_bytes: a larger file is not held.
        total_bytes: of all that is held; the least recently used goes.
    """

    def __init__(
        self, server: ChunkServer, revisions: RevisionReader, *, file_bytes: int, total_bytes: int
    ) -> None:
        self._server = server
        self._revisions = revisions
        self._file_bytes = min(file_bytes, total_bytes)
        self._free_bytes = total_bytes
        self._held: OrderedDict[str, bytes] = OrderedDict()

    async def get(self, entry: FileEntry) -> bytes | None:
        """The file, where all of it is held here or lies at hand; None where it is too large, or
        must be fetched.

        Raises:
            GoneError: a part of it was taken down.
        """
        if entry.size > self._file_bytes:
            return None
        held = self._held.get(entry.sha256)
        if held is not None:
            for ref in entry.chunks:
                self._server.refuse_gone(f"chunk:{ref.id}")
            self._held.move_to_end(entry.sha256)
            return held
        if any(self._server.at_hand(ref.id) is None for ref in entry.chunks):
            return None
        data = await self._revisions.read(entry, self._file_bytes)
        self._keep(entry.sha256, data)
        return data

    def _keep(self, name: str, data: bytes) -> None:
        if name in self._held:
            return
        self._held[name] = data
        self._free_bytes -= len(data)
        while self._free_bytes < 0:
            _, dropped = self._held.popitem(last=False)
            self._free_bytes += len(dropped)
