"""Reads the hardware of this machine: processor, memory, GPUs.

What the kernel says is read through a :class:`Machine`, so that any machine can be played; the rest
are functions of text. Memory is what this process may have: a limit of its control group (v2, or
v1) counts, and of what is in use only what cannot be dropped.
"""

from __future__ import annotations

import ctypes
import math
import os
import re
import sys
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath

from gpu_worker.hardware import (
    GPU_REACHES,
    HBM_REACHES,
    UNBOUNDED,
    UNIFIED_REACHES,
    Gpu,
    Hardware,
)
from gpu_worker.hardware_table import by_device_name
from gpu_worker.nvml import NvidiaGpu, nvidia_gpus, visible

_MAX_TEXT_BYTES = 4 * 1024 * 1024
_HBM_BANDWIDTH = 1.4e12
"""Bytes per second; a data-centre GPU of stacked memory has more, a server card of GDDR less."""


def _no_gpus() -> tuple[NvidiaGpu, ...]:
    return ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Machine:
    """Where the facts come from.

    ``read`` gives a file's text, or raises ``OSError``; ``sysctl`` a value by name (macOS).
    """

    platform: str
    read: Callable[[str], str]
    sysctl: Callable[[str], bytes | None]
    cores: int
    gpus: Callable[[], tuple[NvidiaGpu, ...]] = _no_gpus
    environ: Mapping[str, str] = field(default_factory=dict)


def this_machine() -> Machine:
    """The machine that this process runs on."""
    affinity = getattr(os, "sched_getaffinity", None)
    return Machine(
        platform=sys.platform,
        read=_read,
        sysctl=_sysctl,
        cores=len(affinity(0)) if affinity is not None else os.cpu_count() or 1,
        gpus=nvidia_gpus,
        environ=os.environ,
    )


def read_hardware(machine: Machine | None = None) -> Hardware:
    """What a machine offers. Blocking, for some milliseconds; for seconds where a driver hangs."""
    machine = machine or this_machine()
    if machine.platform == "darwin":
        return _apple(machine)
    total, free = _memory(machine)
    cpu = cpu_name(_text(machine, "/proc/cpuinfo"))
    found, note = _gpus(machine)
    gpus = visible(found, machine.environ.get("CUDA_VISIBLE_DEVICES"))
    names = ", ".join(dict.fromkeys(gpu.name for gpu in gpus))
    return Hardware(
        name=names or cpu or "this machine",
        cpu=cpu,
        cores=machine.cores,
        ram_bytes=total,
        ram_free_bytes=free,
        gpus=tuple(_gpu(gpu) for gpu in gpus),
        note=note,
    )


def cpu_name(cpuinfo: str) -> str:
    """The first processor's name in ``/proc/cpuinfo``; empty where it has none (many ARMs)."""
    match = re.search(r"^(?:model name|Model)\s*:\s*(.{1,200})$", cpuinfo, re.MULTILINE)
    return match[1].strip() if match else ""


def meminfo_bytes(meminfo: str) -> tuple[int, int]:
    """``MemTotal`` and ``MemAvailable`` (proc(5)) in bytes; 0 where they are missing."""
    found = dict(re.findall(r"^(MemTotal|MemAvailable):\s+(\d{1,15}) kB$", meminfo, re.MULTILINE))
    return int(found.get("MemTotal", 0)) * 1024, int(found.get("MemAvailable", 0)) * 1024


def group_folders(cgroup: str) -> list[tuple[str, str]]:
    """The folders that may limit this process, each after its version, from ``/proc/self/cgroup``
    (cgroups(7)): its own group and all above it, up to the root, which is a container's own."""
    found: list[tuple[str, str]] = []
    for line in cgroup.splitlines():
        number, _, rest = line.partition(":")
        controllers, _, path = rest.partition(":")
        if number == "0" and not controllers:
            version, root = "2", "/sys/fs/cgroup"
        elif "memory" in controllers.split(","):
            version, root = "1", "/sys/fs/cgroup/memory"
        else:
            continue
        own = PurePosixPath("/" + path.lstrip("/"))
        groups = [group for group in (own, *own.parents) if ".." not in group.parts]
        found.extend((version, f"{root}{group}".rstrip("/")) for group in groups)
    return found


def measure_ram_bandwidth(clock: Callable[[], float] = time.perf_counter) -> float:
    """Bytes per second that one core reads and writes, by copying 64 MiB a few times: less than all
    cores together can, but of this machine. Takes about 0.1 s."""
    source, target = bytearray(64 << 20), bytearray(64 << 20)
    best = math.inf
    for _ in range(4):
        start = clock()
        target[:] = source
        best = min(best, clock() - start)
    return 2 * len(source) / best if best > 0 else 0.0


def _gpus(machine: Machine) -> tuple[tuple[NvidiaGpu, ...], str]:
    try:
        return machine.gpus(), ""
    except TimeoutError as error:
        return (), f"{error}; going on without GPUs"


def _memory(machine: Machine) -> tuple[int, int]:
    """Bytes in all, and bytes that could be had without swapping."""
    total, free = meminfo_bytes(_text(machine, "/proc/meminfo"))
    if not total:
        return UNBOUNDED.ram_bytes, UNBOUNDED.ram_free_bytes
    for version, folder in group_folders(_text(machine, "/proc/self/cgroup")):
        limit, used = _group(machine, version, folder)
        if limit is not None and limit < total:
            total = limit
            free = min(free, max(limit - used, 0))
    return total, free


def _group(machine: Machine, version: str, folder: str) -> tuple[int | None, int]:
    """A control group's limit, None where it has none, and what it uses and cannot drop."""
    names = {
        "2": ("memory.max", "memory.current", "inactive_file"),
        "1": ("memory.limit_in_bytes", "memory.usage_in_bytes", "total_inactive_file"),
    }[version]
    limit, used = (_number(_text(machine, f"{folder}/{name}")) for name in names[:2])
    statistics = _text(machine, f"{folder}/memory.stat")
    match = re.search(rf"^{names[2]} (\d{{1,19}})$", statistics, re.MULTILINE)
    return limit, max((used or 0) - (int(match[1]) if match else 0), 0)


def _apple(machine: Machine) -> Hardware:
    """Of a Mac: its memory is its GPU's too, except on those with an Intel processor."""
    name = (
        (machine.sysctl("machdep.cpu.brand_string") or b"").rstrip(b"\0").decode("utf-8", "replace")
    )
    total = int.from_bytes((machine.sysctl("hw.memsize") or b"")[:8], "little")
    total = total or UNBOUNDED.ram_bytes
    row = by_device_name(name)
    bandwidth = row.bandwidth_gbs * 1e9 if row else 0.0
    unified = name.startswith("Apple")
    gpu = Gpu(
        name=name, memory_bytes=total, free_bytes=total, bandwidth=bandwidth,
        reaches=UNIFIED_REACHES,
    )  # fmt: skip
    return Hardware(
        name=name or "this Mac",
        cpu=name,
        cores=machine.cores,
        ram_bytes=total,
        ram_free_bytes=total,
        ram_bandwidth=bandwidth,
        gpus=(gpu,) if unified else (),
        unified=unified,
    )


def _gpu(found: NvidiaGpu) -> Gpu:
    """What the table knows of it stands over what clock and bus give."""
    row = by_device_name(found.name)
    bandwidth = row.bandwidth_gbs * 1e9 if row else found.bandwidth
    guess = HBM_REACHES if bandwidth > _HBM_BANDWIDTH and "GeForce" not in found.name else None
    return Gpu(
        name=found.name,
        memory_bytes=found.memory_bytes,
        free_bytes=found.free_bytes,
        bandwidth=bandwidth,
        reaches=row.reaches if row else guess or GPU_REACHES,
    )


def _text(machine: Machine, path: str) -> str:
    try:
        return machine.read(path)
    except OSError:
        return ""


def _number(text: str) -> int | None:
    text = text.strip()
    return int(text) if re.fullmatch(r"\d{1,19}", text) else None


def _read(path: str) -> str:
    with Path(path).open("rb") as stream:
        return stream.read(_MAX_TEXT_BYTES).decode("utf-8", "replace")


def _sysctl(name: str) -> bytes | None:
    """A value by name (sysctlbyname(3)); None where there is none."""
    function = getattr(ctypes.CDLL(None), "sysctlbyname", None)
    if function is None:
        return None
    value, size = ctypes.create_string_buffer(1_024), ctypes.c_size_t(1_024)
    if function(name.encode(), value, ctypes.byref(size), None, ctypes.c_size_t(0)):
        return None
    return value.raw[: size.value]
