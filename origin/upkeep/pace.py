"""Holds work back to a number of bytes per second."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable

_MAX_DEBT_S = 1.0
"""Time that was not used is not saved up beyond this, so that a pause is followed by no burst."""


class Pacer:
    """Sleeps as long as more was done than is allowed.

    Args:
        bytes_per_s: 0 is unlimited.
        clock: seconds that only grow.
    """

    def __init__(
        self,
        bytes_per_s: int,
        *,
        clock: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
    ) -> None:
        self._rate = bytes_per_s
        self._clock = clock
        self._sleep = sleep
        self._free_at = clock()

    async def spend(self, count: int) -> None:
        """Account for ``count`` bytes; returns when they were within the rate."""
        if self._rate <= 0:
            return
        now = self._clock()
        self._free_at = max(self._free_at, now - _MAX_DEBT_S) + count / self._rate
        if self._free_at > now:
            await self._sleep(self._free_at - now)
