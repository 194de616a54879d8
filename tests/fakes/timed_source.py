"""A source in memory that takes time: for tests on ``virtual_time``."""

from __future__ import annotations

import asyncio

from tests.fakes.source import MemorySource
from wire.chunk import Chunk, ChunkId


class TimedSource(MemorySource):
    """Answers after ``latency_s``; chunks pass one after the other over a link of ``bytes_per_s``.

    It receives into the caller's buffer in two parts, and needs ``letting_go_s`` to stop when it is
    cancelled, as a thread would.
    """

    def __init__(
        self,
        name: str,
        latency_s: float = 0.0,
        *,
        bytes_per_s: float | None = None,
        letting_go_s: float = 0.0,
    ) -> None:
        super().__init__(name)
        self.latency_s = latency_s
        self.bytes_per_s = bytes_per_s
        self.letting_go_s = letting_go_s
        self.stalls = 0
        """So many more chunks get stuck in the middle."""
        self.buffers: list[memoryview | None] = []
        """What it was given to receive into, in order."""
        self.writing = 0
        """Requests that may write into a buffer now."""
        self._free_at = 0.0

    async def chunk(
        self,
        id: ChunkId,  # noqa: A002
        *,
        revalidate: bool = False,
        into: memoryview | None = None,
    ) -> Chunk:
        self.buffers.append(into)
        self.writing += into is not None
        try:
            found = await super().chunk(id, revalidate=revalidate)
            half = len(found) // 2
            if into is not None:
                into[:half] = found.data[:half]
            await self._transfer(len(found))
            if into is None:
                return found
            into[half:] = found.data[half:]
            return Chunk(id, into)
        except asyncio.CancelledError:
            await asyncio.sleep(self.letting_go_s)
            raise
        finally:
            self.writing -= into is not None

    async def _enter(self, key: str) -> None:
        await super()._enter(key)
        await asyncio.sleep(self.latency_s)

    async def _transfer(self, size: int) -> None:
        if self.stalls:
            self.stalls -= 1
            await asyncio.Event().wait()
        if self.bytes_per_s is None:
            return
        now_s = asyncio.get_running_loop().time()
        self._free_at = max(now_s, self._free_at) + size / self.bytes_per_s
        await asyncio.sleep(self._free_at - now_s)
