"""The boots of workers that somebody looks at, which the edges are asked for.

A report of an edge has thousands of workers and comes every second: it holds no boots. Whoever
wants to see one waits for the next report but one, for the answer to the next tells the edge to
put it in. Everything is bounded: who is looked at, what is kept, and how long one waits.
"""

from __future__ import annotations

import asyncio
import math
from collections.abc import Callable
from dataclasses import dataclass, field

from origin.fleet import FleetView
from wire.errors import NotFoundError, SourceUnavailableError
from wire.fleet import MAX_BOOTS_WANTED, EdgeReport, WorkerBoot

_MAX_LOOKED_AT = 64
"""Workers, over all edges."""
_LOOKED_AT_S = 10.0
"""How long an edge is asked for a boot after somebody wanted to see it."""
_FRESH_S = 2.0
"""What came so lately need not be waited for again."""


@dataclass(slots=True)
class _Look:
    until: float
    boots: tuple[WorkerBoot, ...] = ()
    heard_at: float = -math.inf
    heard: asyncio.Event = field(default_factory=asyncio.Event)


class BootDesk:
    """Asks the edges, and waits for what they say.

    Args:
        view: who sees which worker.
        clock: monotonic seconds.
        patience_s: how long to wait for an edge.
    """

    def __init__(
        self, view: FleetView, *, clock: Callable[[], float], patience_s: float = 5.0
    ) -> None:
        self._view = view
        self._clock = clock
        self._patience_s = patience_s
        self._looks: dict[str, _Look] = {}

    async def of(self, worker: str) -> tuple[WorkerBoot, ...]:
        """The boots of a worker's models.

        Raises:
            NotFoundError: no edge that is here sees the worker.
            SourceUnavailableError: the edge did not say in time; an older one never does.
        """
        if not any(w.name == worker and w.presence == "here" for w in self._view.workers()):
            raise NotFoundError(f"no edge that is here sees a worker {worker[:128]!r}")
        look = self._look(worker)
        if self._clock() - look.heard_at <= _FRESH_S:
            return look.boots
        look.heard.clear()
        try:
            async with asyncio.timeout(self._patience_s):
                await look.heard.wait()
        except TimeoutError:
            raise SourceUnavailableError(
                f"no edge told of the boot of {worker} within {self._patience_s:g} s; an edge of "
                "an older version never does"
            ) from None
        return look.boots

    def wanted(self, edge: str) -> tuple[str, ...]:
        """The workers that this edge sees and somebody looks at."""
        if not self._looks:
            return ()
        now = self._clock()
        self._looks = {name: look for name, look in self._looks.items() if look.until > now}
        seen = self._view.seen_by(edge) if self._looks else frozenset()
        return tuple(name for name in self._looks if name in seen)[:MAX_BOOTS_WANTED]

    def heard(self, report: EdgeReport) -> None:
        """Take what a report says of boots."""
        for name in {boot.worker for boot in report.boots} & self._looks.keys():
            look = self._looks[name]
            look.boots = tuple(boot for boot in report.boots if boot.worker == name)
            look.heard_at = self._clock()
            look.heard.set()

    def _look(self, worker: str) -> _Look:
        until = self._clock() + _LOOKED_AT_S
        look = self._looks.pop(worker, None) or _Look(until)
        look.until = until
        self._looks[worker] = look
        while len(self._looks) > _MAX_LOOKED_AT:
            del self._looks[next(iter(self._looks))]
        return look
