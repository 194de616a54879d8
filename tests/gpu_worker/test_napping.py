"""gpu_worker.napping: whether what a roll brings is loaded, or sleeps."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from gpu_worker.asleep import Asleep
from gpu_worker.check import ModelFiles
from gpu_worker.config import WorkerConfig
from gpu_worker.engine import Engine, EngineStartError
from gpu_worker.errors import LoadFailedError, NoRoomError
from gpu_worker.keeper import Keeper
from gpu_worker.napping import NappingPreparation
from gpu_worker.order import EngineOrder
from gpu_worker.serving import Serving
from gpu_worker.waterfall import Waterfall
from tests.fakes.quick_disk import quick_folder
from tests.fakes.revisions import SignedSource
from tests.fakes.rolling import Faults, RollingEngine, model
from wire.sources.failover import Failover

ONE = model(1)
FILES = ModelFiles(Path("m.gguf"), 1_000)
REVISION = "a" * 64


class Sleeper:
    """A tenant (``gpu_worker.napping.Sleeper``) that wants what it is told to want."""

    name = "chat"
    pinned = False
    idle_unload_s = 0.0

    def __init__(self) -> None:
        self.serving = Serving()
        self.should_load = True
        self.may_evict = True
        self.settled: list[Engine] = []

    def settled_in(self, engine: Engine) -> None:
        self.settled.append(engine)

    def doze(self, engine: Engine) -> asyncio.Task[None]:
        raise AssertionError("nobody else is here")

    def rouse(self) -> None:
        """It is never pinned."""


class Bed:
    """A preparation and what it works with."""

    def __init__(self, folder: Path, executor: ThreadPoolExecutor) -> None:
        self.keeper = Keeper(2_000)
        self.tenant = Sleeper()
        self.faults = Faults()
        self.source = SignedSource()
        self.prepare = NappingPreparation(
            WorkerConfig(model="chat", models_dir=folder, memory_headroom=1.5),
            Failover([self.source]),
            executor,
            self._make_engine,
            keeper=self.keeper,
            tenant=self.tenant,
        )

    def _make_engine(self, order: EngineOrder) -> RollingEngine:
        return RollingEngine(order, self.faults)

    async def roll(self, files: ModelFiles = FILES) -> Engine:
        return await self.prepare.engine(files, REVISION, Waterfall())


@pytest.fixture
async def bed() -> AsyncIterator[Bed]:
    with ThreadPoolExecutor(2) as executor, quick_folder() as folder:
        yield Bed(folder, executor)


async def test_what_should_be_in_memory_is_loaded_and_takes_its_size(bed: Bed) -> None:
    engine = await bed.roll()
    assert engine.ready
    assert bed.tenant.settled == [engine]
    assert bed.keeper.used_bytes("chat") == 1_500
    await engine.aclose()
    assert bed.keeper.used_bytes() == 0


async def test_what_should_sleep_sleeps_with_the_features_it_had(bed: Bed) -> None:
    features = (await bed.roll()).features
    bed.tenant.should_load = False
    asleep = await bed.roll()
    assert isinstance(asleep, Asleep)
    assert (asleep.model, asleep.revision, asleep.features) == ("chat", REVISION, features)


async def test_what_has_no_room_sleeps_but_who_wants_it_now_hears_of_it(bed: Bed) -> None:
    large = ModelFiles(Path("m.gguf"), 5_000)
    assert isinstance(await bed.roll(large), Asleep)
    with pytest.raises(NoRoomError):
        await bed.prepare.load(large, REVISION, Waterfall())
    assert bed.keeper.used_bytes() == 0


async def test_what_failed_to_load_must_prove_itself_although_it_should_sleep(bed: Bed) -> None:
    bed.faults.start = EngineStartError("bad luck")
    for should_load in (True, False):
        bed.tenant.should_load = should_load
        with pytest.raises(LoadFailedError, match="bad luck"):
            await bed.roll()
    assert bed.keeper.used_bytes() == 0
    bed.faults.start = None
    assert (await bed.roll()).ready
    assert isinstance(await bed.roll(), Asleep)


async def test_it_remembers_which_variant_was_prepared(bed: Bed) -> None:
    bed.source.publish(ONE)
    await bed.prepare.files(ONE.id, Waterfall())
    assert bed.prepare.variant(ONE.id) == ""
    assert bed.prepare.variant("unheard of") == ""
