"""Two workers for one request: the second one is asked where the first keeps it waiting, and
whoever begins to answer first has won (``hedge`` says when that is due)."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from typing import Any

from edge_tier.gateway.opened import Opened

Ask = Callable[[], Coroutine[Any, Any, Opened]]


async def race(first: Ask, second: Ask, delay_s: float, may_ask: Callable[[], bool]) -> Opened:
    """The answer that began first; the other one is stopped.

    Args:
        delay_s: how long the first one has alone.
        may_ask: asked once, when that is over: whether the second one is to be asked.

    Raises:
        Exception: both failed; that of the one that failed last.
    """
    running = {asyncio.create_task(first(), name="backend")}
    opened: Opened | None = None
    try:
        done, _ = await asyncio.wait(running, timeout=delay_s)
        if not done and may_ask():
            running.add(asyncio.create_task(second(), name="hedge"))
        while True:
            done, _ = await asyncio.wait(running, return_when=asyncio.FIRST_COMPLETED)
            task = done.pop()
            running.discard(task)
            if task.exception() is not None and (running or done):
                running |= done
                continue
            running |= done
            opened = task.result()
            opened.hedged = task.get_name() == "hedge"
            return opened
    finally:
        try:
            await _abandon(running)
        except asyncio.CancelledError:
            if opened is not None:
                opened.close()  # the client left just now
            raise


async def _abandon(running: set[asyncio.Task[Opened]]) -> None:
    """Whoever lost a race is stopped, and what it opened is closed."""
    for task in running:
        task.cancel()
    for result in await asyncio.gather(*running, return_exceptions=True):
        if isinstance(result, Opened):
            result.close()
