"""Running until told to stop: SIGINT and SIGTERM end the work in order instead of breaking it."""

from __future__ import annotations

import asyncio
import signal
from collections.abc import Coroutine
from typing import Any, TypeVar

T = TypeVar("T")
STOP_SIGNALS = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP)


def run_until_told(work: Coroutine[Any, Any, T]) -> T:
    """Run ``work``; a signal to stop cancels it, so that its cleanup runs.

    Raises:
        KeyboardInterrupt: it was cancelled by a signal before its end.
    """

    async def main() -> T:
        task = asyncio.current_task()
        loop = asyncio.get_running_loop()
        for number in STOP_SIGNALS:
            loop.add_signal_handler(number, _cancel, task)
        return await work

    try:
        return asyncio.run(main())
    except asyncio.CancelledError:
        raise KeyboardInterrupt from None


async def told_to_stop() -> None:
    """Wait for a signal to stop; what then follows is the caller's own, orderly end.

    A second signal while that lasts breaks it off, as it does in any other program.
    """
    told = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in STOP_SIGNALS:
        loop.add_signal_handler(number, told.set)
    await told.wait()
    for number in STOP_SIGNALS:
        loop.remove_signal_handler(number)


def _cancel(task: asyncio.Task[Any] | None) -> None:
    if task is not None:
        task.cancel()
