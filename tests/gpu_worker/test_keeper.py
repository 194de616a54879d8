"""gpu_worker.keeper: real memory, so to speak, never exceeds the budget, whoever comes and goes."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import asynccontextmanager
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gpu_worker.asleep import Asleep
from gpu_worker.engine import Engine
from gpu_worker.errors import NoRoomError
from gpu_worker.keeper import Keeper, Stay
from gpu_worker.serving import Lease, NotServingError, Serving
from tests.fakes.clock import ManualClock
from tests.fakes.engine import FakeEngine
from tests.fakes.virtual_time import now_s, virtual_time


class Guest:
    """A tenant (``gpu_worker.keeper.Tenant``) whose engines load and close in a few turns."""

    def __init__(
        self,
        name: str,
        size: int,
        keeper: Keeper,
        *,
        pinned: bool = False,
        idle_unload_s: float = 0.0,
        clock: Callable[[], float] = now_s,
        wait_s: float = 5.0,
    ) -> None:
        self.name = name
        self.size = size
        self.pinned = pinned
        self.idle_unload_s = idle_unload_s
        self.serving = Serving(on_wanted=self.rouse, on_idle=keeper.idle, clock=clock)
        self.loaded: list[Engine] = []
        """What really takes memory."""
        self._keeper = keeper
        self._wait_s = wait_s
        self._task: asyncio.Task[None] | None = None
        self.tasks: set[asyncio.Task[None]] = set()
        self.serving.flip(self._sleeper())
        keeper.add(self)

    def _sleeper(self) -> Asleep:
        return Asleep(self.name, "a" * 64, frozenset())

    def rouse(self) -> None:
        asleep = isinstance(self.serving.engine, Asleep)
        if asleep and (self._task is None or self._task.done()):
            self._task = self._keep(self.wake())

    async def wake(self) -> None:
        try:
            stay = await self._keeper.admit(self, self.size, wait_s=self._wait_s)
        except NoRoomError as error:
            self.serving.refuse_waiting(error.message)
            return
        engine = FakeEngine(model=self.name, capacity=2)
        self.loaded.append(engine)
        for _ in range(3):
            await asyncio.sleep(0)
        self._keeper.settle(stay, engine)
        self.serving.flip(engine)

    def doze(self, engine: Engine) -> asyncio.Task[None]:
        assert self.serving.engine is engine
        assert self.serving.in_flight == 0
        self.serving.flip(self._sleeper())
        return self._keep(self._close(engine))

    async def _close(self, engine: Engine) -> None:
        for _ in range(3):
            await asyncio.sleep(0)
        self.loaded.remove(engine)
        await engine.aclose()

    def _keep(self, work: Coroutine[Any, Any, None]) -> asyncio.Task[None]:
        task = asyncio.create_task(work)
        self.tasks.add(task)
        task.add_done_callback(self.tasks.discard)
        return task

    @property
    def awake(self) -> bool:
        return not isinstance(self.serving.engine, Asleep)

    async def use(self) -> None:
        (await self.serving.acquire()).release()


@virtual_time
async def test_a_stay_lasts_from_before_the_load_to_the_close() -> None:
    keeper = Keeper(10)
    guest = Guest("a", 10, keeper)
    stay = await keeper.admit(guest, 10)
    assert (keeper.used_bytes(), keeper.used_bytes("a"), keeper.used_bytes("b")) == (10, 10, 0)
    engine = FakeEngine()
    keeper.settle(stay, engine)
    await engine.aclose()
    assert keeper.used_bytes() == 0


@virtual_time
async def test_a_load_that_fails_leaves() -> None:
    keeper = Keeper(10)
    guest = Guest("a", 10, keeper)
    stay = await keeper.admit(guest, 10)
    keeper.leave(stay)
    keeper.leave(stay)
    assert keeper.used_bytes() == 0


@virtual_time
async def test_who_gives_up_an_admission_does_not_wake_who_goes_to_sleep_for_it() -> None:
    keeper = Keeper(10)
    first, second = Guest("a", 10, keeper), Guest("b", 10, keeper)
    await first.use()
    admission = asyncio.create_task(keeper.admit(second, 10))
    await asyncio.sleep(0)  # to where it waits
    assert not first.awake
    admission.cancel()
    await asyncio.gather(admission, *first.tasks, return_exceptions=True)
    assert (first.loaded, keeper.used_bytes()) == ([], 0)
    await second.use()
    assert second.awake


@virtual_time
async def test_who_may_not_evict_is_told_so() -> None:
    keeper = Keeper(10)
    first, second = Guest("a", 10, keeper), Guest("b", 10, keeper)
    await first.use()
    with pytest.raises(NoRoomError, match="b needs 0 MiB of memory, which a have in use"):
        await keeper.admit(second, 10, evict=False)
    assert first.awake


@virtual_time
async def test_who_waits_for_room_is_told_when_the_time_is_over() -> None:
    keeper = Keeper(10)
    first, second = Guest("a", 10, keeper), Guest("b", 10, keeper)
    lease = await first.serving.acquire()
    began = now_s()
    with pytest.raises(NotServingError, match="which a have in use"):
        await second.serving.acquire()
    assert now_s() - began == pytest.approx(5)
    assert first.awake
    lease.release()
    await second.use()
    assert (first.awake, second.awake) == (False, True)


@virtual_time
async def test_what_can_never_fit_is_refused_at_once() -> None:
    keeper = Keeper(10)
    Guest("a", 10, keeper, pinned=True)
    kept, large = Guest("p", 4, keeper, pinned=True), Guest("b", 11, keeper)
    await kept.use()
    began = now_s()
    with pytest.raises(NoRoomError, match="memory_budget_bytes") as caught:
        await keeper.admit(large, 11, wait_s=100)
    assert (now_s(), caught.value.headers) == (began, {"Retry-After": "60"})


@virtual_time
async def test_without_a_budget_everybody_has_room() -> None:
    keeper = Keeper(None)
    guests = [Guest(name, 1 << 60, keeper) for name in "abc"]
    for guest in guests:
        await guest.use()
    assert all(guest.awake for guest in guests)
    assert keeper.room_bytes(guests[0], 123) == 123


@virtual_time
async def test_room_for_a_second_engine_is_what_the_budget_and_the_machine_have() -> None:
    keeper = Keeper(100)
    mine, idle, busy = Guest("a", 10, keeper), Guest("b", 20, keeper), Guest("c", 30, keeper)
    await mine.use()
    await idle.use()
    lease = await busy.serving.acquire()
    assert keeper.room_bytes(mine, 1 << 40) == 60
    assert keeper.room_bytes(mine, 5) == 25
    lease.release()


@asynccontextmanager
async def running(keeper: Keeper) -> AsyncIterator[None]:
    task = asyncio.create_task(keeper.run())
    yield
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)


@virtual_time
async def test_it_puts_the_idle_to_sleep_in_time_and_wakes_the_pinned() -> None:
    keeper = Keeper(None, clock=now_s)
    idle = Guest("a", 1, keeper, idle_unload_s=30)
    pinned = Guest("p", 1, keeper, pinned=True, idle_unload_s=30)
    async with running(keeper):
        await idle.use()
        await asyncio.sleep(29)
        assert (idle.awake, pinned.awake) == (True, True)
        await idle.use()
        await asyncio.sleep(29)
        assert idle.awake
        await asyncio.sleep(2)
        assert (idle.awake, pinned.awake, keeper.unloads) == (False, True, 1)
        lease = await idle.serving.acquire()
        await asyncio.sleep(100)
        assert idle.awake
        lease.release()
        await asyncio.sleep(36)
        assert not idle.awake


async def test_a_stay_that_serves_is_settled_and_counts_its_requests() -> None:
    keeper = Keeper(None)
    guest = Guest("a", 7, keeper, clock=ManualClock(50.0))
    loading = Stay(guest, 7)
    assert not loading.place().settled
    engine = FakeEngine()
    serving = Stay(guest, 7, engine)
    guest.serving.flip(engine)
    lease = await guest.serving.acquire()
    place = serving.place()
    assert (place.settled, place.in_flight, place.last_used_s) == (True, 1, 50.0)
    lease.release()
    serving.leaving = True
    assert not serving.place().settled


class Crowd:
    """Clients of six models that do not all fit."""

    def __init__(self, budget: int) -> None:
        keeper = Keeper(budget)
        sizes = (10, 10, 20, 25, 40, 15)
        self.guests = [Guest(str(n), size, keeper) for n, size in enumerate(sizes)]
        self.budget = budget
        self.waiting: list[asyncio.Task[Lease]] = []
        self.held: list[Lease] = []
        self.served = self.refused = 0

    def ask(self, number: int) -> None:
        self.waiting.append(asyncio.create_task(self.guests[number].serving.acquire()))

    def finish(self, number: int) -> None:
        if self.held:
            self.held.pop(number % len(self.held)).release()

    async def turn(self, number: int) -> None:
        for _ in range(number):
            await asyncio.sleep(0)
            self.check()

    def check(self) -> None:
        for task in [task for task in self.waiting if task.done()]:
            self.waiting.remove(task)
            if (error := task.exception()) is None:
                self.held.append(task.result())
                self.served += 1
            else:
                assert isinstance(error, NotServingError)
                self.refused += 1
        assert sum(guest.size for guest in self.guests for _ in guest.loaded) <= self.budget
        assert not any(lease.engine.dead.done() for lease in self.held)

    async def leave(self) -> None:
        """Everybody is served in the end, or told why not."""
        while self.waiting or self.held:
            while self.held:
                self.finish(0)
            await asyncio.sleep(1)
            self.check()
        await asyncio.gather(*(task for guest in self.guests for task in guest.tasks))


STEPS = st.lists(
    st.tuples(st.sampled_from(["ask", "finish"]), st.integers(0, 5), st.integers(0, 12)),
    max_size=30,
)


@given(STEPS, st.integers(20, 60))
def test_memory_never_exceeds_the_budget_and_no_request_is_put_to_sleep(
    steps: list[tuple[str, int, int]], budget: int
) -> None:
    @virtual_time
    async def play() -> None:
        crowd = Crowd(budget)
        for step, number, turns in steps:
            getattr(crowd, step)(number)
            await crowd.turn(turns)
        await crowd.leave()
        assert crowd.served + crowd.refused == sum(step == "ask" for step, _, _ in steps)

    play()
