"""How much memory the engines of several models may take together. Pure.

It is the memory that decides: that of the GPUs where there are any, else the machine's own.
"""

from __future__ import annotations

from dataclasses import replace

from gpu_worker.config import WorkerConfig
from gpu_worker.hardware import Hardware


def budget_of(config: WorkerConfig, models: int, hardware: Hardware, free_bytes: int) -> int | None:
    """The budget in bytes; None: one model alone has all there is, and whether it fits is for the
    fit and its engine to find out.

    Args:
        models: how many.
        free_bytes: of main memory, now.
    """
    if config.memory_budget_bytes:
        return config.memory_budget_bytes
    if models == 1:
        return None
    on_gpus = sum(gpu.free_bytes for gpu in hardware.gpus)
    return int((on_gpus or min(hardware.ram_free_bytes, free_bytes)) * config.memory_share)


def within(hardware: Hardware, budget_bytes: int | None) -> Hardware:
    """The machine as one of the models sees it: no variant is chosen that the budget could never
    hold."""
    if budget_bytes is None:
        return hardware
    on_gpus = sum(gpu.free_bytes for gpu in hardware.gpus)
    if not on_gpus:
        return replace(hardware, ram_free_bytes=min(hardware.ram_free_bytes, budget_bytes))
    share = min(1.0, budget_bytes / on_gpus)
    gpus = tuple(replace(gpu, free_bytes=int(gpu.free_bytes * share)) for gpu in hardware.gpus)
    return replace(hardware, gpus=gpus)
