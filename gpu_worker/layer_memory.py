"""What each layer of a model keeps of a conversation: keys and values of every token, or a state
that does not grow.

The rules are llama.cpp's (``llama-hparams.cpp``, ``llama-kv-cache-iswa.cpp``): a layer with a
sliding window keeps only the window, a recurrent layer (Mamba, RWKV, linear attention) only its
state, and multi-head latent attention (DeepSeek) one compressed key and no value.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from typing import Protocol

from wire.errors import GGUFInvalidError

WINDOW_PERIODS = {
    "afmoe": 4, "cohere2": 4, "gemma2": 2, "gemma3": 6, "gemma3n": 5, "gpt-oss": 2, "olmo2": 4,
    "plamo3": 8,
}  # fmt: skip
"""Every so many layers one sees everything and the others a window, where the header does not say
which ones (llama.cpp ``src/models/*.cpp``, ``set_swa_pattern``)."""
_LINEAR_ATTENTION = {"qwen3next": 4, "qwen35": 4, "qwen35moe": 4}
"""Every so many layers one has attention, and the others a state."""
_MAX_LAYER_NUMBERS = 1 << 40


@dataclass(frozen=True, slots=True, kw_only=True)
class LayerMemory:
    """What one layer keeps. Numbers, not bytes: their type is the cache's."""

    keys: int = 0
    """Numbers of keys for each token."""
    values: int = 0
    window: int = 0
    """Only so many tokens are kept; 0: all of them."""
    state: int = 0
    """32-bit numbers for each slot, however long its conversation."""


class Numbers(Protocol):
    """Checked numbers of a header, by key without the architecture's name."""

    @property
    def architecture(self) -> str: ...

    def number(self, name: str, default: int = 0, *, limit: int | None = None) -> int: ...

    def by_layer(self, name: str, *, limit: int | None = None) -> tuple[int, ...]: ...


def layer_memory(
    numbers: Numbers, count: int, width: int, recurrent: Collection[int]
) -> tuple[list[LayerMemory], list[str]]:
    """What each of ``count`` layers keeps, and what had to be assumed, in words.

    Args:
        width: of an embedding.
        recurrent: layers whose tensors are those of a recurrent one.

    Raises:
        GGUFInvalidError: the numbers contradict each other, or cannot be.
    """
    assumed: list[str] = []
    heads = _spread(numbers, "attention.head_count", count, 0)
    stateful = _stateful(numbers, count, recurrent)
    if not any(heads) and not stateful:
        assumed.append("keys and values as wide as the embedding, since no heads are stated")
        heads = [1] * count
    kv_heads = _spread(numbers, "attention.head_count_kv", count, heads)
    windows = _windows(numbers, count, assumed)
    shared_from = count - min(numbers.number("attention.shared_kv_layers"), count)
    state = _state(numbers, width)
    found = []
    for index in range(count):
        alone = index in stateful and not _attends_too(numbers)
        keeps = not alone and index < shared_from
        keys, values = _head_lengths(numbers, width, heads[index], windowed=bool(windows[index]))
        memory = LayerMemory(
            keys=kv_heads[index] * keys if keeps else 0,
            values=kv_heads[index] * values if keeps else 0,
            window=windows[index],
            state=state if index in stateful else 0,
        )
        if memory.keys + memory.values + memory.state > _MAX_LAYER_NUMBERS:
            raise GGUFInvalidError(f"GGUF: layer {index} would keep more than any machine holds")
        found.append(memory)
    return found, assumed


def _spread(numbers: Numbers, name: str, count: int, default: int | list[int]) -> list[int]:
    """A number for every layer."""
    found = numbers.by_layer(name, limit=16_384)
    if len(found) == 1:
        return [found[0]] * count
    if not found:
        return list(default) if isinstance(default, list) else [default] * count
    if len(found) < count:
        raise GGUFInvalidError(f"GGUF metadata {name!r} has {len(found)} items for {count} layers")
    return list(found[:count])


def _head_lengths(numbers: Numbers, width: int, heads: int, *, windowed: bool) -> tuple[int, int]:
    """Numbers of a head's key and of its value; no value where it is made of the key (MLA)."""
    usual = width // heads if heads else 0
    keys = numbers.number("attention.key_length", usual) or usual
    values = numbers.number("attention.value_length", usual) or usual
    if windowed:
        keys = numbers.number("attention.key_length_swa", keys) or keys
        values = numbers.number("attention.value_length_swa", values) or values
    return keys, 0 if numbers.by_layer("attention.key_length_mla") else values


def _windows(numbers: Numbers, count: int, assumed: list[str]) -> list[int]:
    """How far each layer looks back; 0: to the beginning."""
    window = numbers.number("attention.sliding_window", limit=1 << 40)
    # llama.cpp reads the key of these, and lets them look back to the beginning all the same.
    if not window or numbers.architecture in {"llama", "phi3", "qwen2", "qwen3"}:
        return [0] * count
    pattern = numbers.by_layer("attention.sliding_window_pattern", limit=1_024)
    if len(pattern) > 1:
        flags = [bool(pattern[index % len(pattern)]) for index in range(count)]
    elif pattern or numbers.architecture in WINDOW_PERIODS:
        period = pattern[0] if pattern else WINDOW_PERIODS[numbers.architecture]
        flags = [not period or index % period < period - 1 for index in range(count)]
    else:
        assumed.append(f"every layer keeps all tokens, not only its window of {window}")
        flags = [False] * count
    return [window if flag else 0 for flag in flags]


def _stateful(numbers: Numbers, count: int, recurrent: Collection[int]) -> Collection[int]:
    """The layers that keep a state."""
    if numbers.architecture.startswith("rwkv") or numbers.number("wkv.head_size"):
        return range(count)
    default = _LINEAR_ATTENTION.get(numbers.architecture, 0)
    period = numbers.number("full_attention_interval", default, limit=1_024)
    if period:
        return {index for index in range(count) if (index + 1) % period}
    if numbers.number("shortconv.l_cache"):
        kv = _spread(numbers, "attention.head_count_kv", count, 1)
        return {index for index in range(count) if not kv[index]}
    return set(recurrent)


def _attends_too(numbers: Numbers) -> bool:
    """Whether a layer with a state also has attention (Falcon-H1), or tells by its heads."""
    periodic = numbers.architecture in _LINEAR_ATTENTION
    return not periodic and not numbers.by_layer("full_attention_interval", limit=1_024)


def _state(numbers: Numbers, width: int) -> int:
    """Numbers of a recurrent state (llama.cpp ``n_embd_r`` + ``n_embd_s``)."""
    if head := numbers.number("wkv.head_size"):
        return width * (head + numbers.number("token_shift_count", 2))
    if cells := numbers.number("shortconv.l_cache"):
        return width * (cells - 1)
    inner, size = numbers.number("ssm.inner_size"), numbers.number("ssm.state_size")
    groups, kernel = numbers.number("ssm.group_count"), numbers.number("ssm.conv_kernel")
    return max(kernel - 1, 0) * (inner + 2 * groups * size) + size * inner
