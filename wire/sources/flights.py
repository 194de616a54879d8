"""One flight per key: concurrent callers who want the same thing share one fetch.

All rules of this state machine live here:

* The first caller opens a flight; callers that come while it is in the air board it.
* A flight runs in a task of its own. A caller that is cancelled only leaves; whoever stays aboard
  takes over and loses nothing. When the last one leaves, the flight is cancelled.
* A failure belongs to whoever opened the flight. The others go on: the first to wake opens the next
  attempt, the rest board that. After ``attempts`` the failure is everybody's.
* ``NotFoundError`` and ``GoneError`` are answers and shared at once.
* Nothing is kept: once a flight has landed, the next caller opens a new one.

The idea is that of Go's ``singleflight``; leaving and taking over are ours (threat 12).
"""

from __future__ import annotations

import asyncio
import copy
from collections.abc import Awaitable, Callable, Hashable
from dataclasses import dataclass
from functools import partial
from typing import Generic, TypeVar

from wire.errors import GoneError, HeadwaterError, NotFoundError, SourceUnavailableError

K = TypeVar("K", bound=Hashable)
V = TypeVar("V")


@dataclass(frozen=True, slots=True)
class Landed(Generic[V]):
    """What a flight brought. ``collapsed``: somebody else had opened it."""

    value: V
    collapsed: bool


class _Flight(Generic[V]):
    __slots__ = ("aboard", "attempt", "task")

    def __init__(self, task: asyncio.Task[V], attempt: int) -> None:
        self.task = task
        self.attempt = attempt
        self.aboard = 0


class Flights(Generic[K, V]):
    """The flights in the air, by key.

    Args:
        name: prefixes the names of the tasks.
        attempts: how often one key is tried for a crowd before all of them get the failure.
    """

    def __init__(self, name: str, *, attempts: int = 3) -> None:
        self._name = name
        self._attempts = attempts
        self._open: dict[K, _Flight[V]] = {}
        self._tasks: set[asyncio.Task[V]] = set()
        self._closed = False

    def __len__(self) -> int:
        return len(self._open)

    async def board(self, key: K, fetch: Callable[[], Awaitable[V]]) -> Landed[V]:
        """The value for ``key``, from the flight in the air or from a new one.

        Args:
            fetch: opens the flight; it must mean the same for all callers of a key.

        Raises:
            SourceUnavailableError: the flights were closed meanwhile.
            HeadwaterError: what ``fetch`` raised.
        """
        attempt = 1
        while True:
            flight = self._open.get(key)
            opened = flight is None
            if flight is None:
                flight = self._take_off(key, fetch, attempt)
            try:
                return Landed(await self._ride(key, flight), collapsed=not opened)
            except HeadwaterError as error:
                if opened or self._closed:
                    raise
                if isinstance(error, NotFoundError | GoneError) or flight.attempt >= self._attempts:
                    # Each caller raises a copy: one instance raised by many tasks would gather all
                    # their tracebacks.
                    raise copy.copy(error) from error
                attempt = flight.attempt + 1

    async def aclose(self) -> None:
        """Cancel all flights; their passengers get ``SourceUnavailableError``."""
        self._closed = True
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    def _take_off(self, key: K, fetch: Callable[[], Awaitable[V]], attempt: int) -> _Flight[V]:
        if self._closed:
            raise SourceUnavailableError(f"{self._name}: closed")

        async def fly() -> V:
            return await fetch()

        flight = _Flight(asyncio.create_task(fly(), name=f"{self._name} {key}"), attempt)
        self._open[key] = flight
        self._tasks.add(flight.task)
        flight.task.add_done_callback(partial(self._land, key, flight))
        return flight

    async def _ride(self, key: K, flight: _Flight[V]) -> V:
        flight.aboard += 1
        try:
            await asyncio.wait((flight.task,))
        finally:
            flight.aboard -= 1
            if not flight.aboard and not flight.task.done():
                self._retire(key, flight)
                flight.task.cancel()
        if flight.task.cancelled():
            raise SourceUnavailableError(f"{self._name}: closed while fetching {key}")
        return flight.task.result()

    def _land(self, key: K, flight: _Flight[V], task: asyncio.Task[V]) -> None:
        self._tasks.discard(task)
        self._retire(key, flight)
        if not task.cancelled():
            task.exception()  # seen, even where nobody is left aboard

    def _retire(self, key: K, flight: _Flight[V]) -> None:
        """Let nobody board any more. A later flight of the same key is left alone."""
        if self._open.get(key) is flight:
            del self._open[key]
