"""Waiting for what another process does, without sleeping to hope by.

The deadline is one that only a broken program reaches: a busy machine stands still for seconds."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Awaitable, Callable


async def until(condition: Callable[[], bool], *, deadline_s: float = 30.0) -> None:
    """Return as soon as ``condition`` holds. Raises ``TimeoutError`` at the deadline."""
    async with asyncio.timeout(deadline_s):
        while not condition():  # noqa: ASYNC110 - other processes set no events
            await asyncio.sleep(0.002)


async def until_async(
    condition: Callable[[], Awaitable[bool]], *, deadline_s: float = 30.0
) -> None:
    """The same for a condition that has to be asked for."""
    async with asyncio.timeout(deadline_s):
        pause_s = 0.005
        while not await condition():
            await asyncio.sleep(pause_s)
            # Asking costs whoever is asked: what takes long is looked at less often.
            pause_s = min(1.3 * pause_s, 0.1)


def alive(pid: int | None) -> bool:
    """Whether a process of this id exists."""
    if pid is None:
        return False
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True
