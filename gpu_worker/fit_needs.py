"""What a model takes of a machine, part by part. Pure.

It takes its weights, what it keeps of conversations (keys and values, or states), and what the
engine needs beside: buffers to compute in, the process, the GPU's own context. What llama.cpp of
2026-10 was seen to allocate to compute in, and :func:`compute_bytes` follows:

- one buffer for the results of a batch of prompt tokens, the largest of the stages of a layer that
  need room at the same time: attention (queries twice, keys, values), the feed-forward layer (gate,
  up, their product), or the experts' outputs;
- the mask of attention, 2 bytes for each token of the batch and of the context;
- a row of probabilities for each slot, and a recurrent layer's state.

Against its log, ``tests/gpu_worker/test_fit_measured.py`` holds this to 0 to 35 % too much.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from gpu_worker.layer_memory import LayerMemory
from gpu_worker.model_shape import ModelShape
from wire.errors import ConfigError
from wire.gguf_types import TENSOR_TYPES

KV_TYPES = {
    kind.name.lower(): kind.block_bytes / kind.block_items
    for kind in TENSOR_TYPES.values()
    if kind.name in {"F32", "F16", "BF16", "Q8_0", "Q5_1", "Q5_0", "Q4_1", "Q4_0", "IQ4_NL"}
}
"""What llama.cpp can keep keys and values in, and the bytes of one number."""
CELLS = 256
"""llama.cpp pads the tokens of a slot to a multiple of this."""
_MAX_CONTEXT = 1 << 24
_INPUT_BYTES = 48
"""Of each token of a batch: its id, its position, its place in the cache."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Ask:
    """What is asked of a model: so many conversations of such a length at the same time."""

    context_tokens: int = 4_096
    """Prompt and answer together, for each slot."""
    slots: int = 4
    batch_tokens: int = 512
    key_type: str = "f16"
    value_type: str = "f16"
    prompt_cache_bytes: int = 512 << 20
    """Main memory for prompts of idle slots."""
    gpu_layers: int = -1
    """At most so many layers, the output included, go to GPUs; -1: as many as fit."""


@dataclass(frozen=True, slots=True, kw_only=True)
class FitConfig:
    """What of a machine a model may take, and what is taken beside it."""

    memory_share: float = 0.92
    """Of the memory that is free at the start: a desktop and other processes need some, too."""
    gpu_overhead_bytes: int = 500_000_000
    """On each GPU, for the driver's context and the kernels (CUDA 12: 300 to 500 MB)."""
    process_bytes: int = 64_000_000
    """The engine without a model, and its copy of a token's name costs :attr:`token_bytes`."""
    token_bytes: int = 256
    """For each token of the vocabulary."""
    hardware: str = ""
    """Judge for this machine of ``gpu_worker.hardware_table``, not for the one that is read."""
    use_gpu: Literal["auto", "yes", "no"] = "auto"
    """Whether layers may go to GPUs; ``auto``: where an engine here can use them
    (``gpu_worker.offload``)."""


def check_ask(ask: Ask) -> None:
    """Raise ``ConfigError`` where nobody could ask this."""
    for kind in (ask.key_type, ask.value_type):
        if kind not in KV_TYPES:
            known = ", ".join(sorted(KV_TYPES))
            raise ConfigError(f"keys and values are kept as {known}; not as {kind[:40]!r}")
    if not 0 < ask.batch_tokens <= _MAX_CONTEXT:
        raise ConfigError(f"batches of {ask.batch_tokens} tokens cannot be had")
    if not 0 < ask.context_tokens <= _MAX_CONTEXT or not 0 < ask.slots <= 4_096:
        raise ConfigError(
            f"{ask.slots} slots of {ask.context_tokens} tokens; 1 to 4096 slots of 1 to "
            f"{_MAX_CONTEXT} tokens can be had"
        )


def check_config(config: FitConfig) -> None:
    """Raise ``ConfigError`` where a value is out of range."""
    if not 0.0 <= config.memory_share <= 1.0:
        raise ConfigError(f"fit.memory_share is {config.memory_share}; it is a share, 0 to 1")
    if min(config.gpu_overhead_bytes, config.process_bytes, config.token_bytes) < 0:
        raise ConfigError("fit: a number of bytes is below 0")


def kv_bytes(memory: LayerMemory, ask: Ask) -> int:
    """What a layer keeps of all slots' conversations."""
    cells = _cells(memory, ask, ask.context_tokens)
    token = memory.keys * KV_TYPES[ask.key_type] + memory.values * KV_TYPES[ask.value_type]
    return round(ask.slots * (cells * token + 4 * memory.state))


def compute_bytes(shape: ModelShape, ask: Ask) -> int:
    """The buffers for results on their way through the layers, see the head of this file."""
    batch, width = ask.batch_tokens, shape.width
    kept = max((layer.memory.keys + layer.memory.values for layer in shape.layers), default=0)
    attention = 2 * shape.query_width + 2 * kept + 5 * width
    forward = 3 * shape.feed_forward + 5 * width
    experts = 2 * (shape.experts_used + 1) * width if shape.experts else 0
    windows = {layer.memory.window for layer in shape.layers}
    masks = sum(_cells(LayerMemory(window=window), ask, ask.context_tokens) for window in windows)
    token = 4 * max(attention, forward, experts) + 2 * masks + _INPUT_BYTES
    state = max((layer.memory.state for layer in shape.layers), default=0)
    return batch * token + 4 * ask.slots * (shape.vocab + state)


def _cells(memory: LayerMemory, ask: Ask, tokens: int) -> int:
    cells = -(-tokens // CELLS) * CELLS
    if not memory.window:
        return cells
    return min(cells, -(-(memory.window + ask.batch_tokens) // CELLS) * CELLS)


@dataclass(frozen=True, slots=True)
class Needs:
    """Bytes by part. ``units`` in the order in which they go to a GPU: the output, then the layers
    from the last to the first; ``reads`` is what of each is read for a token."""

    units: tuple[int, ...]
    reads: tuple[float, ...]
    kv: tuple[int, ...]
    embedding: int
    copied: int
    """Of the output, where it is the embedding too, a GPU gets a copy."""
    compute: int
    host: int
    largest: int

    @classmethod
    def of(cls, shape: ModelShape, ask: Ask, config: FitConfig) -> Needs:
        kv = tuple(kv_bytes(layer.memory, ask) for layer in shape.layers)
        output = shape.output_bytes + shape.rest_bytes
        weights = [layer.bytes for layer in shape.layers]
        together = zip(shape.layers, kv, strict=True)
        # One slot's, at half of its context.
        reads = [layer.active_bytes + kept / ask.slots / 2 for layer, kept in together]
        return cls(
            units=(output, *(w + k for w, k in zip(reversed(weights), reversed(kv), strict=True))),
            reads=(float(output), *reversed(reads)),
            kv=kv,
            embedding=shape.input_bytes,
            copied=shape.output_bytes if shape.tied else 0,
            compute=compute_bytes(shape, ask),
            host=config.process_bytes + config.token_bytes * shape.vocab + ask.prompt_cache_bytes,
            largest=max(weights, default=0),
        )
