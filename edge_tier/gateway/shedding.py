"""Which requests are turned away while the workers are saturated. Pure.

A queue that only grows makes everybody wait for an answer that comes too late, so requests are
turned away at the door: batch requests first, interactive ones at a higher load. Who was turned
away at one load is let in again only at a lower one, so that the door does not flap (hysteresis);
and while it is shut to interactive requests it is shut to batch ones too, whatever the load was
when the last of those came.

``Retry-After`` is how long the queue takes to drain to where the door opens, at the rate at which
requests were served lately, and a little longer, differently for each, so that those who were
turned away together do not come back together.
"""

from __future__ import annotations

import random
from dataclasses import dataclass

from edge_tier.gateway.limits_headers import retry_headers
from edge_tier.gateway.request import Priority
from wire.errors import HeadwaterError


class OverloadedError(HeadwaterError):
    """All workers are busy, and so is the queue before them.

    A 503, since it is not the caller who asked for too much (that is a 429). OpenAI's clients try
    both again by themselves, and wait for as long as they are told, up to a minute or two.
    """

    status = 503
    code = "overloaded"


@dataclass(frozen=True, slots=True, kw_only=True)
class SheddingConfig:
    """Loads are running and waiting requests per slot of a model's workers; 1 is all slots taken.
    0: nothing is turned away."""

    batch_load: float = 1.5
    """From here on requests of priority ``batch`` are turned away (503)."""
    interactive_load: float = 4.0
    """From here on all are; not below ``batch_load``."""
    recover: float = 0.8
    """Part of the load at which they are let in again."""
    least_wait_s: float = 1.0
    """What ``Retry-After`` says at least."""
    most_wait_s: float = 60.0
    """Longer than this not all of OpenAI's clients heed."""
    spread: float = 0.5
    """``Retry-After`` is up to this part longer than what was reckoned."""

    def __post_init__(self) -> None:
        if self.interactive_load and not 0 < self.batch_load <= self.interactive_load:
            raise ValueError("batch_load is above 0 and not above interactive_load")
        if not 0 < self.recover <= 1:
            raise ValueError("recover is a part of a load: above 0, at most 1")


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
            wait_s: how long a new request would wait for a slot, about: what waits per slot, times
                how long a request holds one.

        Raises:
            OverloadedError: it is turned away; says for how long.
        """
        config, shut = self._config, self._shut
        bound = config.batch_load if priority == "batch" else config.interactive_load
        if not bound:
            return
        opens = bound * config.recover
        if load < (opens if priority in shut else bound):
            shut.discard(priority)
            return
        shut.add(priority)
        if priority == "interactive":
            shut.add("batch")
        raise OverloadedError(
            f"the workers are saturated ({load:.1f} requests per slot), and {priority} "
            "requests are turned away for the moment",
            headers=retry_headers(self._retry_s(load, opens, wait_s)),
        )

    def _retry_s(self, load: float, opens: float, wait_s: float) -> float:
        """Until the load is down to ``opens``; what waits is the load above 1."""
        config = self._config
        if load > 1:
            wait_s *= (load - max(opens, 1.0)) / (load - 1)
        wait_s = max(wait_s, config.least_wait_s) * (1 + config.spread * self._rng.random())
        return min(wait_s, config.most_wait_s)
