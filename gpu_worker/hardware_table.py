"""Machines by name, as their vendors describe them. As of November 2026.

Memory is what the driver reports (a "24 GB" card has 24,564 MiB). TFLOPS are 16-bit floats with
32-bit sums, dense; where a vendor states them with sparsity, half of that. Watts are the board's
limit; Apple's are those of the whole machine. Main memory is an assumption, a usual one.
"""

from __future__ import annotations

from dataclasses import dataclass

from gpu_worker.hardware import (
    CPU_REACHES,
    GPU_REACHES,
    HBM_REACHES,
    UNIFIED_REACHES,
    Gpu,
    Hardware,
)
from wire.errors import ConfigError

_MIB, _GIB, _GB = 1 << 20, 1 << 30, 10**9


@dataclass(frozen=True, slots=True, kw_only=True)
class Preset:
    """A machine of the table. 0 TFLOPS: the vendor does not state them."""

    key: str
    name: str
    memory_bytes: int
    """Of the GPU, or of the machine where that is one memory or has no GPU."""
    bandwidth_gbs: float
    tflops: float
    watts: int
    source: str
    reaches: float = GPU_REACHES
    ram_gib: int = 64
    ram_gbs: float = 80.0
    cores: int = 16
    kind: str = "gpu"
    """``gpu``, ``unified`` or ``cpu``."""

    def hardware(self, *, ram_bytes: int = 0) -> Hardware:
        """The machine, idle.

        Args:
            ram_bytes: main memory, where it is not the table's assumption.
        """
        bandwidth = self.bandwidth_gbs * 1e9
        ram = ram_bytes or self.ram_gib * _GIB
        if self.kind == "cpu":
            ram = ram_bytes or self.memory_bytes
            return Hardware(
                name=self.name, cpu=self.name, cores=self.cores, ram_bytes=ram, ram_free_bytes=ram,
                ram_bandwidth=bandwidth, ram_reaches=self.reaches,
            )  # fmt: skip
        if self.kind == "unified":
            ram = ram_bytes or self.memory_bytes
        memory = ram if self.kind == "unified" else self.memory_bytes
        gpu = Gpu(
            name=self.name, memory_bytes=memory, free_bytes=memory, bandwidth=bandwidth,
            reaches=self.reaches,
        )  # fmt: skip
        return Hardware(
            name=self.name, cores=self.cores, ram_bytes=ram, ram_free_bytes=ram,
            ram_bandwidth=bandwidth if self.kind == "unified" else self.ram_gbs * 1e9,
            gpus=(gpu,), unified=self.kind == "unified",
        )  # fmt: skip


def _card(
    key: str, name: str, mib: int, gbs: float, tflops: float, watts: int, source: str
) -> Preset:
    """A graphics card in a desktop."""
    return Preset(
        key=key, name=name, memory_bytes=mib * _MIB, bandwidth_gbs=gbs, tflops=tflops, watts=watts,
        source=source,
    )  # fmt: skip


def _server(
    key: str, name: str, mib: int, gbs: float, tflops: float, watts: int, source: str,
    *, reaches: float = HBM_REACHES, ram_gib: int = 256,
) -> Preset:  # fmt: skip
    """A GPU in a server."""
    return Preset(
        key=key, name=name, memory_bytes=mib * _MIB, bandwidth_gbs=gbs, tflops=tflops, watts=watts,
        source=source, reaches=reaches, ram_gib=ram_gib, ram_gbs=200.0, cores=32,
    )  # fmt: skip


def _apple(key: str, name: str, gib: int, gbs: float, cores: int) -> Preset:
    return Preset(
        key=key, name=name, memory_bytes=gib * _GIB, bandwidth_gbs=gbs, tflops=0.0, watts=145,
        source="Apple, Mac Studio technical specifications and power consumption",
        reaches=UNIFIED_REACHES, cores=cores, kind="unified",
    )  # fmt: skip


def _cpu(
    key: str, name: str, gib: int, gbs: float, tflops: float, watts: int, cores: int, source: str
) -> Preset:
    return Preset(
        key=key, name=name, memory_bytes=gib * _GIB, bandwidth_gbs=gbs, tflops=tflops, watts=watts,
        source=source, reaches=CPU_REACHES, cores=cores, kind="cpu",
    )  # fmt: skip


_AMPERE = "NVIDIA Ampere GA102 GPU architecture whitepaper; GeForce RTX 3060 specifications"
_ADA = "NVIDIA Ada GPU architecture whitepaper"
_BLACKWELL = "NVIDIA RTX Blackwell GPU architecture whitepaper"

_ROWS = (
    _card("rtx3060-12", "NVIDIA GeForce RTX 3060", 12_288, 360, 25.5, 170, _AMPERE),
    _card("rtx4070", "NVIDIA GeForce RTX 4070", 12_282, 504.2, 58.3, 200, _ADA),
    _card("rtx4090", "NVIDIA GeForce RTX 4090", 24_564, 1_008, 165.2, 450, _ADA),
    _card("rtx5090", "NVIDIA GeForce RTX 5090", 32_607, 1_792, 209.5, 575, _BLACKWELL),
    _server("t4", "Tesla T4", 15_360, 320, 65, 70, "NVIDIA T4 datasheet",
            reaches=GPU_REACHES, ram_gib=64),
    _server("a10g", "NVIDIA A10G", 23_028, 600, 70, 300, "AWS EC2 G5; NVIDIA A10G specifications",
            reaches=GPU_REACHES, ram_gib=64),
    _server("l4", "NVIDIA L4", 23_034, 300, 121, 72, "NVIDIA L4 datasheet",
            reaches=GPU_REACHES, ram_gib=64),
    _server("l40s", "NVIDIA L40S", 46_068, 864, 362, 350, "NVIDIA L40S datasheet",
            reaches=GPU_REACHES, ram_gib=128),
    _server("a100-40", "NVIDIA A100-SXM4-40GB", 40_960, 1_555, 312, 400, "NVIDIA A100 datasheet"),
    _server("a100-80", "NVIDIA A100-SXM4-80GB", 81_920, 2_039, 312, 400, "NVIDIA A100 datasheet"),
    _server("h100", "NVIDIA H100 80GB HBM3", 81_559, 3_350, 989.4, 700, "NVIDIA H100 datasheet"),
    _server("h200", "NVIDIA H200", 143_771, 4_800, 989.4, 700, "NVIDIA H200 datasheet"),
    _server("b200", "NVIDIA B200", 183_359, 8_000, 2_250, 1_000, "NVIDIA DGX B200 datasheet"),
    _server("mi300x", "AMD Instinct MI300X", 196_592, 5_300, 1_307.4, 750,
            "AMD Instinct MI300X data sheet"),
    _apple("m2-max", "Apple M2 Max", 96, 400, 12),
    _apple("m4-max", "Apple M4 Max", 128, 546, 16),
    _cpu("cpu-laptop", "8 cores, LPDDR5-6400, 128 bit", 32, 102.4, 0.0, 28, 8,
         "JEDEC JESD209-5: 6,400 MT/s on 128 bit"),
    _cpu("cpu-desktop", "16 cores, DDR5-5600, 2 channels", 64, 89.6, 0.0, 170, 16,
         "JEDEC JESD79-5: 5,600 MT/s on 2 x 64 bit"),
    _cpu("cpu-server", "96 cores, DDR5-4800, 12 channels", 384, 460.8, 0.0, 360, 96,
         "AMD EPYC 9654 specifications"),
)  # fmt: skip
PRESETS = {row.key: row for row in _ROWS}


def preset(key: str) -> Preset:
    """A machine of the table.

    Raises:
        ConfigError: there is none of this name; lists those there are.
    """
    found = PRESETS.get(key.lower())
    if found is None:
        raise ConfigError(f"no hardware {key[:40]!r} is known; known: {', '.join(PRESETS)}")
    return found


def by_device_name(name: str) -> Preset | None:
    """The GPU that its driver calls exactly so: a "GeForce RTX 4070 Ti" is no "GeForce RTX 4070".
    None: not in the table."""
    return next((row for row in _ROWS if row.kind != "cpu" and row.name == name), None)
