"""Which requests are turned away while the workers are saturated. Pure.

A queue that only grows makes everybody wait for an answer that comes too late, so requests are
turned away at the door: batch requests first, interactive ones at a higher load. Who was turned
away at one load is let in again only at a lower one, so that the door does not flap (hysteresis).
``Retry-After`` is how long the queue in front takes to drain, spread a little, so that those who
were turned away together do not come back together.
"""

from __future__ import annotations

import random
from dataclasses import dataclass

from edge_tier.gateway.limits_headers import retry_headers
from edge_tier.gateway.request import Priority
from wire.errors import HeadwaterError


class OverloadedError(HeadwaterError):
    """All workers are busy, and so is the queue before them. OpenAI's clients try a 503 again."""

    status = 503
    code = "overloaded"


@dataclass(frozen=True, slots=True, kw_only=True)
class SheddingConfig:
    """Loads are running and waiting requests per slot of a model's workers; 1 is all slots taken.
    0: nothing is turned away."""

    batch_load: float = 1.5
    interactive_load: float = 4.0
    recover: float = 0.8
    """Part of the load at which they are let in again."""
    least_wait_s: float = 1.0
    most_wait_s: float = 60.0
    spread: float = 0.25
    """``Retry-After`` is drawn from so much around what was reckoned."""


class Shedder:
    """The door of one model."""

    __slots__ = ("_config", "_rng", "_shut")

    def __init__(self, config: SheddingConfig, rng: random.Random | None = None) -> None:
        self._config = config
        self._rng = rng or random.Random()  # noqa: S311 - spreads load, keeps no secret
        self._shut: set[Priority] = set()

    def check(self, priority: Priority, load: float, wait_s: float) -> None:
        """Let a request in or turn it away.

        Args:
            load: of the workers that could serve it.
            wait_s: how long a new request would wait for a slot, about.

        Raises:
            OverloadedError: it is turned away; says for how long.
        """
        config = self._config
        bound = config.batch_load if priority == "batch" else config.interactive_load
        if not bound:
            return
        if load >= (bound * config.recover if priority in self._shut else bound):
            self._shut.add(priority)
            raise OverloadedError(
                f"the workers are saturated ({load:.1f} requests per slot), and {priority} "
                "requests are turned away for the moment",
                headers=retry_headers(self._retry_s(wait_s)),
            )
        self._shut.discard(priority)

    def _retry_s(self, wait_s: float) -> float:
        config = self._config
        spread = 1 + config.spread * (2 * self._rng.random() - 1)
        return min(max(wait_s * spread, config.least_wait_s), config.most_wait_s)
