from __future__ import annotations

import asyncio

from gpu_worker.retiring import Retiring
from gpu_worker.serving import Serving
from tests.fakes.engine import FakeEngine
from tests.fakes.waiting import until


def flipped(serving: Serving) -> FakeEngine:
    engine = FakeEngine()
    serving.flip(engine)
    return engine


async def test_an_engine_stops_when_its_last_stream_has_ended() -> None:
    serving = Serving()
    retiring, old = Retiring(serving, 10.0), flipped(serving)
    lease = await serving.acquire()
    flipped(serving)
    retiring.soon(old)
    await asyncio.sleep(0)
    assert (retiring.running, old.ready) == (True, True)
    lease.release()
    await until(lambda: not retiring.running)
    assert not old.ready
    await retiring.aclose()


async def test_what_runs_on_after_the_deadline_is_cut() -> None:
    serving = Serving()
    retiring, old = Retiring(serving, 0.01), flipped(serving)
    await serving.acquire()
    flipped(serving)
    retiring.soon(old)
    await until(lambda: not retiring.running)
    assert not old.ready


async def test_closing_waits_for_all_of_them_to_the_deadline() -> None:
    serving = Serving()
    retiring, old = Retiring(serving, 0.02), flipped(serving)
    await serving.acquire()
    new = flipped(serving)
    retiring.soon(old)
    retiring.soon(new)
    await retiring.aclose()
    assert (old.ready, new.ready, retiring.running) == (False, False, False)
