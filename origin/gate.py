"""Many at once, or one alone: uploads pass together, and the collector of garbage waits for them.

The collector holds the gate only while it decides and removes a few objects, so what it knows of
the uploads is true while it acts. Whoever wants to be alone goes before those who come later, so
that a steady stream of uploads cannot keep it out.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager


class Gate:
    """A lock with two sides. Not reentrant; belongs to one event loop."""

    def __init__(self) -> None:
        self._inside = 0
        self._alone = asyncio.Lock()
        self._empty = asyncio.Event()
        self._empty.set()

    @asynccontextmanager
    async def together(self) -> AsyncIterator[None]:
        """Inside with others of this side."""
        async with self._alone:
            self._inside += 1
            self._empty.clear()
        try:
            yield
        finally:
            self._inside -= 1
            if not self._inside:
                self._empty.set()

    @asynccontextmanager
    async def alone(self) -> AsyncIterator[None]:
        """Inside with nobody; those who come meanwhile wait."""
        async with self._alone:
            await self._empty.wait()
            yield
