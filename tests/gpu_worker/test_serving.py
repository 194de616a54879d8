"""gpu_worker.serving: slots, the queue before them, flips and drains."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gpu_worker.asleep import Asleep
from gpu_worker.serving import (
    Lease,
    Load,
    NotServingError,
    QueueFullError,
    Serving,
    ServingConfig,
)
from tests.fakes.clock import ManualClock
from tests.fakes.engine import FakeEngine


def serving_with(engine: FakeEngine, **bounds: Any) -> Serving:
    serving = Serving(ServingConfig(**bounds))
    serving.flip(engine)
    return serving


async def queued(serving: Serving, count: int) -> list[asyncio.Task[Lease]]:
    """Requests that wait, in order."""
    tasks = [asyncio.create_task(serving.acquire()) for _ in range(count)]
    await asyncio.sleep(0)
    return tasks


async def test_a_worker_boots_serves_and_says_why_it_does_not() -> None:
    serving = Serving()
    assert (serving.state, serving.engine, serving.load()) == ("booting", None, Load(0, 0, 0))
    with pytest.raises(NotServingError, match="booting") as caught:
        await serving.acquire()
    assert caught.value.headers["Retry-After"] == "1"
    serving.flip(FakeEngine())
    assert (serving.state, serving.why_not_ready()) == ("ready", None)


async def test_leases_are_counted_until_they_are_released() -> None:
    engine = FakeEngine(capacity=2)
    serving = serving_with(engine)
    with await serving.acquire() as lease:
        assert lease.engine is engine
        assert serving.load() == Load(slots=2, busy=1, queue=0)
        assert serving.active(engine) == 1
    lease.release()
    assert serving.load() == Load(slots=2, busy=0, queue=0)


async def test_requests_beyond_the_slots_wait_in_order() -> None:
    serving = serving_with(FakeEngine(capacity=1))
    holder = await serving.acquire()
    first, second = await queued(serving, 2)
    assert serving.load() == Load(slots=1, busy=1, queue=2)
    holder.release()
    lease = await first
    assert not second.done()
    lease.release()
    (await second).release()
    assert serving.load() == Load(1, 0, 0)


async def test_a_full_queue_refuses_and_says_when_to_come_again() -> None:
    serving = serving_with(FakeEngine(capacity=1), queue_requests=1, retry_after_s=3)
    holder = await serving.acquire()
    waiting = (await queued(serving, 1))[0]
    with pytest.raises(QueueFullError) as caught:
        await serving.acquire()
    assert (caught.value.status, caught.value.headers) == (503, {"Retry-After": "3"})
    holder.release()
    (await waiting).release()


async def test_a_wait_has_an_end() -> None:
    serving = serving_with(FakeEngine(capacity=1), queue_timeout_s=0.02)
    holder = await serving.acquire()
    with pytest.raises(QueueFullError, match="in time"):
        await serving.acquire()
    assert serving.load().queue == 0
    holder.release()


async def test_a_client_that_leaves_the_queue_takes_no_slot() -> None:
    serving = serving_with(FakeEngine(capacity=1))
    holder = await serving.acquire()
    leaves, stays = await queued(serving, 2)
    leaves.cancel()
    await asyncio.gather(leaves, return_exceptions=True)
    assert serving.load().queue == 1
    holder.release()
    (await stays).release()


async def test_a_client_that_leaves_as_its_slot_comes_gives_it_back() -> None:
    serving = serving_with(FakeEngine(capacity=1))
    holder = await serving.acquire()
    leaves = (await queued(serving, 1))[0]
    holder.release()
    leaves.cancel()
    await asyncio.gather(leaves, return_exceptions=True)
    assert serving.load() == Load(1, 0, 0)


async def test_a_flip_leaves_running_streams_where_they_are() -> None:
    old, new = FakeEngine(capacity=1), FakeEngine(capacity=1)
    serving = serving_with(old)
    running = await serving.acquire()
    assert serving.flip(new) is old
    with await serving.acquire() as lease:
        assert lease.engine is new
    assert running.engine is old
    assert (serving.active(old), serving.active(new)) == (1, 0)
    running.release()
    assert serving.active(old) == 0


async def test_whoever_waits_through_a_flip_is_answered_by_the_new_engine() -> None:
    old, new = FakeEngine(capacity=1), FakeEngine(capacity=1)
    serving = serving_with(old)
    running = await serving.acquire()
    waiting = (await queued(serving, 1))[0]
    serving.flip(new)
    assert (await waiting).engine is new
    running.release()


async def test_drain_waits_for_the_last_stream() -> None:
    old = FakeEngine()
    serving = serving_with(old)
    running = [await serving.acquire() for _ in range(2)]
    serving.flip(FakeEngine())
    draining = asyncio.create_task(serving.drain(old, deadline_s=30))
    await asyncio.sleep(0)
    running[0].release()
    await asyncio.sleep(0)
    assert not draining.done()
    running[1].release()
    assert await draining == 0


async def test_drain_gives_up_at_its_deadline_and_says_what_is_left() -> None:
    engine = FakeEngine()
    serving = serving_with(engine)
    running = await serving.acquire()
    assert await serving.drain(engine, deadline_s=0.02) == 1
    running.release()
    assert await serving.drain(engine, deadline_s=0) == 0
    assert await serving.drain(FakeEngine(), deadline_s=0) == 0


async def test_a_paused_worker_takes_nothing_new_but_finishes_what_it_took() -> None:
    engine = FakeEngine(capacity=1)
    serving = serving_with(engine)
    holder = await serving.acquire()
    waiting = (await queued(serving, 1))[0]
    serving.pause("rolling")
    assert serving.state == "draining"
    with pytest.raises(NotServingError, match="rolling"):
        await serving.acquire()
    draining = asyncio.create_task(serving.drain(engine, deadline_s=30))
    holder.release()
    (await waiting).release()
    assert await draining == 0
    serving.flip(FakeEngine())
    assert serving.why_not_ready() is None


async def test_a_restarting_engine_is_booting_and_then_ready_again() -> None:
    engine = FakeEngine()
    serving = serving_with(engine)
    engine.ready = False
    assert serving.state == "booting"
    with pytest.raises(NotServingError):
        await serving.acquire()
    engine.ready = True
    assert serving.why_not_ready() is None


async def test_an_engine_given_up_fails_the_worker_and_its_queue() -> None:
    engine = FakeEngine(capacity=1)
    serving = serving_with(engine)
    holder = await serving.acquire()
    waiting = (await queued(serving, 1))[0]
    engine.dead.set_result("it kept crashing")
    with pytest.raises(NotServingError, match="kept crashing"):
        await waiting
    assert (serving.state, serving.reason) == ("failed", "it kept crashing")
    holder.release()
    serving.flip(FakeEngine())
    assert (serving.state, serving.reason) == ("ready", "")


async def test_the_death_of_an_old_engine_is_of_no_consequence() -> None:
    old = FakeEngine()
    serving = serving_with(old)
    serving.flip(FakeEngine())
    await old.aclose()
    await asyncio.sleep(0)
    assert serving.state == "ready"


# Held, asleep


async def test_what_is_held_takes_nothing_new_whatever_comes_until_it_is_released() -> None:
    engine = FakeEngine(capacity=1)
    serving = serving_with(engine)
    holder = await serving.acquire()
    waiting = (await queued(serving, 1))[0]
    serving.hold("maintenance")
    serving.flip(FakeEngine(capacity=1))
    (await waiting).release()
    assert (serving.state, serving.why_not_ready()) == ("ready", "draining: maintenance")
    with pytest.raises(NotServingError, match="maintenance"):
        await serving.acquire()
    holder.release()
    serving.release()
    assert serving.why_not_ready() is None
    (await serving.acquire()).release()


def sleeper() -> Asleep:
    return Asleep("chat", "a" * 64, frozenset())


async def test_a_request_for_a_sleeper_tells_of_it_and_waits() -> None:
    wanted: list[int] = []
    serving = Serving(on_wanted=lambda: wanted.append(1))
    serving.flip(sleeper())
    assert (serving.state, serving.why_not_ready(), wanted) == ("asleep", None, [])
    first, second = await queued(serving, 2)
    assert (serving.load(), serving.in_flight) == (Load(0, 0, 2), 2)
    assert wanted
    serving.flip(FakeEngine(capacity=1))
    (await first).release()
    (await second).release()
    assert serving.state == "ready"


async def test_a_request_for_a_sleeper_waits_only_so_long() -> None:
    serving = Serving(ServingConfig(queue_timeout_s=60, wake_timeout_s=0.02, queue_requests=1))
    serving.flip(sleeper())
    first = (await queued(serving, 1))[0]
    with pytest.raises(QueueFullError):
        await serving.acquire()
    with pytest.raises(QueueFullError, match="in time"):
        await first


async def test_who_waits_for_a_sleeper_can_be_refused() -> None:
    serving = Serving()
    serving.flip(sleeper())
    waiting = await queued(serving, 2)
    serving.refuse_waiting("no room", retry_after_s=7)
    for task in waiting:
        with pytest.raises(NotServingError, match="no room") as caught:
            await task
        assert caught.value.headers == {"Retry-After": "7"}
    assert serving.state == "asleep"


async def test_who_waits_while_it_goes_to_sleep_wakes_it() -> None:
    wanted: list[int] = []
    serving = Serving(on_wanted=lambda: wanted.append(1))
    serving.flip(FakeEngine(capacity=1))
    holder = await serving.acquire()
    waiting = (await queued(serving, 1))[0]
    serving.flip(sleeper())
    assert wanted
    holder.release()
    serving.flip(FakeEngine())
    (await waiting).release()


async def test_a_sleeper_that_is_given_up_fails_who_waits() -> None:
    serving = Serving()
    asleep = sleeper()
    serving.flip(asleep)
    waiting = (await queued(serving, 1))[0]
    asleep.give_up("a bad file")
    with pytest.raises(NotServingError, match="a bad file"):
        await waiting
    assert serving.state == "failed"


async def test_a_visitor_needs_no_slot_and_counts_as_in_flight() -> None:
    idle: list[int] = []
    clock = ManualClock(5.0)
    serving = Serving(on_idle=lambda: idle.append(1), clock=clock)
    serving.flip(FakeEngine(capacity=1))
    lease = await serving.acquire()
    clock.advance(1)
    with serving.visit() as engine:
        assert engine is lease.engine
        assert (serving.in_flight, serving.last_used_s) == (2, 6.0)
        lease.release()
        assert not idle
    assert (serving.in_flight, idle) == (0, [1])
    serving.flip(sleeper())
    with pytest.raises(NotServingError, match="asleep"), serving.visit():
        pass


async def test_the_end_of_a_request_is_when_it_was_used_last() -> None:
    clock = ManualClock(5.0)
    serving = Serving(clock=clock)
    serving.flip(FakeEngine())
    lease = await serving.acquire()
    clock.advance(10)
    lease.release()
    assert serving.last_used_s == 15.0


STEPS = st.one_of(
    st.tuples(st.just("flip"), st.integers(1, 3)),
    st.tuples(st.sampled_from(["arrive", "finish", "leave", "settle"]), st.integers(0, 9)),
)


class Crowd:
    """Clients and rolls around one ``Serving``."""

    def __init__(self) -> None:
        self.serving = Serving(ServingConfig(queue_requests=3))
        self.engines: list[FakeEngine] = []
        self.waiting: list[asyncio.Task[Lease]] = []
        self.held: list[Lease] = []

    async def flip(self, number: int) -> None:
        self.engines.append(FakeEngine(capacity=number))
        self.serving.flip(self.engines[-1])

    async def arrive(self, _number: int) -> None:
        self.waiting.append(asyncio.create_task(self.serving.acquire()))

    async def leave(self, number: int) -> None:
        if self.waiting:
            self.waiting[number % len(self.waiting)].cancel()

    async def finish(self, number: int) -> None:
        if self.held:
            self.held.pop(number % len(self.held)).release()

    async def settle(self, _number: int = 0) -> None:
        for _ in range(4):
            await asyncio.sleep(0)
        for task in [task for task in self.waiting if task.done()]:
            self.waiting.remove(task)
            if not task.cancelled() and task.exception() is None:
                self.held.append(task.result())

    def check(self) -> None:
        for engine in self.engines:
            held = sum(lease.engine is engine for lease in self.held)
            assert self.serving.active(engine) == held <= engine.capacity
        load = self.serving.load()
        assert load.queue == len(self.waiting) <= 3
        assert load.queue == 0 or load.busy == load.slots


@given(st.lists(STEPS, max_size=40))
def test_no_slot_is_lost_or_overbooked_whatever_clients_and_rolls_do(
    steps: list[tuple[str, int]],
) -> None:
    async def play() -> None:
        crowd = Crowd()
        await crowd.flip(2)
        for name, number in steps:
            await getattr(crowd, name)(number)
            if name == "settle":
                crowd.check()
        await crowd.settle()
        crowd.check()
        for task in crowd.waiting:
            task.cancel()
        await asyncio.gather(*crowd.waiting, return_exceptions=True)

    asyncio.run(play())
