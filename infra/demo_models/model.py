"""A small LLaMA in PyTorch, as functions over named tensors.

The tensors carry their GGUF names, so a checkpoint is the file. RMSNorm, rotary positions in
interleaved pairs (llama.cpp's `llama` architecture), SwiGLU, grouped-query attention, and an
embedding that is tied to the output.
Source: Touvron et al. 2023 (arXiv:2302.13971); RoPE: Su et al. 2021 (arXiv:2104.09864).
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch.nn import functional

Weights = dict[str, torch.Tensor]

EMBEDDING = "token_embd.weight"
FINAL_NORM = "output_norm.weight"


@dataclass(frozen=True)
class Shape:
    """The sizes of a model; widths in numbers, `context` in tokens."""

    vocabulary: int
    width: int = 256
    layers: int = 3
    heads: int = 4
    kv_heads: int = 2
    feed_forward: int = 512
    context: int = 2048
    rope_base: float = 10000.0
    epsilon: float = 1e-5

    @property
    def head_width(self) -> int:
        """The width of one attention head."""
        return self.width // self.heads


def layer_name(layer: int, part: str) -> str:
    """The GGUF name of one tensor of a layer."""
    return f"blk.{layer}.{part}.weight"


def tensor_shapes(shape: Shape) -> dict[str, tuple[int, ...]]:
    """Name and size (rows = outputs) of every tensor, in the order of the file."""
    wide, narrow = shape.width, shape.kv_heads * shape.head_width
    sizes: dict[str, tuple[int, ...]] = {EMBEDDING: (shape.vocabulary, wide)}
    for layer in range(shape.layers):
        parts: dict[str, tuple[int, ...]] = {
            "attn_norm": (wide,),
            "attn_q": (wide, wide),
            "attn_k": (narrow, wide),
            "attn_v": (narrow, wide),
            "attn_output": (wide, wide),
            "ffn_norm": (wide,),
            "ffn_gate": (shape.feed_forward, wide),
            "ffn_up": (shape.feed_forward, wide),
            "ffn_down": (wide, shape.feed_forward),
        }
        sizes.update({layer_name(layer, part): size for part, size in parts.items()})
    sizes[FINAL_NORM] = (wide,)
    return sizes


def initial(shape: Shape, seed: int) -> Weights:
    """Fresh weights: norms at one, the rest normal; what writes to the residual starts smaller."""
    source = torch.Generator().manual_seed(seed)
    weights: Weights = {}
    for name, size in tensor_shapes(shape).items():
        if len(size) == 1:
            weights[name] = torch.ones(size)
            continue
        deviation = 0.02 if name == EMBEDDING else size[-1] ** -0.5
        if "attn_output" in name or "ffn_down" in name:
            deviation *= (2 * shape.layers) ** -0.5
        weights[name] = torch.randn(size, generator=source) * deviation
    return weights


def parameters(weights: Weights) -> int:
    """How many numbers the model has."""
    return sum(int(tensor.numel()) for tensor in weights.values())


def rotation(shape: Shape, length: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Cosine and sine of the rotary angles, each [length, head_width / 2]."""
    half = torch.arange(0, shape.head_width, 2, dtype=torch.float64)
    speed = shape.rope_base ** (-half / shape.head_width)
    angle = torch.outer(torch.arange(length, dtype=torch.float64), speed)
    return angle.cos().float(), angle.sin().float()


def rotate(vectors: torch.Tensor, cosine: torch.Tensor, sine: torch.Tensor) -> torch.Tensor:
    """Turns the neighbouring pairs (0,1), (2,3), ... of [..., length, head_width]."""
    even, odd = vectors[..., 0::2], vectors[..., 1::2]
    pairs = torch.stack((even * cosine - odd * sine, even * sine + odd * cosine), dim=-1)
    return pairs.flatten(-2)


def hidden(weights: Weights, shape: Shape, tokens: torch.Tensor) -> torch.Tensor:
    """The last hidden states [batch, length, width] of token ids [batch, length]."""
    batch, length = tokens.shape
    cosine, sine = rotation(shape, length)
    state = functional.embedding(tokens, weights[EMBEDDING])

    def norm(vectors: torch.Tensor, name: str) -> torch.Tensor:
        return functional.rms_norm(vectors, (shape.width,), weights[name], shape.epsilon)

    def heads(vectors: torch.Tensor, layer: int, part: str) -> torch.Tensor:
        flat = functional.linear(vectors, weights[layer_name(layer, part)])
        return flat.view(batch, length, -1, shape.head_width).transpose(1, 2)

    for layer in range(shape.layers):
        normed = norm(state, layer_name(layer, "attn_norm"))
        query = rotate(heads(normed, layer, "attn_q"), cosine, sine)
        key = rotate(heads(normed, layer, "attn_k"), cosine, sine)
        value = heads(normed, layer, "attn_v")
        mixed = functional.scaled_dot_product_attention(
            query, key, value, is_causal=True, enable_gqa=True
        )
        mixed = mixed.transpose(1, 2).reshape(batch, length, shape.width)
        state = state + functional.linear(mixed, weights[layer_name(layer, "attn_output")])
        normed = norm(state, layer_name(layer, "ffn_norm"))
        gate = functional.linear(normed, weights[layer_name(layer, "ffn_gate")])
        up = functional.linear(normed, weights[layer_name(layer, "ffn_up")])
        down = weights[layer_name(layer, "ffn_down")]
        state = state + functional.linear(functional.silu(gate) * up, down)
    return norm(state, FINAL_NORM)


def answer_loss(
    weights: Weights, shape: Shape, tokens: torch.Tensor, answers: torch.Tensor
) -> torch.Tensor:
    """Mean cross-entropy (nats) of the tokens that `answers` [batch, length] marks."""
    states = hidden(weights, shape, tokens[:, :-1])
    wanted = answers[:, 1:]
    logits = functional.linear(states[wanted], weights[EMBEDDING])
    return functional.cross_entropy(logits, tokens[:, 1:][wanted])
