"""gpu_worker.faults: names for ends, and where the kernel counts those it kills for memory."""

from __future__ import annotations

import signal
from pathlib import Path

import pytest

from gpu_worker.faults import ENDINGS, End, ending_of, name_fault, oom_kills, telling
from wire.workers import Fault

# As the engines were seen to say it.
UNKNOWN = "E llama_model_load: error loading model: unknown model architecture: 'nosuch'"
NO_MEMORY = "E ggml_aligned_malloc: insufficient memory (attempted to allocate 4882.81 MB)"
PINNED = "W ggml_cuda_host_malloc: failed to allocate 512 MiB of pinned memory: out of memory"


@pytest.mark.parametrize(
    ("end", "fault"),
    [
        (End(returncode=-signal.SIGSEGV), "crashed"),
        (End(returncode=-signal.SIGABRT, log=["GGML_ASSERT(eps >= 0) failed"]), "crashed"),
        (End(returncode=0), "crashed"),
        (End(returncode=-signal.SIGKILL), "crashed"),
        (End(returncode=-signal.SIGKILL, oom_kills=1), "out_of_memory"),
        (End(returncode=-signal.SIGSEGV, oom_kills=1), "crashed"),
        (End(returncode=-signal.SIGKILL, oom_kills=1, condemned="hung"), "hung"),
        (End(returncode=1, loading=True, log=[UNKNOWN]), "bad_file"),
        (End(returncode=1, log=[UNKNOWN]), "crashed"),
        (End(returncode=1, loading=True, log=["error: invalid argument: --no-ui"]), "crashed"),
        (End(returncode=1, loading=True, log=[NO_MEMORY, UNKNOWN]), "out_of_memory"),
        (End(returncode=1, log=[PINNED]), "crashed"),
        (End(returncode=1, log=[NO_MEMORY, *["later"] * 100]), "crashed"),
        (End(loading=True, timed_out=True), "hung"),
        (End(loading=True, timed_out=True, log=[NO_MEMORY]), "out_of_memory"),
    ],
)
def test_an_end_has_a_name(end: End, fault: Fault) -> None:
    assert name_fault(end) == fault


@pytest.mark.parametrize(
    "line",
    [
        "terminate called after throwing an instance of 'std::bad_alloc'",
        "MemoryError",
        "CUDA error: out of memory",
        "ggml_backend_cuda_buffer_type_alloc_buffer: allocating 900.00 MiB on device 0: "
        "cudaMalloc failed: out of memory",
        "torch.OutOfMemoryError: CUDA out of memory. Tried to allocate 20.00 MiB",
        "ValueError: No available memory for the cache blocks.",
        "ggml_vulkan: Device memory allocation failed: ErrorOutOfDeviceMemory",
        "llama_model_load: error loading model: mmap failed: Cannot allocate memory",
    ],
)
def test_what_engines_say_when_memory_ends_is_known(line: str) -> None:
    assert name_fault(End(returncode=1, loading=True, log=[line])) == "out_of_memory"


@pytest.mark.parametrize(
    "line",
    [
        "CUDA error: an illegal memory access was encountered",
        "ROCm error: unspecified launch failure",
        "RuntimeError: CUDA error: device-side assert triggered",
        "torch.distributed.DistBackendError: NCCL error in: ProcessGroupNCCL.cpp:2395",
        "terminate called after throwing an instance of 'vk::DeviceLostError': ErrorDeviceLost",
        "ggml_cuda_init: failed to initialize CUDA: no CUDA-capable device is detected",
        "RuntimeError: CUDA error: uncorrectable ECC error encountered",
        "cuBLAS: CUBLAS_STATUS_EXECUTION_FAILED",
    ],
)
def test_a_crash_for_which_the_gpu_is_to_blame_is_counted_apart(line: str) -> None:
    assert ending_of("crashed", ["loading", line, "Aborted"]) == "gpu"
    assert ending_of("out_of_memory", [line]) == "out_of_memory"
    assert ending_of("hung", [line]) == "hung"
    assert ending_of("crashed", [line, *["later"] * 100]) == "crashed"


def test_other_words_of_a_gpu_are_no_fault_of_it() -> None:
    log = [PINNED, "ggml_cuda_init: found 1 CUDA devices", "GGML_ASSERT(eps >= 0) failed"]
    assert ending_of("crashed", log) == "crashed"


def test_every_name_of_an_end_is_one_that_is_counted() -> None:
    faults: list[Fault] = ["crashed", "hung", "out_of_memory", "bad_file", "probe_failed"]
    assert [ending_of(fault, []) for fault in faults] == faults
    assert {*faults, "gpu"} == set(ENDINGS)


def test_the_line_that_tells_is_found_among_the_others() -> None:
    assert telling(["loading", PINNED, NO_MEMORY, UNKNOWN, "exiting"]) == NO_MEMORY
    assert telling(["loading", "exiting"]) == ""


def tree(root: Path, files: dict[str, str]) -> Path:
    for name, text in files.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(text)
    return root


VMSTAT = "nr_free_pages 1\noom_kill 9\n"


@pytest.mark.parametrize(
    ("files", "count"),
    [
        (
            {
                "proc/self/cgroup": "0::/pods/a\n",
                "sys/fs/cgroup/pods/a/memory.events": "low 0\noom 3\noom_kill 2\n",
                "proc/vmstat": VMSTAT,
            },
            2,
        ),
        (
            {
                "proc/self/cgroup": "5:cpu,memory:/pods/a\n0::/\n",
                "sys/fs/cgroup/memory/pods/a/memory.oom_control": "under_oom 0\noom_kill 4\n",
                "proc/vmstat": VMSTAT,
            },
            4,
        ),
        ({"proc/self/cgroup": "0::/gone\n", "proc/vmstat": VMSTAT}, 9),
        ({"proc/vmstat": "oom_kill many\n"}, 0),
        ({}, 0),
    ],
    ids=["version 2", "version 1", "no group", "nonsense", "nothing"],
)
def test_kills_for_memory_are_counted_where_they_are_known(
    tmp_path: Path, files: dict[str, str], count: int
) -> None:
    assert oom_kills(tree(tmp_path, files)) == count
