"""Read-ahead: chunks that will be asked for next are fetched while their predecessors are sent.

A hint is worth little, so it may cost little: no more than a few fetches at once, only while the
background's share of the memory has room, and never where the disk does not keep what is fetched.
What does not fit is dropped, not queued; the request that needs it will come anyway.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterable
from functools import partial

import structlog

from wire.chunk import ChunkId
from wire.errors import HeadwaterError

_log = structlog.get_logger("read-ahead")


class ReadAhead:
    """The fetches that nobody has asked for yet.

    Args:
        fetch: brings a chunk into the cache; the bytes that it fetched.
        is_needed: whether a chunk is absent and may be fetched.
        has_room: whether one more fetch would start at once.
        most: fetches at the same time.
    """

    def __init__(
        self,
        fetch: Callable[[ChunkId], Awaitable[int]],
        *,
        is_needed: Callable[[ChunkId], bool],
        has_room: Callable[[], bool],
        most: int,
    ) -> None:
        self._fetch = fetch
        self._is_needed = is_needed
        self._has_room = has_room
        self._most = most
        self._running: dict[ChunkId, asyncio.Task[None]] = {}
        self._closed = False
        self.fetched = 0
        self.dropped = 0
        self.failures = 0

    def expect(self, ids: Iterable[ChunkId]) -> None:
        """Start what there is room for; returns at once and raises nothing."""
        for id in ids:  # noqa: A001
            if self._closed or id in self._running or not self._is_needed(id):
                continue
            if len(self._running) >= self._most or not self._has_room():
                self.dropped += 1
                continue
            task = asyncio.create_task(self._run(id), name=f"read-ahead {id}")
            self._running[id] = task
            task.add_done_callback(partial(self._ended, id))

    async def aclose(self) -> None:
        """Stop what runs; may be called twice."""
        self._closed = True
        running = list(self._running.values())
        for task in running:
            task.cancel()
        await asyncio.gather(*running, return_exceptions=True)

    def _ended(self, id: ChunkId, task: asyncio.Task[None]) -> None:  # noqa: A002
        self._running.pop(id, None)
        error = None if task.cancelled() else task.exception()
        if error is not None:
            self.failures += 1
            _log.error("read-ahead died", chunk=id, exc_info=error)

    async def _run(self, id: ChunkId) -> None:  # noqa: A002
        """Whoever asks for the chunk will meet the same failure; here it is only counted."""
        try:
            size = await self._fetch(id)
            self.fetched += size > 0  # not in one line: += reads before it waits
        except HeadwaterError as error:
            self.failures += 1
            _log.debug("not fetched ahead", chunk=id, code=error.code)
