"""gpu_worker.resident: a model that sleeps, wakes and restarts while other things happen to it.

What a client sees of it is tested in ``test_worker`` and ``test_commands``.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from concurrent.futures import ThreadPoolExecutor

import pytest

from gpu_worker.asleep import Asleep
from gpu_worker.config import ModelConfig
from gpu_worker.engine import EngineStartError, ProbeFailedError
from gpu_worker.reports import Identity, report_of
from gpu_worker.resident import Resident
from gpu_worker.serving import NotServingError
from tests.fakes.house import House
from tests.fakes.quick_disk import quick_folder
from tests.fakes.rolling import Faults, RollingEngine, model
from tests.fakes.waiting import until
from wire.errors import SourceUnavailableError

ONE, TWO = model(1), model(2)
DAY_S = 86_400.0


@pytest.fixture
async def house() -> AsyncIterator[House]:
    with ThreadPoolExecutor(4) as executor, quick_folder() as folder:
        yield House(folder, executor)


@pytest.fixture
async def resident(house: House) -> AsyncIterator[Resident]:
    """A model that serves its first revision."""
    house.source.publish(ONE)
    made = house.resident(ModelConfig(model="chat"))
    await made.roller.look()
    assert made.serving.state == "ready"
    yield made
    for engine in house.engines:
        engine.faults.hang = False
        engine.gate.set()
    await made.stop("the end")
    await made.aclose()
    assert all(engine.closed for engine in house.engines)


def serving(resident: Resident) -> RollingEngine:
    engine = resident.serving.engine
    assert isinstance(engine, RollingEngine)
    return engine


async def doze(resident: Resident) -> None:
    await resident.doze(serving(resident))
    assert resident.serving.state == "asleep"


async def ask(resident: Resident) -> str:
    """The revision that answers."""
    with await resident.serving.acquire() as lease:
        return lease.engine.revision


# Sleep


async def test_it_sleeps_at_once_and_wakes_with_the_same_revision(resident: Resident) -> None:
    old = serving(resident)
    await doze(resident)
    assert (old.closed, resident.roller.revision) == (True, ONE.id)
    assert await ask(resident) == ONE.id
    assert resident.wakes == 1
    await resident.roller.look()  # nothing new
    assert serving(resident) is not old


async def test_a_roll_during_a_wake_wins(house: House, resident: Resident) -> None:
    await doze(resident)
    house.faults[ONE.id] = Faults(hang=True)
    asking = asyncio.create_task(ask(resident))
    waking = await house.until_made(2)
    house.source.publish(TWO)
    await resident.roller.look()
    assert await asking == TWO.id
    assert serving(resident).revision == TWO.id
    assert not waking.closed
    waking.release()
    await until(lambda: waking.closed)
    assert serving(resident).revision == TWO.id


async def test_what_sleeps_beyond_the_grace_stays_asleep_and_what_runs_stays_awake(
    house: House, resident: Resident
) -> None:
    house.source.down = SourceUnavailableError("the edge is away")
    house.wall.advance(8 * DAY_S)
    assert resident.pinned
    assert "grace" in await resident.restart()
    await doze(resident)
    with pytest.raises(NotServingError, match="grace"):
        await ask(resident)
    assert resident.serving.state == "asleep"


async def test_a_wake_that_fails_is_the_rollers_to_mend(house: House, resident: Resident) -> None:
    house.source.publish(TWO)
    await resident.roller.look()
    await doze(resident)
    house.faults[TWO.id] = Faults(probe=ProbeFailedError("answers nonsense"))
    with pytest.raises(NotServingError, match="answers nonsense"):
        await ask(resident)
    assert resident.serving.state == "failed"
    resident.begin()
    await until(lambda: resident.serving.state == "ready")
    assert resident.roller.revision == ONE.id
    report = report_of(resident, Identity("w"), None)
    assert report.refused == TWO.id


async def test_who_waits_for_a_wake_that_nobody_thought_could_end_so_is_told(
    house: House, resident: Resident
) -> None:
    await doze(resident)
    house.faults[ONE.id] = Faults(make=OverflowError("odd"))
    async with asyncio.timeout(30):
        with pytest.raises(NotServingError, match="unexpected: OverflowError"):
            await ask(resident)
    assert resident.serving.state == "asleep"
    house.faults.clear()
    assert await ask(resident) == ONE.id


async def test_a_look_that_breaks_is_not_the_last(
    house: House, resident: Resident, monkeypatch: pytest.MonkeyPatch
) -> None:
    look = resident.roller.look
    broken = [RuntimeError("a bug")]

    async def odd() -> None:
        if broken:
            raise broken.pop()
        await look()

    monkeypatch.setattr(resident.roller, "look", odd)
    resident.begin()
    await until(lambda: not broken)
    house.source.publish(TWO)
    resident.look()
    await until(lambda: resident.roller.revision == TWO.id)


async def test_an_engine_that_is_given_up_is_looked_after_at_once(
    house: House, resident: Resident
) -> None:
    before = house.changes
    resident.begin()
    await until(lambda: house.changes > before)
    serving(resident).die("it kept crashing")
    await until(lambda: resident.serving.state == "ready")
    assert len(house.engines) == 2


# Restart


async def test_what_sleeps_need_not_be_restarted(house: House, resident: Resident) -> None:
    await doze(resident)
    assert await resident.restart() == ""
    assert isinstance(resident.serving.engine, Asleep)
    assert len(house.engines) == 1


async def test_a_sleeper_is_pulled_again_and_sleeps_on(house: House, resident: Resident) -> None:
    path = serving(resident).order.path
    await doze(resident)
    path.write_bytes(b"x" * path.stat().st_size)
    assert await resident.restart(fresh_files=True) == ""
    assert path.read_bytes() == ONE.files["model.gguf"]
    assert (resident.serving.state, len(house.engines)) == ("asleep", 1)


async def test_a_sleeper_that_failed_once_must_prove_itself_before_it_sleeps_again(
    house: House, resident: Resident
) -> None:
    await doze(resident)
    house.faults[TWO.id] = Faults(start=EngineStartError("bad luck"))
    house.source.publish(TWO)
    await resident.roller.look()
    with pytest.raises(NotServingError):
        await ask(resident)
    await resident.roller.look()
    assert resident.roller.revision == ONE.id
    await doze(resident)
    house.source.publish(ONE)
    house.source.publish(TWO)  # another pointer, so it is tried at once
    await resident.roller.look()
    assert (resident.serving.state, resident.roller.revision) == ("asleep", ONE.id)
    assert await ask(resident) == ONE.id
