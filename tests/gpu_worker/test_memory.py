from __future__ import annotations

from pathlib import Path

import psutil

from gpu_worker.memory import PLENTY_BYTES, free_memory_bytes


def test_it_is_what_the_kernel_says() -> None:
    assert 0.5 < free_memory_bytes() / psutil.virtual_memory().available < 2


def test_a_kernel_that_says_nothing_leaves_it_to_the_engine(tmp_path: Path) -> None:
    assert free_memory_bytes(tmp_path / "missing") == PLENTY_BYTES
    other = tmp_path / "meminfo"
    other.write_text("MemTotal:  1 kB\n")
    assert free_memory_bytes(other) == PLENTY_BYTES
    other.write_text("MemTotal:  100 kB\nMemAvailable:      50 kB\n")
    assert free_memory_bytes(other) == 51_200
