"""A circuit breaker for one backend (M. Nygard, "Release It!", stability patterns). Pure.

All rules of this state machine live here:

* *closed*: requests pass. A success forgets the failures before it.
* After ``failures`` in a row it is *open*: nothing passes for ``open_s``, doubled each time it
  opens again without a success in between, up to ``max_open_s``.
* Then it is *half open*: one request is let through as a trial. Its success closes the breaker, its
  failure opens it again; one that never reports back is forgotten after ``open_s``.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

State = Literal["closed", "open", "half_open"]


@dataclass(frozen=True, slots=True, kw_only=True)
class BreakerConfig:
    """When a backend is left alone, and for how long."""

    failures: int = 3
    """Failures in a row that open it."""
    open_s: float = 1.0
    """How long it is left alone then; twice as long each time a trial fails ..."""
    max_open_s: float = 30.0
    """... but no longer than this."""


class Breaker:
    """Args:
    clock: monotonic seconds.
    """

    __slots__ = ("_clock", "_config", "_failed", "_opened", "_trial_until", "_until")

    def __init__(self, config: BreakerConfig, clock: Callable[[], float]) -> None:
        self._config = config
        self._clock = clock
        self._failed = 0
        self._opened = 0
        self._until = 0.0
        self._trial_until = 0.0

    def state(self) -> State:
        """What state it is in now."""
        if not self._opened:
            return "closed"
        return "open" if self._clock() < self._until else "half_open"

    @property
    def passable(self) -> bool:
        """Whether :meth:`take` would say yes now."""
        if not self._opened:
            return True
        now = self._clock()
        return now >= self._until and now >= self._trial_until

    def take(self) -> bool:
        """Ask to send a request; where it is half open, a yes is for the one trial."""
        if not self._opened:
            return True
        if not self.passable:
            return False
        self._trial_until = self._clock() + self._config.open_s
        return True

    def succeeded(self) -> None:
        """A request got its answer."""
        if self._failed or self._opened:
            self._failed = self._opened = 0
            self._trial_until = 0.0

    def failed(self) -> None:
        """A request failed by the backend's fault."""
        self._failed += 1
        if self._opened or self._failed >= self._config.failures:
            self._opened += 1
            doubled = self._config.open_s * 2 ** min(self._opened - 1, 16)
            self._until = self._clock() + min(doubled, self._config.max_open_s)
            self._trial_until = 0.0

    def cancelled(self) -> None:
        """A request ended without telling anything about the backend."""
        self._trial_until = 0.0
