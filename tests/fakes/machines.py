"""Machines that only exist in a test: files of a kernel, a driver of GPUs."""

from __future__ import annotations

import threading
from collections.abc import Mapping
from dataclasses import dataclass, field

from gpu_worker.hardware_read import Machine
from gpu_worker.nvml import NvidiaGpu, NvmlError

GIB = 1 << 30


def linux(
    files: Mapping[str, str] | None = None,
    *,
    gpus: tuple[NvidiaGpu, ...] = (),
    environ: Mapping[str, str] | None = None,
) -> Machine:
    """A Linux of 16 GiB, 12 of them available, with more or other files."""
    found = {
        "/proc/cpuinfo": "processor\t: 0\nmodel name\t: Test CPU 9000\nmodel name\t: other\n",
        "/proc/meminfo": f"MemTotal: {16 * GIB // 1024} kB\nMemAvailable: {12 * GIB // 1024} kB\n",
        **(files or {}),
    }

    def read(path: str) -> str:
        if path not in found:
            raise FileNotFoundError(path)
        return found[path]

    return Machine(
        platform="linux",
        read=read,
        sysctl=lambda _name: None,
        cores=8,
        gpus=lambda: gpus,
        environ=environ or {},
    )


def mac(name: str, memory_bytes: int) -> Machine:
    """A Mac."""
    known = {
        "machdep.cpu.brand_string": name.encode() + b"\0",
        "hw.memsize": memory_bytes.to_bytes(8, "little"),
    }

    def read(path: str) -> str:
        raise FileNotFoundError(path)

    return Machine(platform="darwin", read=read, sysctl=known.get, cores=12)


@dataclass
class FakeNvml:
    """A driver. Faults: ``fails`` names the calls that fail; ``hangs`` holds the first one; the
    GPUs of ``lost`` say nothing."""

    gpus: list[tuple[str, int, int]] = field(default_factory=list)
    """Name, all memory and free memory."""
    fails: frozenset[str] = frozenset()
    hangs: threading.Event | None = None
    claims: int | None = None
    lost: frozenset[int] = frozenset()
    started: int = 0

    def start(self) -> None:
        if self.hangs is not None:
            self.hangs.wait()
        self._maybe_fail("start")
        self.started += 1

    def count(self) -> int:
        return len(self.gpus) if self.claims is None else self.claims

    def name(self, index: int) -> str:
        return self.gpus[index % len(self.gpus)][0]

    def uuid(self, index: int) -> str:
        return f"GPU-{index:08x}-0000"

    def memory(self, index: int) -> tuple[int, int]:
        if index in self.lost:
            raise NvmlError("memory: 15")
        self._maybe_fail("memory")
        return self.gpus[index % len(self.gpus)][1:]

    def memory_clock_mhz(self, index: int) -> int:
        self._maybe_fail("clock")
        return 10_501

    def bus_bits(self, index: int) -> int:
        return 384

    def stop(self) -> None:
        self.started -= 1

    def _maybe_fail(self, call: str) -> None:
        if call in self.fails:
            raise NvmlError(f"{call}: 999")
