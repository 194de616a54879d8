from __future__ import annotations

import pytest

from gpu_worker.hardware_table import PRESETS, by_device_name, preset
from wire.errors import ConfigError

ASKED_FOR = {
    "rtx3060-12", "rtx4070", "rtx4090", "rtx5090", "l4", "l40s", "a10g", "t4", "a100-40", "a100-80",
    "h100", "h200", "b200", "mi300x", "m2-max", "m4-max", "cpu-laptop", "cpu-desktop", "cpu-server",
}  # fmt: skip


def test_every_machine_has_its_figures_and_their_source() -> None:
    assert PRESETS.keys() == ASKED_FOR
    for row in PRESETS.values():
        assert 8 << 30 < row.memory_bytes < 1 << 40
        assert 50 < row.bandwidth_gbs < 10_000
        assert 10 < row.watts <= 1_000
        assert len(row.source) > 10
        assert (row.tflops == 0) == (row.kind != "gpu")


def test_a_card_stands_in_a_machine_with_main_memory() -> None:
    machine = preset("RTX4090").hardware()
    assert machine.gpus[0].memory_bytes == machine.gpus[0].free_bytes == 24_564 << 20
    assert machine.gpus[0].bandwidth == 1.008e12
    assert machine.ram_bytes == 64 << 30
    assert preset("rtx4090").hardware(ram_bytes=1 << 30).ram_bytes == 1 << 30


def test_unified_memory_is_one() -> None:
    machine = preset("m4-max").hardware()
    assert machine.unified
    assert machine.gpus[0].memory_bytes == machine.ram_bytes == 128 << 30
    smaller = preset("m4-max").hardware(ram_bytes=36 << 30)
    assert smaller.gpus[0].memory_bytes == smaller.ram_bytes == 36 << 30


def test_a_processor_has_main_memory_only() -> None:
    machine = preset("cpu-server").hardware()
    assert (machine.gpus, machine.ram_bytes, machine.ram_bandwidth) == ((), 384 << 30, 460.8e9)


def test_others_are_refused_with_all_that_are_known() -> None:
    with pytest.raises(ConfigError, match="'abacus' is known; known: rtx3060-12, rtx4070"):
        preset("abacus")


def test_a_driver_names_its_device_exactly() -> None:
    found = by_device_name("NVIDIA GeForce RTX 4090")
    assert found is not None
    assert found.key == "rtx4090"
    assert by_device_name("NVIDIA GeForce RTX 4070 Ti SUPER") is None
    assert by_device_name("96 cores, DDR5-4800, 12 channels") is None
