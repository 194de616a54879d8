"""Buffers that chunks are received into, over and over.

Freed memory of many threads seldom goes back to the system: a cache that takes new memory for every
chunk grows far over what it holds at any time, and pays for touching each page anew.
"""

from __future__ import annotations


class Buffers:
    """A few buffers of one size, made when they are first needed.

    Args:
        size_bytes: of each.
        most: how many there may be.
    """

    def __init__(self, size_bytes: int, most: int) -> None:
        self._size = size_bytes
        self._most = most
        self._made = 0
        self._free: list[memoryview] = []

    def take(self) -> memoryview | None:
        """A buffer, or None where all are in use. Give it back, or say that it is lost."""
        if self._free:
            return self._free.pop()
        if self._made == self._most:
            return None
        self._made += 1
        return memoryview(bytearray(self._size))

    def give_back(self, buffer: memoryview | None) -> None:
        """Nobody looks at the buffer any more."""
        if buffer is not None:
            self._free.append(buffer)

    def lose(self, buffer: memoryview | None) -> None:
        """Somebody goes on using it: another one may be made in its place."""
        if buffer is not None:
            self._made -= 1
