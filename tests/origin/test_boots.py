from __future__ import annotations

import asyncio

import pytest

from origin.boots import BootDesk
from origin.fleet import FleetConfig, FleetView
from tests.fakes.reports import edge_report, worker_report
from wire.errors import NotFoundError, SourceUnavailableError
from wire.fleet import MAX_BOOTS_WANTED, WorkerBoot
from wire.workers import BootSpan

SPANS = (BootSpan("pull", 0.0, 12.5), BootSpan("load", 12.5, 100.0))


class World:
    def __init__(self, workers: int = 2, *, patience_s: float = 60.0) -> None:
        self.now = 0.0
        self.view = FleetView(FleetConfig(), clock=lambda: self.now)
        self.desk = BootDesk(self.view, clock=lambda: self.now, patience_s=patience_s)
        self.workers = [worker_report(f"w{n}") for n in range(workers)]
        self.view.report(edge_report("e1", *self.workers))

    def told(self, *names: str) -> None:
        boots = tuple(WorkerBoot(worker=n, model="chat", spans=SPANS) for n in names)
        report = edge_report("e1", *self.workers, boots=boots)
        self.view.report(report)
        self.desk.heard(report)


@pytest.fixture
def world() -> World:
    return World()


async def test_an_edge_is_asked_and_what_it_says_is_the_answer(world: World) -> None:
    assert world.desk.wanted("e1") == ()
    asked = asyncio.create_task(world.desk.of("w1"))
    await asyncio.sleep(0)
    assert world.desk.wanted("e1") == ("w1",)
    assert world.desk.wanted("another edge") == ()
    world.told("w0")
    await asyncio.sleep(0)
    assert not asked.done()
    world.told("w0", "w1")
    (boot,) = await asked
    assert (boot.worker, boot.spans) == ("w1", SPANS)


async def test_what_was_just_told_is_not_waited_for(world: World) -> None:
    asked = [asyncio.create_task(world.desk.of("w1")) for _ in range(3)]
    await asyncio.sleep(0)
    world.told("w1")
    assert len({await one for one in asked}) == 1
    world.now = 1.0
    assert await world.desk.of("w1") == await asked[0]


async def test_an_edge_is_asked_no_longer_than_somebody_looks(world: World) -> None:
    asked = asyncio.create_task(world.desk.of("w1"))
    await asyncio.sleep(0)
    world.told("w1")
    await asked
    world.now = 9.0
    assert world.desk.wanted("e1") == ("w1",)
    world.now = 10.0
    assert world.desk.wanted("e1") == ()


async def test_a_worker_that_nobody_sees_has_no_boot(world: World) -> None:
    with pytest.raises(NotFoundError, match="'nobody'"):
        await world.desk.of("nobody")
    world.now = 60.0
    with pytest.raises(NotFoundError):
        await world.desk.of("w1")


async def test_an_edge_that_does_not_say_is_not_waited_for_for_ever() -> None:
    with pytest.raises(SourceUnavailableError, match="older version"):
        await World(patience_s=0.01).desk.of("w1")


async def test_who_is_looked_at_is_bounded() -> None:
    world = World(100, patience_s=0.0)
    for number in range(100):
        with pytest.raises(SourceUnavailableError):
            await world.desk.of(f"w{number}")
    assert len(world.desk.wanted("e1")) == MAX_BOOTS_WANTED
