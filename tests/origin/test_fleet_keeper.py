from __future__ import annotations

import asyncio
import socket
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from origin.errors import StoreError
from origin.fleet import FleetConfig, FleetView
from origin.fleet_keeper import FleetKeeper
from origin.orders import CommandRequest, Orders
from origin.store import ObjectStore
from origin.stores.folder import FolderObjects
from tests.fakes.clock import ManualClock
from tests.fakes.reports import edge_report, worker_report
from tests.fakes.waiting import until
from wire.chunk import Buffer
from wire.errors import ConfigError

OWN_NAME = FleetConfig(name="east", snapshot_s=10)


class FailingObjects(FolderObjects):
    """A folder that cannot be written while ``broken``, and counts what is."""

    broken = False
    puts = 0

    def put(self, key: str, data: Buffer) -> None:
        if self.broken:
            raise StoreError("disk full")
        self.puts += 1
        super().put(key, data)


class Life:
    """One life of an origin's view on a store."""

    def __init__(self, objects: FolderObjects, config: FleetConfig, wall: ManualClock) -> None:
        clock = ManualClock()
        self.view = FleetView(config, clock=clock)
        self.orders = Orders(self.view, config, clock=clock)
        self.keeper = FleetKeeper(
            self.view, self.orders, ObjectStore(objects), config, clock=wall, look_s=0.001
        )


Start = Callable[..., Life]


@pytest.fixture
def wall() -> ManualClock:
    return ManualClock(2e9)


@pytest.fixture
def objects(tmp_path: Path) -> FailingObjects:
    return FailingObjects(tmp_path)


@pytest.fixture
def start(objects: FailingObjects, wall: ManualClock) -> Start:
    return lambda config=OWN_NAME: Life(objects, config, wall)


@asynccontextmanager
async def keeping(life: Life) -> AsyncIterator[None]:
    task = asyncio.create_task(life.keeper.run())
    yield
    assert not task.done()
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)


async def test_the_next_life_knows_what_this_one_knew(start: Start, wall: ManualClock) -> None:
    life = start()
    life.view.report(edge_report("e1", worker_report("w1")))
    order = life.orders.give(CommandRequest(node="w1", action="drain"))
    life.view.preheat("chat", "a" * 64)
    await life.keeper.save()
    wall.advance(100)
    again = start()
    await again.keeper.load()
    (worker,) = again.view.workers()
    assert (worker.name, worker.presence) == ("w1", "unheard")
    assert worker.age_s == pytest.approx(100.2)
    assert again.orders.for_edge("e1") == (order.command,)
    assert len(again.view.to_preheat()) == 1


async def test_a_change_is_kept_soon_and_ages_now_and_then(
    start: Start, objects: FailingObjects, wall: ManualClock
) -> None:
    life = start()
    async with keeping(life):
        life.view.report(edge_report("e1"))
        await until(lambda: objects.puts == 1)
        life.view.report(edge_report("e1"))  # no news
        await asyncio.sleep(0.02)
        assert objects.puts == 1
        life.view.report(edge_report("e1", worker_report("w1")))
        await until(lambda: objects.puts == 2)
        wall.advance(11)
        await until(lambda: objects.puts == 3)
        wall.advance(-86_400)
        await until(lambda: objects.puts == 4)


async def test_a_store_that_fails_is_logged_once_and_tried_again(
    start: Start, objects: FailingObjects, capsys: pytest.CaptureFixture[str]
) -> None:
    objects.broken = True
    life = start()
    life.view.report(edge_report("e1"))
    await life.keeper.save()
    await life.keeper.save()
    assert capsys.readouterr().out.count("view of the fleet not kept") == 1
    objects.broken = False
    async with keeping(life):
        await until(lambda: objects.puts == 1)


@pytest.mark.parametrize(
    "found", [b"", b"{}", b"[" * 50_000, b'{"format":"headwater.fleet/9","written":1,"view":{}}']
)
async def test_what_cannot_be_read_is_as_good_as_nothing(
    start: Start, objects: FailingObjects, found: bytes, capsys: pytest.CaptureFixture[str]
) -> None:
    objects.put("fleet/east", found)
    life = start()
    await life.keeper.load()
    assert life.view.edges() == ()
    assert "view of the fleet not read" in capsys.readouterr().out


async def test_origins_on_one_store_keep_their_views_apart(start: Start) -> None:
    east, west = start(), start(FleetConfig(name="west"))
    east.view.report(edge_report("e1"))
    west.view.report(edge_report("e2"))
    await east.keeper.save()
    await west.keeper.save()
    again = start(FleetConfig(name="west"))
    await again.keeper.load()
    assert [edge.name for edge in again.view.edges()] == ["e2"]


class SharedObjects(FolderObjects):
    """A folder that other origins may write."""

    @property
    def remote(self) -> bool:
        return True


@pytest.mark.parametrize(
    ("kind", "name"), [(FolderObjects, "origin"), (SharedObjects, socket.gethostname())]
)
async def test_without_a_name_a_view_is_the_origins_or_on_a_bucket_the_machines(
    tmp_path: Path, wall: ManualClock, kind: type[FolderObjects], name: str
) -> None:
    life = Life(kind(tmp_path), FleetConfig(), wall)
    await life.keeper.save()
    assert [path.name for path in (tmp_path / "fleet").iterdir()] == [name]


def test_a_name_that_is_none_is_refused(start: Start) -> None:
    with pytest.raises(ConfigError, match=r"origin\.fleet\.name"):
        start(FleetConfig(name="../keys"))
