"""Waits for a condition that nothing announces, to a deadline."""

from __future__ import annotations

import asyncio
from collections.abc import Callable


async def eventually(condition: Callable[[], bool], *, within_s: float = 10.0) -> None:
    """Return as soon as ``condition()`` is true.

    Raises:
        TimeoutError: it did not become true in time.
    """
    async with asyncio.timeout(within_s):
        while not condition():  # noqa: ASYNC110 - files and processes announce nothing
            await asyncio.sleep(0.005)
