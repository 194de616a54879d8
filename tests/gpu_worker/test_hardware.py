from __future__ import annotations

from dataclasses import replace

import pytest

from gpu_worker.hardware import CORE_READS, UNBOUNDED, Gpu, Hardware

CARD = Gpu(name="G", memory_bytes=24, free_bytes=20, bandwidth=1_000.0, reaches=0.5)
MACHINE = Hardware(name="M", ram_bytes=64, ram_free_bytes=60, gpus=(CARD,))


def test_one_gpu_gives_what_it_reaches() -> None:
    assert MACHINE.gpu_bandwidth == 500.0
    assert UNBOUNDED.gpu_bandwidth == 0.0


def test_gpus_read_one_after_the_other() -> None:
    slower = replace(CARD, bandwidth=500.0)
    two = replace(MACHINE, gpus=(CARD, slower))
    assert two.gpu_bandwidth == pytest.approx(2 * 24 / (24 / 500 + 24 / 250))
    assert replace(MACHINE, gpus=(CARD, CARD)).gpu_bandwidth == pytest.approx(500.0)
    assert replace(MACHINE, gpus=(CARD, replace(CARD, bandwidth=0.0))).gpu_bandwidth == 0.0


def test_few_cores_do_not_use_all_the_bandwidth() -> None:
    wide = replace(MACHINE, ram_bandwidth=1e11, ram_reaches=0.5, cores=16)
    assert wide.ram_speed == 5e10
    assert replace(wide, cores=3).ram_speed == 2 * CORE_READS
    assert replace(wide, cores=1).ram_speed == CORE_READS
    assert MACHINE.ram_speed == 0.0


def test_an_engine_may_be_blind_to_gpus() -> None:
    blind = replace(MACHINE, unified=True).without_gpus()
    assert (blind.gpus, blind.unified, blind.ram_bytes) == ((), False, 64)
