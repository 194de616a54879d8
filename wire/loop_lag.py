"""How late the event loop is: what everything that this process answers waits for first.

A task sleeps for a while, again and again, and counts by how much it woke too late. Because it
looks at regular moments, whatever keeps the loop at them, the distribution is that of what a
request or a token waits that comes at any moment. A stall longer than ``PERIOD_S`` is always seen.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable

from prometheus_client import CollectorRegistry, Gauge, Histogram

PERIOD_S = 0.25
"""Between two looks; together they take less than 0.1 % of a core."""
WINDOW_S = 60.0
_BOUNDS_S = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0)


class Worst:
    """The largest value of the last ``WINDOW_S`` to twice that. Pure.

    It is not forgotten when it is read: Prometheus and remote write both read it, and a scrape that
    comes every ``WINDOW_S`` or more often misses none.
    """

    def __init__(self) -> None:
        self._began_s = 0.0
        self._now = self._before = 0.0

    def add(self, value: float, now_s: float) -> None:
        """A value that was seen at ``now_s``, which never goes back."""
        self._turn(now_s)
        self._now = max(self._now, value)

    def of(self, now_s: float) -> float:
        """The largest one; 0 where none was seen for so long."""
        self._turn(now_s)
        return max(self._now, self._before)

    def _turn(self, now_s: float) -> None:
        windows = (now_s - self._began_s) // WINDOW_S
        if windows >= 1:
            self._before = self._now if windows < 2 else 0.0
            self._now = 0.0
            self._began_s += windows * WINDOW_S


class LoopLag:
    """Measures the loop that :meth:`run` runs in.

    Args:
        clock: in seconds, never goes back; finer than the loop's own, which may stand still while
            the loop works.
    """

    def __init__(
        self,
        registry: CollectorRegistry,
        *,
        clock: Callable[[], float] = time.perf_counter,
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
    ) -> None:
        self._clock = clock
        self._sleep = sleep
        self._worst = Worst()
        self._seconds = Histogram(
            "headwater_event_loop_lag_seconds",
            "By how much the event loop was late, at four moments a second.",
            buckets=_BOUNDS_S,
            registry=registry,
        )
        worst = Gauge(
            "headwater_event_loop_lag_max_seconds",
            "The longest that it was late within the last one to two minutes.",
            registry=registry,
        )
        worst.set_function(lambda: self._worst.of(clock()))

    async def run(self) -> None:
        """Until cancelled."""
        while True:
            due_s = self._clock() + PERIOD_S
            await self._sleep(PERIOD_S)
            now_s = self._clock()
            # A loop that counts whole milliseconds may wake us a little too early.
            late_s = max(0.0, now_s - due_s)
            self._seconds.observe(late_s)
            self._worst.add(late_s, now_s)
