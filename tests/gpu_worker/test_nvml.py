from __future__ import annotations

import shutil
import subprocess
import threading
from functools import partial
from pathlib import Path

import pytest

from gpu_worker.nvml import MAX_GPUS, NvidiaGpu, NvmlLibrary, nvidia_gpus, visible
from tests.fakes.machines import FakeNvml

_SOURCE = """
#include <string.h>
typedef struct { unsigned long long total, free, used; } memory_t;
static int cards[2] = {0, 1};
static int running = 0;
int nvmlInit_v2(void) { running = 1; return 0; }
int nvmlShutdown(void) { running = 0; return 0; }
int nvmlDeviceGetCount_v2(unsigned *n) { *n = 2; return running ? 0 : 1; }
int nvmlDeviceGetHandleByIndex_v2(unsigned i, void **d) { *d = &cards[i]; return i > 1 ? 2 : 0; }
int nvmlDeviceGetName(int *d, char *to, unsigned size) {
    if (size < 32) return 7;
    strcpy(to, *d ? "NVIDIA Second" : "NVIDIA First");
    return 0;
}
int nvmlDeviceGetUUID(int *d, char *to, unsigned size) {
    strcpy(to, *d ? "GPU-b" : "GPU-a");
    return 0;
}
int nvmlDeviceGetMemoryInfo(int *d, memory_t *m) {
    m->total = 25757220864ull; m->free = *d ? 1000ull : 25000000000ull; m->used = 0;
    return 0;
}
int nvmlDeviceGetMaxClockInfo(int *d, int kind, unsigned *mhz) {
    *mhz = kind == 2 ? 10501 : 1;
    return 0;
}
#ifdef NEW
int nvmlDeviceGetMemoryBusWidth(int *d, unsigned *bits) { *bits = 384; return 0; }
#endif
"""


@pytest.fixture(scope="module")
def build(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with two drivers, compiled here: a new one, and one that lacks a function."""
    compiler = shutil.which("cc")
    if compiler is None:
        pytest.skip("no C compiler")
    folder = tmp_path_factory.mktemp("nvml")
    (folder / "nvml.c").write_text(_SOURCE)
    for name, more in (("new", ["-DNEW"]), ("old", [])):
        command = [compiler, "-shared", "-fPIC", "-o", f"{name}.so", *more, "nvml.c"]
        subprocess.run(command, cwd=folder, check=True)
    return folder


def test_a_library_of_the_right_interface_is_read(build: Path) -> None:
    first, second = nvidia_gpus(lambda: NvmlLibrary(str(build / "new.so")))
    assert first == NvidiaGpu(
        index=0,
        name="NVIDIA First",
        uuid="GPU-a",
        memory_bytes=25_757_220_864,
        free_bytes=25_000_000_000,
        bandwidth=10_501 * 2e6 * 48,
    )
    assert (second.name, second.free_bytes) == ("NVIDIA Second", 1_000)


def test_an_older_driver_does_not_know_the_bandwidth(build: Path) -> None:
    found = nvidia_gpus(lambda: NvmlLibrary(str(build / "old.so")))
    assert [gpu.bandwidth for gpu in found] == [0.0, 0.0]


def test_without_a_driver_there_are_no_gpus() -> None:
    assert nvidia_gpus(lambda: NvmlLibrary("libno-such-driver.so.1")) == ()


def test_a_driver_that_refuses_has_no_gpus() -> None:
    for call in ("start", "memory"):
        driver = FakeNvml(gpus=[("G", 2, 1)], fails=frozenset({call}))
        assert nvidia_gpus(partial(_same, driver)) == ()
        assert driver.started == 0


def _same(driver: FakeNvml) -> FakeNvml:
    return driver


def test_a_driver_that_hangs_is_given_up() -> None:
    hangs = threading.Event()
    driver = FakeNvml(gpus=[("G", 2, 1)], hangs=hangs)
    with pytest.raises(TimeoutError, match=r"0\.01 s"):
        nvidia_gpus(lambda: driver, timeout_s=0.01)
    hangs.set()


def test_a_gpu_that_is_lost_does_not_hide_the_others() -> None:
    driver = FakeNvml(gpus=[("A", 2, 1), ("B", 2, 1)], lost=frozenset({0}))
    assert [(gpu.index, gpu.name) for gpu in nvidia_gpus(lambda: driver)] == [(1, "B")]


def test_a_driver_is_not_believed_to_have_any_number() -> None:
    driver = FakeNvml(gpus=[("G", 2, 1)], claims=4_000_000_000)
    assert len(nvidia_gpus(lambda: driver)) == MAX_GPUS


def test_what_cuda_is_told_to_see() -> None:
    driver = FakeNvml(gpus=[("A", 2, 1), ("B", 2, 1), ("C", 2, 1)])
    gpus = nvidia_gpus(lambda: driver)
    for wanted, left in (
        (None, "ABC"),
        ("", ""),
        ("-1", ""),
        ("1", "B"),
        ("2, 0", "CA"),
        ("0,7,1", "A"),
        ("GPU-00000001", "B"),
        ("1,1", "B"),
    ):
        assert "".join(gpu.name for gpu in visible(gpus, wanted)) == left
