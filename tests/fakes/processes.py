"""What the operating system knows of the processes under test."""

from __future__ import annotations

from contextlib import suppress
from pathlib import Path

import psutil

from gpu_worker.engine import Engine
from tests.fakes.waiting import alive, until_async

__all__ = [
    "MIB",
    "alive",
    "cpu_s_until_free",
    "cpu_seconds",
    "engine_of",
    "engines_of",
    "holds_model",
    "peak_rss_bytes",
    "processes_in",
]

MIB = 2**20


def engines_of(worker_pid: int) -> list[int]:
    """The processes below a worker that hold llama.cpp with a model; one may stand by without."""
    engines = []
    for child in psutil.Process(worker_pid).children():
        with suppress(psutil.NoSuchProcess):  # it ended meanwhile
            if "llamacpp_process" in " ".join(child.cmdline()) and holds_model(child):
                engines.append(child.pid)
    return engines


def engine_of(worker_pid: int) -> int:
    """The only one of these."""
    engines = engines_of(worker_pid)
    assert len(engines) == 1, f"{len(engines)} engines run below {worker_pid}"
    return engines[0]


def holds_model(process: psutil.Process) -> bool:
    """Whether weights are mapped into it."""
    return any(mapped.path.endswith(".gguf") for mapped in process.memory_maps())


def processes_in(folder: Path) -> list[psutil.Process]:
    """Processes that work in a folder: every tier and every engine works in its state directory."""
    found = []
    for process in psutil.process_iter():
        try:
            inside = Path(process.cwd()).is_relative_to(folder)
            running = process.status() != psutil.STATUS_ZOMBIE
        except (psutil.Error, OSError):
            continue  # it ended meanwhile, or is none of ours
        if inside and running:
            found.append(process)
    return found


def cpu_seconds(pid: int) -> float:
    """Seconds of processor that a process and those below it have used: unlike those of the wall,
    a busy machine does not make them more."""
    top = psutil.Process(pid)
    return sum(sum(one.cpu_times()[:2]) for one in (top, *top.children(recursive=True)))


async def cpu_s_until_free(engine: Engine, pid: int | None) -> float:
    """Seconds of processor that an engine takes until no slot of it is busy any more."""
    assert pid is not None
    began_s = cpu_seconds(pid)

    async def free() -> bool:
        return (await engine.slots()).busy == 0

    await until_async(free)
    return cpu_seconds(pid) - began_s


def peak_rss_bytes(pid: int) -> int:
    """The most main memory that a process ever had (``VmHWM`` of Linux, proc(5))."""
    for line in Path(f"/proc/{pid}/status").read_text().splitlines():
        if line.startswith("VmHWM:"):
            return int(line.split()[1]) * 1024
    raise AssertionError(f"process {pid} has no VmHWM")
