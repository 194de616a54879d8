from __future__ import annotations

from collections.abc import AsyncIterator
from concurrent.futures import ThreadPoolExecutor

import pytest
from prometheus_client import CollectorRegistry

from gpu_worker.config import ModelConfig
from gpu_worker.resident_metrics import ResidentMetrics
from tests.fakes.house import House
from tests.fakes.quick_disk import quick_folder
from tests.fakes.rolling import model

ONE = model(1)
NAME = {"model": "chat"}


@pytest.fixture
async def house() -> AsyncIterator[House]:
    with ThreadPoolExecutor(4) as executor, quick_folder() as folder:
        yield House(folder, executor, budget_bytes=5_000)


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
