"""When an interactive request is sent to a second worker as well (J. Dean and L. A. Barroso,
"The Tail at Scale", CACM 2013). Pure.

A hedge is due once a request has waited for its first token longer than most of its kind did. A
budget bounds what hedging may cost: each request earns a fraction of a hedge, so where everything
is slow, hedges stay rare and do not make it slower.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass

_EARNED_AT_MOST = 10.0
_LEAST_SAMPLES = 16
_SORT_EVERY = 16


@dataclass(frozen=True, slots=True, kw_only=True)
class HedgeConfig:
    """How much hedging there may be."""

    budget: float = 0.05
    """Hedges per request; 0: none."""
    quantile: float = 0.95
    """Of the latest times to the first token: who waits longer is hedged."""
    min_delay_s: float = 0.25
    """Nobody is hedged sooner."""
    window: int = 256
    """How many of the latest times are looked at."""


class Hedges:
    """When to hedge requests for one model."""

    def __init__(self, config: HedgeConfig) -> None:
        self._config = config
        self._earned = 1.0
        self._times: deque[float] = deque(maxlen=config.window)
        self._new = 0
        self._delay_s: float | None = None

    def delay_s(self) -> float | None:
        """After how many seconds a request that starts now is hedged; None: not at all."""
        config = self._config
        self._earned = min(self._earned + config.budget, _EARNED_AT_MOST)
        return self._delay_s if config.budget else None

    def spend(self) -> bool:
        """Take one hedge from the budget, if there is one."""
        if self._earned < 1:
            return False
        self._earned -= 1
        return True

    def observed(self, first_token_s: float) -> None:
        """A request got its first token after so long."""
        self._times.append(first_token_s)
        self._new += 1
        if self._new >= _SORT_EVERY and len(self._times) >= _LEAST_SAMPLES:
            self._new = 0
            ordered = sorted(self._times)
            at = min(int(len(ordered) * self._config.quantile), len(ordered) - 1)
            self._delay_s = max(ordered[at], self._config.min_delay_s)
