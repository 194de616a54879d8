"""Work in a thread that a cancelled caller does not leave behind."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from concurrent.futures import Executor
from typing import TypeVar

T = TypeVar("T")


def _wait() -> bool:
    return True


async def in_thread(
    executor: Executor, work: Callable[[], T], *, on_cancel: Callable[[], bool] = _wait
) -> T:
    """The result of ``work``, run by the executor.

    A thread cannot be cancelled. So a caller that is cancelled goes on only when its thread has
    ended: nobody then writes into buffers or uses descriptors that the caller gives away. Work that
    has not begun yet is dropped.

    Args:
        on_cancel: called where the caller is cancelled while the thread runs; may hasten its end,
            and says whether to wait for it.
    """
    running = executor.submit(work)
    try:
        return await asyncio.wrap_future(running)
    except asyncio.CancelledError:
        if not running.cancel() and on_cancel():
            loop, ended = asyncio.get_running_loop(), asyncio.Event()
            running.add_done_callback(lambda _: loop.call_soon_threadsafe(ended.set))
            while not ended.is_set():
                try:
                    await ended.wait()
                except asyncio.CancelledError:
                    continue  # being cancelled already
        raise
