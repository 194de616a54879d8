"""GGUF files with the shapes of well-known models: a header, and holes where the weights would be.

They cost hardly any disk, whatever size they claim. llama.cpp loads those that have a vocabulary
(all their numbers are zero); it only answers nonsense.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

from gpu_worker.model_shape import ModelShape, model_shape
from tests.fakes import raw_gguf
from wire.gguf import GGUF, read_gguf
from wire.gguf_types import TENSOR_TYPES

_CODES = {kind.name: code for code, kind in TENSOR_TYPES.items()}
_ALIGNMENT = 32
_STATE, _KERNEL, _RANK = 16, 4, 16
"""Of a recurrent layer."""
_ALWAYS_F32 = ("gate_inp", "ssm_conv1d", "ssm_dt", "ssm_a")


@dataclass(frozen=True, slots=True, kw_only=True)
class Shape:
    """A model's numbers, as its GGUF states them. ``experts`` 0: a dense model."""

    arch: str = "llama"
    layers: int = 2
    embd: int = 256
    heads: int = 4
    kv_heads: int | tuple[int, ...] = 2
    head_dim: int = 0
    """Where it is not ``embd / heads``."""
    ff: int = 512
    vocab: int = 512
    context: int = 8_192
    experts: int = 0
    experts_used: int = 0
    expert_ff: int = 0
    window: int = 0
    inner: int = 0
    """Numbers of a recurrent layer, which a ``mamba`` has and nothing else."""
    tied: bool = False
    tokens: bool = False
    """With a vocabulary, so that llama.cpp loads it."""

    @property
    def head(self) -> int:
        """Numbers of one head."""
        return self.head_dim or self.embd // self.heads

    def kv_of(self, layer: int) -> int:
        return self.kv_heads if isinstance(self.kv_heads, int) else self.kv_heads[layer]


LLAMA_8B = Shape(
    layers=32, embd=4096, heads=32, kv_heads=8, ff=14336, vocab=128_256, context=131_072
)
LLAMA_70B = Shape(
    layers=80, embd=8192, heads=64, kv_heads=8, ff=28672, vocab=128_256, context=131_072
)
QWEN_7B = Shape(
    arch="qwen2", layers=28, embd=3584, heads=28, kv_heads=4, ff=18944, vocab=152_064,
    context=131_072,
)  # fmt: skip
MIXTRAL = Shape(
    layers=32, embd=4096, heads=32, kv_heads=8, ff=14336, vocab=32_000, context=32_768,
    experts=8, experts_used=2, expert_ff=14336,
)  # fmt: skip
GEMMA_12B = Shape(
    arch="gemma3", layers=48, embd=3840, heads=16, kv_heads=8, head_dim=256, ff=15360,
    vocab=262_144, context=131_072, window=1024, tied=True,
)  # fmt: skip


def write_shaped_gguf(path: Path, shape: Shape, variant: str = "Q4_K_M") -> Path:
    """The file of a variant at its full length, all holes behind the header."""
    head, size = _file(shape, variant)
    with path.open("wb") as stream:
        stream.write(head)
        stream.truncate(size)
    return path


def shaped_gguf(shape: Shape, variant: str = "Q4_K_M") -> GGUF:
    """The header as it would be read from the file, which is not written."""
    head, size = _file(shape, variant)
    return read_gguf(lambda offset, length: head[offset : offset + length], size)


@lru_cache
def shape_of(shape: Shape, variant: str = "Q4_K_M") -> ModelShape:
    """What the worker makes of the header."""
    return model_shape(shaped_gguf(shape, variant))


def shaped_header(shape: Shape, variant: str = "Q4_K_M") -> tuple[bytes, int]:
    """The header's bytes and the size of the whole file."""
    return _file(shape, variant)


def _file(shape: Shape, variant: str) -> tuple[bytes, int]:
    entries, offset = [], 0
    for name, dims in _tensors(shape):
        kind = TENSOR_TYPES[_CODES[_type_of(name, dims, variant, shape)]]
        items = 1
        for dim in dims:
            items *= dim
        entries.append(raw_gguf.tensor(name, dims, kind.code, offset))
        size = items // kind.block_items * kind.block_bytes
        offset += -(-size // _ALIGNMENT) * _ALIGNMENT
    head = raw_gguf.header(list(_keys(shape)), entries)
    return head, len(head) + offset


def _keys(shape: Shape) -> Iterator[bytes]:
    arch = shape.arch
    yield raw_gguf.text_key("general.architecture", arch)
    yield raw_gguf.text_key("general.name", "shaped")
    numbers = {
        "block_count": shape.layers,
        "context_length": shape.context,
        "embedding_length": shape.embd,
        "feed_forward_length": shape.ff,
        "attention.head_count": shape.heads,
        "rope.dimension_count": shape.head,
        "attention.key_length": shape.head_dim,
        "attention.value_length": shape.head_dim,
        "attention.sliding_window": shape.window,
        "expert_count": shape.experts,
        "expert_used_count": shape.experts_used,
        "expert_feed_forward_length": shape.expert_ff,
        "vocab_size": shape.vocab,
    }
    if shape.inner:
        numbers |= {"ssm.inner_size": shape.inner, "ssm.state_size": _STATE}
        numbers |= {"ssm.conv_kernel": _KERNEL, "ssm.time_step_rank": _RANK}
    for name, number in numbers.items():
        if number:
            yield raw_gguf.u32_key(f"{arch}.{name}", number)
    if isinstance(shape.kv_heads, int):
        yield raw_gguf.u32_key(f"{arch}.attention.head_count_kv", shape.kv_heads)
    else:
        items = struct.pack(f"<{len(shape.kv_heads)}I", *shape.kv_heads)
        array = raw_gguf.array(raw_gguf.U32, len(shape.kv_heads), items)
        yield raw_gguf.key(f"{arch}.attention.head_count_kv", raw_gguf.ARRAY, array)
    epsilon = struct.pack("<f", 1e-5)
    yield raw_gguf.key(f"{arch}.attention.layer_norm_rms_epsilon", raw_gguf.F32, epsilon)
    if shape.tokens:
        yield from _tokenizer(shape.vocab)


def _tokenizer(vocab: int) -> Iterator[bytes]:
    """The 256 bytes as GPT-2 writes them, and numbered words; one merge, because llama.cpp asks."""
    own = [*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)]
    stand_ins = {code: 0x100 + i for i, code in enumerate(c for c in range(256) if c not in own)}
    tokens = [chr(stand_ins.get(code, code)) for code in range(256)]
    tokens += ["qx", *(f"word{number}" for number in range(vocab - 257))]
    yield raw_gguf.text_key("tokenizer.ggml.model", "gpt2")
    yield raw_gguf.text_key("tokenizer.ggml.pre", "gpt-2")
    yield raw_gguf.texts_key("tokenizer.ggml.tokens", tokens)
    yield raw_gguf.texts_key("tokenizer.ggml.merges", ["q x"])
    yield raw_gguf.u32_key("tokenizer.ggml.bos_token_id", vocab - 2)
    yield raw_gguf.u32_key("tokenizer.ggml.eos_token_id", vocab - 1)


def _tensors(shape: Shape) -> Iterator[tuple[str, Sequence[int]]]:
    """Names and dimensions, the fastest-moving first."""
    yield "token_embd.weight", (shape.embd, shape.vocab)
    yield "output_norm.weight", (shape.embd,)
    if not shape.tied:
        yield "output.weight", (shape.embd, shape.vocab)
    for layer in range(shape.layers):
        parts = _recurrent(shape) if shape.inner else _layer(shape, layer)
        for name, dims in parts.items():
            # A recurrent layer has tensors that are no weights.
            yield f"blk.{layer}.{name}" + ("" if "ssm_" in name else ".weight"), dims


def _recurrent(shape: Shape) -> dict[str, Sequence[int]]:
    embd, inner = shape.embd, shape.inner
    return {
        "attn_norm": (embd,),
        "ssm_in.weight": (embd, 2 * inner),
        "ssm_conv1d.weight": (_KERNEL, inner),
        "ssm_conv1d.bias": (inner,),
        "ssm_x.weight": (inner, _RANK + 2 * _STATE),
        "ssm_dt.weight": (_RANK, inner),
        "ssm_dt.bias": (inner,),
        "ssm_a": (_STATE, inner),
        "ssm_d": (inner,),
        "ssm_out.weight": (inner, embd),
    }


def _layer(shape: Shape, layer: int) -> dict[str, Sequence[int]]:
    embd, q, kv = shape.embd, shape.heads * shape.head, shape.kv_of(layer) * shape.head
    dims: dict[str, Sequence[int]] = {"attn_norm": (embd,), "ffn_norm": (embd,)}
    dims |= {"attn_q": (embd, q), "attn_output": (q, embd)}
    if kv:
        dims |= {"attn_k": (embd, kv), "attn_v": (embd, kv)}
    if shape.arch == "gemma3":
        dims |= {"attn_q_norm": (shape.head,), "attn_k_norm": (shape.head,)}
        dims |= {"post_attention_norm": (embd,), "post_ffw_norm": (embd,)}
    if not shape.experts:
        up, down = (embd, shape.ff), (shape.ff, embd)
        return dims | {"ffn_gate": up, "ffn_up": up, "ffn_down": down}
    up3 = (embd, shape.expert_ff, shape.experts)
    down3 = (shape.expert_ff, embd, shape.experts)
    dims |= {"ffn_gate_inp": (embd, shape.experts)}
    return dims | {"ffn_gate_exps": up3, "ffn_up_exps": up3, "ffn_down_exps": down3}


def _type_of(name: str, dims: Sequence[int], variant: str, shape: Shape) -> str:
    """What ``llama-quantize`` makes of a tensor, near enough to come out at the known sizes."""
    if len(dims) == 1 or any(part in name for part in _ALWAYS_F32):
        return "F32"
    mixed = {"Q4_K_M": ("Q4_K", "Q6_K"), "Q5_K_M": ("Q5_K", "Q6_K"), "Q3_K_M": ("Q3_K", "Q4_K")}
    if variant not in mixed:
        return variant
    base, more = mixed[variant]
    if name == "output.weight" or (shape.tied and name == "token_embd.weight"):
        return "Q6_K"
    if any(part in name for part in ("attn_v", "ffn_down")):
        layer, eighth = int(name.split(".")[1]), shape.layers // 8
        first_or_last = layer < eighth or layer >= 7 * shape.layers // 8
        return more if first_or_last or (layer - eighth) % 3 == 2 else base
    return base
