"""What a machine offers a model: memory, and how fast it is read. Values only.

``gpu_worker.hardware_read`` reads them of this machine, ``gpu_worker.hardware_table`` has those of
well-known ones.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

GPU_REACHES, HBM_REACHES, UNIFIED_REACHES, CPU_REACHES = 0.70, 0.45, 0.60, 0.60
"""The share of the nominal bandwidth at which llama.cpp reads weights for one conversation:
graphics memory; stacked memory, where its many small kernels wait for each other; Apple's; a CPU's.
Estimates, rounded, that give what users report of a 7B Q4_0 of 3.8 GB (ggml-org/llama.cpp,
discussions 4167 and 15013: about 190 tokens/s on an RTX 4090, 66 on an M2 Max). Small models reach
less."""


CORE_READS = 12e9
"""Bytes of weights per second that one core works through, whatever the memory gives. An estimate:
on one core of an EPYC of 2024, which others used too, 11 GB/s of F16 and Q8_0, 9 of Q4_K_M."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Gpu:
    """One GPU. Bytes, and bytes per second; 0 where nobody knows."""

    name: str
    memory_bytes: int
    free_bytes: int
    bandwidth: float = 0.0
    reaches: float = GPU_REACHES
    """Share of the bandwidth that generating tokens makes use of."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Hardware:
    """A machine as a model sees it.

    ``ram_free_bytes`` is what may be used now; where ``unified``, the GPUs' memory is part of the
    main memory. Bandwidths in bytes per second, 0 where nobody knows.
    """

    name: str
    cpu: str = ""
    cores: int = 1
    ram_bytes: int
    ram_free_bytes: int
    ram_bandwidth: float = 0.0
    ram_reaches: float = CPU_REACHES
    gpus: tuple[Gpu, ...] = ()
    unified: bool = False
    note: str = ""
    """What could not be read, and why."""

    @property
    def gpu_bandwidth(self) -> float:
        """Bytes per second that the GPUs give one conversation. They hold different layers, so one
        reads after the other; a GPU holds as much as its memory's share."""
        if any(not gpu.bandwidth for gpu in self.gpus):
            return 0.0
        memory = sum(gpu.memory_bytes for gpu in self.gpus)
        time = sum(gpu.memory_bytes / (gpu.bandwidth * gpu.reaches) for gpu in self.gpus)
        return memory / time if time else 0.0

    @property
    def ram_speed(self) -> float:
        """Bytes per second that the processor reads for one conversation: what the memory gives,
        or what its cores work through. llama.cpp leaves one of them to others."""
        if not self.ram_bandwidth:
            return 0.0
        return min(self.ram_bandwidth * self.ram_reaches, max(self.cores - 1, 1) * CORE_READS)

    def without_gpus(self) -> Hardware:
        """The same machine for an engine that cannot use its GPUs."""
        return replace(self, gpus=(), unified=False)


UNBOUNDED = Hardware(name="a machine that nobody read", ram_bytes=1 << 62, ram_free_bytes=1 << 62)
"""Where nobody can tell: the engine's own failure will."""
