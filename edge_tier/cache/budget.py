"""A bound on the bytes that are in memory at once; whoever wants more waits its turn."""

from __future__ import annotations

import asyncio
from collections import deque


class ByteBudget:
    """Bytes to lend, first come first served.

    Args:
        total_bytes: the most that is lent at once. A single larger wish gets all of it.
    """

    def __init__(self, total_bytes: int) -> None:
        self._total = total_bytes
        self._free = total_bytes
        self._waiting: deque[tuple[int, asyncio.Future[None]]] = deque()

    @property
    def lent_bytes(self) -> int:
        return self._total - self._free

    async def lend(self, size_bytes: int) -> int:
        """Wait until so many bytes are free; the number to give back."""
        size = min(size_bytes, self._total)
        if not self._waiting and size <= self._free:
            self._free -= size
            return size
        turn: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._waiting.append((size, turn))
        try:
            await turn
        except asyncio.CancelledError:
            if turn.cancelled():
                self._serve()  # whoever stood behind may fit now
            else:
                self.give_back(size)  # it was served in the moment it left
            raise
        return size

    def give_back(self, size_bytes: int) -> None:
        """Return bytes, all at once or in parts."""
        self._free += size_bytes
        self._serve()

    def _serve(self) -> None:
        while self._waiting:
            size, turn = self._waiting[0]
            if not turn.cancelled():
                if size > self._free:
                    return
                self._free -= size
                turn.set_result(None)
            self._waiting.popleft()
