from __future__ import annotations

from collections.abc import AsyncIterator
from concurrent.futures import ThreadPoolExecutor

import pytest
from prometheus_client import CollectorRegistry

from gpu_worker.config import ModelConfig
from gpu_worker.engine import ProbeFailedError
from gpu_worker.faults import ENDINGS
from gpu_worker.resident_metrics import ResidentMetrics
from tests.fakes.house import House
from tests.fakes.quick_disk import quick_folder
from tests.fakes.rolling import Faults, model

ONE = model(1)
NAME = {"model": "chat"}


@pytest.fixture
async def house() -> AsyncIterator[House]:
    with ThreadPoolExecutor(4) as executor, quick_folder() as folder:
        yield House(folder, executor, budget_bytes=5_000)


async def test_what_becomes_of_engines_is_counted_from_zero_on(house: House) -> None:
    resident = house.resident(ModelConfig(model="chat"))
    registry = CollectorRegistry()
    ResidentMetrics(registry, [resident], house.household.keeper)
    value = registry.get_sample_value
    name = "headwater_worker_engine_endings_total"
    for kind in ENDINGS:
        assert value(name, {**NAME, "kind": kind}) == 0
    house.source.publish(ONE)
    house.faults[ONE.id] = Faults(probe=ProbeFailedError("nonsense"))
    await resident.roller.look()
    assert value(name, {**NAME, "kind": "probe_failed"}) == 1
    house.engines[0].order.tally.restarts += 1
    assert value("headwater_worker_engine_restarts_total", NAME) == 1
    await resident.aclose()


async def test_it_counts_memory_wakes_and_unloads(house: House) -> None:
    house.source.publish(ONE)
    resident = house.resident(ModelConfig(model="chat"))
    registry = CollectorRegistry()
    ResidentMetrics(registry, [resident], house.household.keeper)
    value = registry.get_sample_value
    assert value("headwater_worker_memory_budget_bytes") == 5_000
    assert value("headwater_worker_model_memory_bytes", NAME) == 0
    await resident.roller.look()
    size = len(ONE.files["model.gguf"])
    assert value("headwater_worker_model_memory_bytes", NAME) == int(size * 1.3)
    engine = resident.serving.engine
    assert engine is not None
    await resident.doze(engine)
    assert value("headwater_worker_model_memory_bytes", NAME) == 0
    (await resident.serving.acquire()).release()
    assert value("headwater_worker_model_wakes_total", NAME) == 1
    assert value("headwater_worker_unloads_total") == 0
    await resident.stop("the end")
    await resident.aclose()
