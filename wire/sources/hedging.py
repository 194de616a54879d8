"""When a second source is asked as well, and how often at most. Pure.

A few answers of any fleet are much slower than the rest; asking somebody else once an answer is
overdue cuts that tail for few more requests (Dean and Barroso, "The Tail at Scale", 2013). A budget
bounds it: where everything is slow, twice the requests would make it slower.
"""

from __future__ import annotations

from dataclasses import dataclass

from wire.errors import ConfigError


@dataclass(frozen=True, slots=True, kw_only=True)
class HedgeConfig:
    """When to ask the next source as well."""

    factor: float = 3.0
    """An answer is overdue after so many times the time that is expected of its source …"""
    floor_s: float = 0.1
    """… but not before this …"""
    cap_s: float = 10.0
    """… and at the latest after this."""
    unmeasured_s: float = 0.25
    """After how long the answer of a source is overdue whose time is not known yet."""
    share: float = 0.1
    """Hedges per request in the long run, 0 to 1. 0: after ``burst`` of them there are no more."""
    burst: int = 8
    """Hedges that may follow each other: as many as requests run in parallel, so that each of them
    can leave a source which stalls. 0 (with a ``share`` of 0): no hedges."""
    at_once: int = 3
    """Sources asked for one thing at the same time, at most."""

    def __post_init__(self) -> None:
        if not 0 <= self.share <= 1 or self.burst < 0:
            raise ConfigError("hedge: share must be 0 to 1, and burst not negative")
        if not 0 <= self.floor_s <= self.cap_s or self.factor < 1:
            raise ConfigError("hedge: 0 <= floor_s <= cap_s, and factor at least 1, must hold")

    def patience_s(self, expected_s: float | None) -> float:
        """After how long an answer is overdue; None: nothing is known of its source."""
        if expected_s is None:
            return self.unmeasured_s
        return min(max(self.factor * expected_s, self.floor_s), self.cap_s)


class HedgeBudget:
    """A bucket of tokens: a request brings ``share`` of one, a hedge takes one."""

    def __init__(self, config: HedgeConfig) -> None:
        self._share = config.share
        self._burst = float(config.burst)
        self._tokens = self._burst

    def earn(self) -> None:
        """A request was made."""
        self._tokens = min(self._burst, self._tokens + self._share)

    def take(self) -> bool:
        """Whether one more hedge may be sent; it is taken as sent."""
        if self._tokens < 1:
            return False
        self._tokens -= 1
        return True
