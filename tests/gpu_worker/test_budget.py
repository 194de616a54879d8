from __future__ import annotations

from gpu_worker.budget import budget_of, within
from gpu_worker.config import WorkerConfig
from gpu_worker.hardware import Gpu, Hardware

RAM = Hardware(name="ram", ram_bytes=100, ram_free_bytes=80)
GPUS = Hardware(
    name="gpus",
    ram_bytes=100,
    ram_free_bytes=80,
    gpus=(
        Gpu(name="one", memory_bytes=40, free_bytes=30),
        Gpu(name="two", memory_bytes=40, free_bytes=10),
    ),
)
CONFIG = WorkerConfig(memory_share=0.5)


def test_what_is_configured_holds() -> None:
    config = WorkerConfig(memory_budget_bytes=7)
    assert [budget_of(config, models, GPUS, 50) for models in (1, 2)] == [7, 7]


def test_one_model_alone_has_no_budget() -> None:
    assert budget_of(CONFIG, 1, RAM, 50) is None


def test_several_share_what_is_free_of_the_memory_that_decides() -> None:
    assert budget_of(CONFIG, 2, RAM, 50) == 25
    assert budget_of(CONFIG, 2, RAM, 1 << 62) == 40
    assert budget_of(CONFIG, 2, GPUS, 50) == 20


def test_a_model_sees_no_more_of_the_machine_than_the_budget() -> None:
    assert within(RAM, None) == RAM
    assert within(RAM, 30).ram_free_bytes == 30
    assert within(RAM, 90).ram_free_bytes == 80
    assert [gpu.free_bytes for gpu in within(GPUS, 20).gpus] == [15, 5]
    assert within(GPUS, 1_000) == GPUS
