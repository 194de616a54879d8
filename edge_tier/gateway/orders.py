"""Commands for this edge's workers, on their way from the origins to the next heartbeats.

What an origin says replaces what it said before. An origin that falls silent is not repeated for
long: a command that was carried out meanwhile must not reach a worker that has forgotten it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable

from wire.workers import Command

MAX_COMMANDS = 512
"""Of one origin."""


class Orders:
    """The commands that wait here.

    Args:
        clock: seconds, monotonic.
        ttl_s: how long what an origin said holds.
    """

    def __init__(self, clock: Callable[[], float], *, ttl_s: float = 10.0) -> None:
        self._clock = clock
        self._ttl_s = ttl_s
        self._held: dict[str, tuple[float, tuple[Command, ...]]] = {}
        """By origin; with the time when it ends."""

    def hold(self, origin: str, commands: Iterable[Command]) -> None:
        """Take all that an origin wants of this edge's workers now."""
        held = tuple(commands)[:MAX_COMMANDS]
        if held:
            self._held[origin] = self._clock() + self._ttl_s, held
        else:
            self._held.pop(origin, None)

    def for_worker(self, worker: str) -> tuple[Command, ...]:
        """What a worker shall do, in the order in which it was wanted; each command once."""
        if not self._held:
            return ()
        now = self._clock()
        self._held = {origin: held for origin, held in self._held.items() if held[0] > now}
        found = {
            command.id: command
            for _, commands in self._held.values()
            for command in commands
            if command.node == worker
        }
        return tuple(found.values())
