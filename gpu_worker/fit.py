"""Whether a variant of a model fits a machine, where its layers go, how fast it will be. Pure.

llama.cpp fills a GPU from the end: the output first, then the last layer, down to layer 0
(``llama-model.cpp``, ``i_gpu_start``). Keys and values lie where their layer does. The token
embedding stays in main memory. Where layers stay there too, long prompts are still computed on the
GPU, and a layer's weights need room there on their way.

The time of a token is what must be read for it, divided by what the memory gives: all the weights
that are active, and half of the context's keys and values.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Literal

from gpu_worker.fit_needs import CELLS, Ask, FitConfig, Needs, check_ask
from gpu_worker.hardware import Hardware
from gpu_worker.model_shape import ModelShape

Where = Literal["gpu", "memory", "partial", "none"]
"""All of it on GPUs, all in main memory, in both, or nowhere."""
METAL_SHARE = 0.75
"""Of an Apple machine's memory its GPU may have so much (``recommendedMaxWorkingSetSize``)."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """One variant on one machine. Sizes in bytes."""

    variant: str
    where: Where
    whole: bool
    """Everything is where it should be: on the GPUs, or in main memory where none are used."""
    weights_bytes: int
    kv_bytes: int
    overhead_bytes: int
    total_bytes: int
    layers: int
    """Of the model; the output is not one of them."""
    gpu_layers: int
    """As llama.cpp counts them: the output is one, and the first to go to a GPU."""
    gpu_bytes: int
    """Taken on GPUs."""
    ram_bytes: int
    """Taken in main memory, what can be dropped and read again included."""
    gpu_usable_bytes: int
    ram_usable_bytes: int
    missing_bytes: int
    """More memory that would make it fit somehow; 0 where it does."""
    short_bytes: int
    """More GPU memory that would make all of it fit there; 0 where it does or no GPU is used."""
    tokens_per_s: float
    """For one conversation, at half its context; 0: nobody knows the bandwidth, or no fit."""
    context_fits: int
    """The longest context for each slot with which it would be whole; 0 where none would."""
    estimates: tuple[str, ...] = ()

    @property
    def layers_on_gpu(self) -> int:
        """Without the output."""
        return max(self.gpu_layers - 1, 0)


def fit_row(
    variant: str, shape: ModelShape, hardware: Hardware, ask: Ask, config: FitConfig
) -> Row:
    """One variant on one machine.

    Raises:
        ConfigError: the asked numbers make no sense; says which.
    """
    check_ask(ask)
    if config.use_gpu == "no" or ask.gpu_layers == 0:
        hardware = hardware.without_gpus()
    needs = Needs.of(shape, ask, config)
    placed = _place(needs, hardware, ask, config)
    context = ask.context_tokens if placed.whole else _longest(shape, hardware, ask, config)
    return Row(
        variant=variant,
        where=placed.where,
        whole=placed.whole,
        weights_bytes=shape.weights_bytes,
        kv_bytes=sum(needs.kv),
        overhead_bytes=placed.overhead,
        total_bytes=shape.weights_bytes + sum(needs.kv) + placed.overhead,
        layers=len(shape.layers),
        gpu_layers=placed.units,
        gpu_bytes=placed.gpu,
        ram_bytes=placed.ram,
        gpu_usable_bytes=placed.gpu_usable,
        ram_usable_bytes=placed.ram_usable,
        missing_bytes=placed.missing,
        short_bytes=placed.short,
        tokens_per_s=_tokens_per_s(needs, hardware, placed) if placed.where != "none" else 0.0,
        context_fits=context,
        estimates=shape.estimates,
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class _Placed:
    """Where the parts came to lie."""

    where: Where
    whole: bool
    units: int
    gpu: int
    ram: int
    overhead: int
    missing: int
    short: int
    gpu_usable: int
    ram_usable: int


def _place(needs: Needs, hardware: Hardware, ask: Ask, config: FitConfig) -> _Placed:
    ram_usable = int(hardware.ram_free_bytes * config.memory_share)
    if not hardware.gpus:
        # The output that is the embedding too is one tensor here.
        ram = sum(needs.units) + needs.embedding - needs.copied + needs.compute + needs.host
        return _Placed(
            where="memory" if ram <= ram_usable else "none",
            whole=ram <= ram_usable,
            units=0,
            gpu=0,
            ram=ram,
            overhead=needs.compute + needs.host,
            missing=max(ram - ram_usable, 0),
            short=0,
            gpu_usable=0,
            ram_usable=ram_usable,
        )
    return _on_gpus(needs, hardware, ask, config, ram_usable)


def _on_gpus(
    needs: Needs, hardware: Hardware, ask: Ask, config: FitConfig, ram_usable: int
) -> _Placed:
    """As much as fits on the GPUs, the rest in main memory."""
    count = len(hardware.gpus)
    gpu_usable = int(sum(gpu.free_bytes for gpu in hardware.gpus) * config.memory_share)
    if hardware.unified:
        gpu_usable = min(gpu_usable, int(hardware.ram_bytes * METAL_SHARE), ram_usable)
    # Layers are not cut: each GPU but one may have room for almost one more.
    fixed = count * (config.gpu_overhead_bytes + needs.compute) + (count - 1) * needs.largest
    most = len(needs.units) if ask.gpu_layers < 0 else min(ask.gpu_layers, len(needs.units))
    units, gpu = _fill(needs.units[:most], gpu_usable - fixed)
    if units < len(needs.units):
        fixed += needs.largest
        units, gpu = _fill(needs.units[:most], gpu_usable - fixed)
    everything = sum(needs.units)
    rest = everything - gpu - (needs.copied if not units else 0)
    left = 0 if units == len(needs.units) else needs.compute
    ram = rest + needs.embedding + left + needs.host
    gpu += fixed if units else 0
    if hardware.unified:
        ram_usable -= gpu
    fits = ram <= ram_usable
    all_there = units == len(needs.units)
    where: Where = "gpu" if all_there else "partial" if units else "memory"
    return _Placed(
        where=where if fits else "none",
        whole=fits and units == most,
        units=units if fits else 0,
        gpu=gpu,
        ram=ram,
        overhead=(fixed if units else 0) + needs.host + left + (needs.copied if units else 0),
        missing=max(ram - ram_usable, 0),
        short=0 if all_there else max(everything + fixed - needs.largest - gpu_usable, 0),
        gpu_usable=gpu_usable,
        ram_usable=ram_usable,
    )


def _fill(units: tuple[int, ...], room: int) -> tuple[int, int]:
    """How many units, from the first, have room, and their bytes."""
    taken = 0
    for number, size in enumerate(units):
        if taken + size > room:
            return number, taken
        taken += size
    return len(units), taken


def _longest(shape: ModelShape, hardware: Hardware, ask: Ask, config: FitConfig) -> int:
    """The longest context with which it would be whole, in steps of 256 tokens; 0: none."""

    def whole(cells: int) -> bool:
        shorter = replace(ask, context_tokens=cells * CELLS)
        return _place(Needs.of(shape, shorter, config), hardware, shorter, config).whole

    low, high = 0, -(-ask.context_tokens // CELLS)
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (middle, high) if whole(middle) else (low, middle)
    return low * CELLS


def _tokens_per_s(needs: Needs, hardware: Hardware, placed: _Placed) -> float:
    on_gpu, beside = sum(needs.reads[: placed.units]), sum(needs.reads[placed.units :])
    gpu, ram = hardware.gpu_bandwidth, hardware.ram_speed
    if (on_gpu and not gpu) or (beside and not ram):
        return 0.0
    seconds = (on_gpu / gpu if on_gpu else 0.0) + (beside / ram if beside else 0.0)
    return 1.0 / seconds if seconds else 0.0
