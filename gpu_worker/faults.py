"""What ended an engine, by name (``wire.workers.Fault``): from its exit, its log and the kernel's
count of processes that it killed for memory. Only :func:`oom_kills` reads anything.

What a worker counts (:data:`Ending`) knows one name more than what it reports: edges and origins of
before refuse a report with a name that they do not know.
"""

from __future__ import annotations

import re
import signal
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal, get_args

from wire.workers import Fault

Ending = Literal["crashed", "gpu", "hung", "out_of_memory", "bad_file", "probe_failed"]
"""How an engine ended, for its count; ``gpu``: it crashed, and said that the GPU failed it."""
ENDINGS: tuple[Ending, ...] = get_args(Ending)

_LAST_LINES = 40
"""What an engine says long before its end did not end it."""
_NO_MEMORY = re.compile(
    r"insufficient memory|failed to allocate|unable to allocate|cannot allocate memory"
    r"|cudaMalloc failed|out of memory|OutOfMemory|OutOfDeviceMemory|OutOfHostMemory"
    r"|std::bad_alloc|\bMemoryError\b|No available memory for the cache blocks",
    re.IGNORECASE,
)
_HARMLESS = re.compile(r"pinned memory|huge ?page", re.IGNORECASE)
"""An engine does without these."""
_BAD_FILE = re.compile(
    r"error loading model|failed to load model|SafetensorError|Error while deserializing"
    r"|architectures .* are not supported|does not recognize this architecture"
    r"|not a valid JSON file|config\.json"
)
_GPU = re.compile(
    r"(CUDA|ROCm|HIP|NCCL) error|CUDA_ERROR_\w|CUBLAS_STATUS_\w|cudaError\w|hipError\w"
    r"|no CUDA-capable device|device-side assert|uncorrectable ECC|ErrorDeviceLost|DEVICE_LOST"
)
"""As ggml, vLLM with PyTorch, and Vulkan say it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class End:
    """How a child ended."""

    condemned: Fault = ""
    """Why we killed it, where we did."""
    returncode: int | None = None
    """As of ``subprocess``: minus the signal that ended it."""
    loading: bool = False
    """Whether it had not been ready yet."""
    timed_out: bool = False
    """Whether it was not ready in time."""
    oom_kills: int = 0
    """Processes around it that the kernel has killed for memory since it started."""
    log: Sequence[str] = ()


def name_fault(end: End) -> Fault:
    """The name. Memory is asked first: it is also why a good file does not load."""
    if end.condemned:
        return end.condemned
    log = [line for line in end.log[-_LAST_LINES:] if not _HARMLESS.search(line)]
    if end.returncode == -signal.SIGKILL and end.oom_kills:
        return "out_of_memory"
    if any(map(_NO_MEMORY.search, log)):
        return "out_of_memory"
    if end.timed_out:
        return "hung"
    if end.loading and any(map(_BAD_FILE.search, log)):
        return "bad_file"
    return "crashed"


def ending_of(fault: Fault, log: Sequence[str]) -> Ending:
    """How an end with this name and these last lines is counted."""
    if fault == "crashed" and any(map(_GPU.search, log[-_LAST_LINES:])):
        return "gpu"
    return fault or "crashed"


@dataclass(slots=True)
class Tally:
    """What has become of the engines of one model since the worker began."""

    endings: Counter[Ending] = field(default_factory=Counter)
    """Engines that ended by themselves, had to be ended, or failed their probe."""
    restarts: int = 0
    """Starts of an engine after its end, whether they came up or not."""


def telling(log: Sequence[str]) -> str:
    """The first of the last lines that says what was wrong; empty where none does."""
    lines = (line for line in log[-_LAST_LINES:] if not _HARMLESS.search(line))
    return next((line for line in lines if _NO_MEMORY.search(line) or _BAD_FILE.search(line)), "")


def oom_kills(root: Path = Path("/")) -> int:
    """How often the kernel has killed a process for memory: in our control group (version 2, then
    1) where that is counted, else on this machine; 0 where nobody says.

    Sources: Linux ``admin-guide/cgroup-v2.rst`` (``memory.events``), ``cgroup-v1/memory.rst``
    (``memory.oom_control``), ``proc_vmstat(5)``.
    """
    for path in (*_group_files(root), root / "proc/vmstat"):
        for line in _lines(path):
            name, _, count = line.partition(" ")
            if name == "oom_kill" and count.isdecimal():
                return int(count)
    return 0


def _group_files(root: Path) -> list[Path]:
    """Where our control group counts, one or none."""
    found = []
    for line in _lines(root / "proc/self/cgroup"):
        _, _, rest = line.partition(":")
        controllers, _, group = rest.partition(":")
        inside = group.lstrip("/")
        if not controllers:
            found.append(root / "sys/fs/cgroup" / inside / "memory.events")
        elif "memory" in controllers.split(","):
            found.append(root / "sys/fs/cgroup/memory" / inside / "memory.oom_control")
    return found


def _lines(path: Path) -> list[str]:
    try:
        return path.read_text(errors="replace").splitlines()
    except OSError:
        return []
