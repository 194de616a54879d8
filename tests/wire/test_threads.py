from __future__ import annotations

import asyncio
import threading
from concurrent.futures import ThreadPoolExecutor

import pytest

from tests.fakes.waiting import until
from wire.threads import in_thread


@pytest.fixture
def one_thread() -> ThreadPoolExecutor:
    return ThreadPoolExecutor(1)


async def test_the_result_and_the_error_come_back(one_thread: ThreadPoolExecutor) -> None:
    assert await in_thread(one_thread, lambda: 7) == 7
    with pytest.raises(ZeroDivisionError):
        await in_thread(one_thread, lambda: 1 // 0)


async def test_a_cancelled_caller_waits_for_its_thread(one_thread: ThreadPoolExecutor) -> None:
    began, go, ended = threading.Event(), threading.Event(), threading.Event()

    def work() -> None:
        began.set()
        go.wait()
        ended.set()

    task = asyncio.create_task(in_thread(one_thread, work))
    await until(began.is_set)
    for _ in range(3):  # however often it is told
        task.cancel()
        await asyncio.sleep(0)
        assert not task.done()
    go.set()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert ended.is_set()


async def test_a_cancelled_caller_may_hasten_the_end(one_thread: ThreadPoolExecutor) -> None:
    began, go = threading.Event(), threading.Event()

    def work() -> None:
        began.set()
        go.wait()

    def hasten() -> bool:
        go.set()
        return True

    task = asyncio.create_task(in_thread(one_thread, work, on_cancel=hasten))
    await until(began.is_set)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task


async def test_a_caller_that_need_not_wait_does_not(one_thread: ThreadPoolExecutor) -> None:
    began, go = threading.Event(), threading.Event()

    def work() -> None:
        began.set()
        go.wait()

    task = asyncio.create_task(in_thread(one_thread, work, on_cancel=lambda: False))
    await until(began.is_set)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert not go.is_set()
    go.set()


async def test_work_that_has_not_begun_is_dropped(one_thread: ThreadPoolExecutor) -> None:
    go, ran = threading.Event(), threading.Event()
    busy = asyncio.create_task(in_thread(one_thread, go.wait))
    waiting = asyncio.create_task(in_thread(one_thread, ran.set))
    await asyncio.sleep(0)
    waiting.cancel()
    with pytest.raises(asyncio.CancelledError):
        await waiting
    go.set()
    await busy
    assert not ran.is_set()
