from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from concurrent.futures import ThreadPoolExecutor

import pytest

from gpu_worker.config import ModelConfig
from gpu_worker.engine import EngineStartError
from gpu_worker.reports import Identity, report_of
from gpu_worker.resident import Resident
from tests.fakes.house import House
from tests.fakes.quick_disk import quick_folder
from tests.fakes.rolling import Faults, model
from tests.fakes.waiting import until
from wire.workers import Done, WorkerReport

ONE, TWO = model(1), model(2)


@pytest.fixture
async def house() -> AsyncIterator[House]:
    with ThreadPoolExecutor(4) as executor, quick_folder() as folder:
        yield House(folder, executor)


@pytest.fixture
async def resident(house: House) -> AsyncIterator[Resident]:
    house.source.publish(ONE)
    made = house.resident(ModelConfig(model="chat"))
    await made.roller.look()
    yield made
    await made.stop("the end")
    await made.aclose()


def report(resident: Resident, **more: object) -> WorkerReport:
    return report_of(resident, Identity("w", "http://w:1"), None, **more)  # type: ignore[arg-type]


async def test_a_report_names_worker_model_and_load(house: House, resident: Resident) -> None:
    with await resident.serving.acquire():
        told = report(resident)
    assert (told.worker, told.url, told.model, told.channel) == (
        "w",
        "http://w:1",
        "chat",
        "stable",
    )
    assert (told.revision, told.state, told.slots, told.busy) == (ONE.id, "ready", 4, 1)
    assert told.ttl_s == resident.config.heartbeat_ttl_s
    assert {"logprobs", "n"} <= told.features
    assert "load" in told.boot
    assert (told.target, told.phase, told.missing_bytes, told.trust) == ("", "", 0, "none")


async def test_a_stopping_or_a_held_worker_is_draining(resident: Resident) -> None:
    told = report(resident, stopping=True, done=(Done(id="1"),))
    assert (told.state, told.draining, told.done) == ("draining", True, (Done(id="1"),))
    resident.serving.hold("maintenance")
    assert (report(resident).state, report(resident).draining) == ("ready", True)
    resident.serving.release()
    assert not report(resident).draining


async def test_a_sleeper_has_the_revision_the_features_and_the_slots_of_its_engine(
    resident: Resident,
) -> None:
    awake = report(resident)
    engine = resident.serving.engine
    assert engine is not None
    await resident.doze(engine)
    asleep = report(resident)
    assert (asleep.state, asleep.revision, asleep.busy) == ("asleep", ONE.id, 0)
    assert (asleep.features, asleep.slots) == (awake.features, resident.config.engine.slots)


async def test_a_wake_is_told_as_a_load(house: House, resident: Resident) -> None:
    engine = resident.serving.engine
    assert engine is not None
    await resident.doze(engine)
    house.faults[ONE.id] = Faults(hang=True)
    resident.rouse()
    waking = await house.until_made(2)
    assert (report(resident).target, report(resident).phase) == (ONE.id, "load")
    waking.release()
    await until(lambda: report(resident).phase == "")


async def test_what_a_roll_does_and_what_it_refused_is_told(
    house: House, resident: Resident
) -> None:
    house.faults[TWO.id] = Faults(start=EngineStartError("bad luck"), hang=True)
    house.source.publish(TWO)
    rolling = asyncio.create_task(resident.roller.look())
    second = await house.until_made(2)
    view = house.household.trust.view
    told = report_of(resident, Identity("w"), view)
    assert (told.target, told.phase, told.trust) == (TWO.id, "load", "fresh")
    second.release()
    await rolling
    told = report(resident)
    assert (told.revision, told.refused, told.fault) == (ONE.id, TWO.id, "crashed")
    assert "bad luck" in told.reason
    assert len(told.reason) <= 500
