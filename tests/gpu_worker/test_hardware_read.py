from __future__ import annotations

import os
from dataclasses import replace

import psutil
import pytest
from hypothesis import given
from hypothesis import strategies as st

from gpu_worker.hardware import GPU_REACHES, HBM_REACHES, UNBOUNDED, Hardware
from gpu_worker.hardware_read import (
    cpu_name,
    group_folders,
    measure_ram_bandwidth,
    meminfo_bytes,
    read_hardware,
    this_machine,
)
from gpu_worker.nvml import NvidiaGpu
from tests.fakes.machines import GIB, linux, mac

GPU = NvidiaGpu(
    index=0, name="NVIDIA L4", uuid="GPU-1", memory_bytes=24 * GIB, free_bytes=20 * GIB,
    bandwidth=1e9,
)  # fmt: skip


def test_this_machine_is_what_others_say_of_it() -> None:
    found = read_hardware()
    memory = psutil.virtual_memory()
    assert found.ram_bytes <= memory.total
    assert 0.5 < found.ram_free_bytes / min(memory.available, found.ram_bytes) < 2
    assert found.cores == len(os.sched_getaffinity(0))
    assert this_machine().sysctl("hw.memsize") is None or found.unified


def test_a_plain_machine() -> None:
    assert read_hardware(linux()) == Hardware(
        name="Test CPU 9000",
        cpu="Test CPU 9000",
        cores=8,
        ram_bytes=16 * GIB,
        ram_free_bytes=12 * GIB,
    )


def test_a_machine_that_tells_nothing_is_left_to_the_engine() -> None:
    found = read_hardware(linux({"/proc/meminfo": "", "/proc/cpuinfo": ""}))
    assert (found.name, found.ram_free_bytes) == ("this machine", UNBOUNDED.ram_free_bytes)


def test_a_limit_of_the_control_group_is_the_memory() -> None:
    group = "/sys/fs/cgroup/pod/box"
    files = {
        "/proc/self/cgroup": "0::/pod/box\n",
        f"{group}/memory.max": f"{8 * GIB}\n",
        f"{group}/memory.current": f"{5 * GIB}\n",
        f"{group}/memory.stat": f"anon 1\ninactive_file {3 * GIB}\nactive_file 7\n",
    }
    found = read_hardware(linux(files))
    assert (found.ram_bytes, found.ram_free_bytes) == (8 * GIB, 6 * GIB)
    # The group above has less yet.
    files["/sys/fs/cgroup/pod/memory.max"] = f"{4 * GIB}"
    files["/sys/fs/cgroup/pod/memory.current"] = f"{9 * GIB}"
    assert read_hardware(linux(files)).ram_free_bytes == 0
    assert read_hardware(linux(files)).ram_bytes == 4 * GIB


def test_a_group_without_a_limit_or_above_the_machine_does_not_count() -> None:
    for limit in ("max", str(9_223_372_036_854_771_712), "", "-5", "x"):
        files = {"/proc/self/cgroup": "0::/", "/sys/fs/cgroup/memory.max": limit}
        assert read_hardware(linux(files)).ram_bytes == 16 * GIB


def test_the_first_version_of_control_groups() -> None:
    root = "/sys/fs/cgroup/memory"
    files = {
        "/proc/self/cgroup": "5:cpu:/a\n4:memory,x:/not/in/this/container\n",
        f"{root}/memory.limit_in_bytes": f"{2 * GIB}",
        f"{root}/memory.usage_in_bytes": f"{GIB}",
        f"{root}/memory.stat": f"total_inactive_file {GIB // 2}",
    }
    found = read_hardware(linux(files))
    assert (found.ram_bytes, found.ram_free_bytes) == (2 * GIB, 3 * GIB // 2)


def test_groups_are_the_own_one_and_those_above() -> None:
    assert group_folders("0::/a/b\n1:name=systemd:/c\n") == [
        ("2", "/sys/fs/cgroup/a/b"),
        ("2", "/sys/fs/cgroup/a"),
        ("2", "/sys/fs/cgroup"),
    ]
    assert group_folders("0::/../../etc") == [("2", "/sys/fs/cgroup")]


@given(st.text(max_size=100))
def test_no_text_of_a_kernel_is_an_error(text: str) -> None:
    files = dict.fromkeys(("/proc/cpuinfo", "/proc/self/cgroup", "/sys/fs/cgroup/memory.max"), text)
    read_hardware(linux(files))
    cpu_name(text)
    meminfo_bytes(text)


def test_gpus_bring_their_free_memory_and_what_the_table_knows() -> None:
    found = read_hardware(linux(gpus=(GPU,)))
    assert found.name == "NVIDIA L4"
    assert (found.gpus[0].free_bytes, found.gpus[0].bandwidth) == (20 * GIB, 300e9)
    assert not found.unified
    two = read_hardware(linux(gpus=(GPU, GPU), environ={"CUDA_VISIBLE_DEVICES": "0"}))
    assert len(two.gpus) == 1


@pytest.mark.parametrize(
    ("name", "bandwidth", "reaches"),
    [
        ("NVIDIA GeForce RTX 6090", 2e12, GPU_REACHES),
        ("NVIDIA X900", 2e12, HBM_REACHES),
        ("NVIDIA L5", 4e11, GPU_REACHES),
    ],
)
def test_an_unknown_gpu_is_judged_by_its_memory(
    name: str, bandwidth: float, reaches: float
) -> None:
    gpu = NvidiaGpu(
        index=0, name=name, uuid="u", memory_bytes=1, free_bytes=1, bandwidth=bandwidth
    )  # fmt: skip
    found = read_hardware(linux(gpus=(gpu,))).gpus[0]
    assert (found.bandwidth, found.reaches) == (bandwidth, reaches)


def test_a_driver_that_hangs_is_noted() -> None:
    def hang() -> tuple[NvidiaGpu, ...]:
        raise TimeoutError("the NVIDIA driver did not answer within 5 s")

    found = read_hardware(replace(linux(), gpus=hang))
    assert found.gpus == ()
    assert found.note == "the NVIDIA driver did not answer within 5 s; going on without GPUs"


def test_a_mac_has_one_memory() -> None:
    found = read_hardware(mac("Apple M4 Max", 64 * GIB))
    assert found.unified
    assert (found.ram_bytes, found.gpus[0].memory_bytes) == (64 * GIB, 64 * GIB)
    assert found.gpus[0].bandwidth == found.ram_bandwidth == 546e9
    assert read_hardware(mac("Apple M9", GIB)).gpus[0].bandwidth == 0.0
    assert read_hardware(mac("Intel(R) Core(TM) i9", GIB)).gpus == ()


def test_copying_shows_the_bandwidth() -> None:
    ticks = iter([0.0, 1.0, 1.0, 1.5, 2.0, 3.0, 3.0, 4.0])
    assert measure_ram_bandwidth(lambda: next(ticks)) == 2 * (64 << 20) / 0.5
