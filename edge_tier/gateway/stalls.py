"""Which answers have stopped coming.

A host that is gone without a word (power, cable, a frozen engine) closes no connection, so only
time tells. One timer looks at all open answers of a pool: a deadline for each would cost every
token event a call.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Protocol

_LOOKS = 4
"""A deadline is overrun by at most this part of it."""


class Watched(Protocol):
    """An answer."""

    @property
    def progress(self) -> int:
        """Another number whenever something has come; 0 before any of the body."""
        ...

    @property
    def paused(self) -> bool:
        """Whether nothing comes because nobody reads."""
        ...


class Stalls:
    """Watches answers until they are forgotten.

    Args:
        first_s: how long the first byte of a body may take after its head.
        next_s: how long nothing may come after that.
        stalled: told of an answer that is late, and of its deadline.
    """

    def __init__(
        self, first_s: float, next_s: float, stalled: Callable[[Watched, float], None]
    ) -> None:
        self._first_s = first_s
        self._next_s = next_s
        self._period_s = min(first_s, next_s) / _LOOKS
        self._stalled = stalled
        self._open: dict[Watched, tuple[int, float]] = {}
        """How far each was when it last got on, and when that was seen."""
        self._timer: asyncio.TimerHandle | None = None

    def watch(self, answer: Watched) -> None:
        """From now on."""
        loop = asyncio.get_running_loop()
        self._open[answer] = answer.progress, loop.time()
        if self._timer is None:
            self._timer = loop.call_later(self._period_s, self._look, loop)

    def forget(self, answer: Watched) -> None:
        """It is over; may be called twice."""
        self._open.pop(answer, None)

    def _look(self, loop: asyncio.AbstractEventLoop) -> None:
        now = loop.time()
        for answer, (seen, since) in list(self._open.items()):
            progress = answer.progress
            limit_s = self._next_s if progress else self._first_s
            if progress != seen or answer.paused:
                self._open[answer] = progress, now
            elif now - since >= limit_s:
                self.forget(answer)
                self._stalled(answer, limit_s)
        # While there is nothing to look at there is no timer.
        self._timer = loop.call_later(self._period_s, self._look, loop) if self._open else None
