"""The shape of a model, as its GGUF header states it: what each layer weighs, what it keeps of
every token, what of it is read for every token.

Sources: the keys of the GGUF specification (ggml ``docs/gguf.md``) and what llama.cpp does with
them (``llama-hparams.cpp``, ``llama-kv-cache.cpp``, ``llama-memory-recurrent.cpp``). The header was
parsed within bounds (``wire.gguf``), but its numbers are still whatever somebody wrote: each one is
checked against :class:`ShapeLimits`. What a header does not say is estimated on the high side, and
``ModelShape.estimates`` says so.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from gpu_worker.layer_memory import LayerMemory, layer_memory
from wire.errors import GGUFInvalidError
from wire.gguf_types import GGUF, Tensor

_LAYER = re.compile(r"(?:blk|dec\.blk|enc\.blk)\.(\d{1,6})\.")
_EXPERTS = re.compile(r"_(?:ch)?exps\b")
INPUT = "token_embd.weight"
OUTPUT = "output.weight"


@dataclass(frozen=True, slots=True, kw_only=True)
class ShapeLimits:
    """The largest numbers that are believed; llama.cpp itself stops at 512 layers."""

    layers: int = 1_024
    width: int = 1_048_576
    """Of an embedding, a feed-forward layer, all heads together."""
    heads: int = 16_384
    experts: int = 4_096
    vocab: int = 16_777_216
    context: int = 1 << 40


@dataclass(frozen=True, slots=True, kw_only=True)
class Layer:
    """One layer. ``active_bytes`` of ``bytes`` are read for each token: of a mixture of experts
    only those that are used."""

    bytes: int
    active_bytes: int
    memory: LayerMemory


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelShape:
    """A model in numbers; sizes in bytes."""

    architecture: str
    layers: tuple[Layer, ...]
    input_bytes: int
    """The token embedding. llama.cpp leaves it in main memory; a token reads one row of it."""
    output_bytes: int
    """What turns the last layer's result into probabilities."""
    tied: bool
    """The output is the token embedding: one tensor, which a GPU gets a copy of."""
    rest_bytes: int
    """Norms, rope factors and whatever else belongs to no layer."""
    width: int
    """Numbers of an embedding."""
    feed_forward: int
    """Numbers between a layer's two projections, of all experts that are used."""
    query_width: int
    """Numbers of all heads together."""
    experts: int
    experts_used: int
    vocab: int
    context: int
    """Tokens that it was trained for; 0: not stated."""
    parameters: int
    estimates: tuple[str, ...] = ()
    """What the header does not say and was assumed, in words."""

    @property
    def weights_bytes(self) -> int:
        """All tensors."""
        outside = self.input_bytes + self.rest_bytes + (0 if self.tied else self.output_bytes)
        return outside + sum(layer.bytes for layer in self.layers)


def model_shape(files: GGUF | Sequence[GGUF], limits: ShapeLimits | None = None) -> ModelShape:
    """The shape of a model.

    Args:
        files: its header, or those of all parts of a split one: the first has the metadata.

    Raises:
        GGUFInvalidError: a number is beyond the limits; names the key.
    """
    headers = (files,) if isinstance(files, GGUF) else tuple(files)
    tensors = [tensor for header in headers for tensor in header.tensors]
    reader = _Reader(headers[0], limits or ShapeLimits())
    count = reader.layers(tensors)
    width = reader.width(tensors)
    experts = reader.number("expert_count", limit=reader.limits.experts)
    used = min(reader.number("expert_used_count", limit=reader.limits.experts), experts)
    if experts and not used:
        used = experts
        reader.assume(f"all {experts} experts are used for every token")
    layers = _layers(reader, tensors, count, width, used / experts if experts else 1.0)
    sizes = {tensor.name: tensor.size for tensor in tensors if not _LAYER.match(tensor.name)}
    tied = OUTPUT not in sizes
    known = sizes.get(INPUT, 0), sizes.get(OUTPUT, 0)
    return ModelShape(
        architecture=reader.architecture,
        layers=layers,
        input_bytes=known[0],
        output_bytes=known[0] if tied else known[1],
        tied=tied,
        rest_bytes=sum(sizes.values()) - sum(known),
        width=width,
        feed_forward=reader.feed_forward(width, used),
        query_width=reader.query_width(width),
        experts=experts,
        experts_used=used,
        vocab=reader.vocab(tensors),
        context=reader.number("context_length", limit=reader.limits.context),
        parameters=sum(header.parameters for header in headers),
        estimates=tuple(reader.estimates),
    )


def _layers(
    reader: _Reader, tensors: Iterable[Tensor], count: int, width: int, share: float
) -> tuple[Layer, ...]:
    """``share``: how much of the experts is read for a token."""
    sizes, active = [0] * count, [0.0] * count
    recurrent: set[int] = set()
    for tensor in tensors:
        match = _LAYER.match(tensor.name)
        if match is None:
            continue
        index = int(match[1])
        if index >= count:
            raise GGUFInvalidError(f"GGUF: tensor {tensor.name!r} is of no layer; it has {count}")
        sizes[index] += tensor.size
        active[index] += tensor.size * (share if _EXPERTS.search(tensor.name) else 1.0)
        if ".ssm_" in tensor.name:
            recurrent.add(index)
    memories, assumed = layer_memory(reader, count, width, recurrent)
    for what in assumed:
        reader.assume(what)
    return tuple(
        Layer(bytes=size, active_bytes=round(read), memory=memory)
        for size, read, memory in zip(sizes, active, memories, strict=True)
    )


class _Reader:
    """Numbers of one architecture (``llama.block_count``), each within its limit."""

    def __init__(self, header: GGUF, limits: ShapeLimits) -> None:
        self.limits = limits
        self.architecture = header.text("general.architecture", "")
        self.estimates: list[str] = []
        self._header = header

    def assume(self, what: str) -> None:
        self.estimates.append(what)

    def number(self, name: str, default: int = 0, *, limit: int | None = None) -> int:
        """The number under ``ARCHITECTURE.name``; the largest, where it is given by layer."""
        return max(self.by_layer(name, limit=limit) or (default,))

    def by_layer(self, name: str, *, limit: int | None = None) -> tuple[int, ...]:
        """The numbers under a key: one for all layers, or one each; none where it is missing.
        Bools count as 0 and 1.

        Raises:
            GGUFInvalidError: no number, negative, or beyond the limit.
        """
        key = f"{self.architecture}.{name}"
        value = self._header.metadata.get(key, ())
        highest = self.limits.width if limit is None else limit
        items = value if isinstance(value, tuple) else (value,)
        if len(items) > self.limits.layers:
            raise GGUFInvalidError(
                f"GGUF metadata {key!r} has {len(items)} items; the limit is {self.limits.layers}"
            )
        found: list[int] = []
        for item in items:
            if isinstance(item, str | float) or not 0 <= item <= highest:
                raise GGUFInvalidError(
                    f"GGUF metadata {key!r} is {str(item)[:40]!r}; 0 to {highest} can be believed"
                )
            found.append(int(item))
        return tuple(found)

    def layers(self, tensors: Iterable[Tensor]) -> int:
        """How many layers, or how many its tensors name."""
        stated = self.number("block_count", limit=self.limits.layers)
        if stated:
            return stated
        indices = [int(m[1]) for t in tensors if (m := _LAYER.match(t.name))]
        count = max(indices, default=-1) + 1
        if count > self.limits.layers:
            raise GGUFInvalidError(f"GGUF: {count} layers; the limit is {self.limits.layers}")
        self.assume(f"{count} layers, by the names of its tensors")
        return count

    def width(self, tensors: Iterable[Tensor]) -> int:
        """Of an embedding; where it is not stated, as its tensor is, else as the widest one."""
        stated = self.number("embedding_length")
        if stated:
            return stated
        widths = {tensor.name: tensor.dims[0] for tensor in tensors}
        width = min(widths.get(INPUT) or max(widths.values(), default=1), self.limits.width)
        self.assume(f"embeddings of {width} numbers")
        return width

    def vocab(self, tensors: Iterable[Tensor]) -> int:
        """Tokens that it knows."""
        tokens = self._header.metadata.get("tokenizer.ggml.tokens", ())
        if isinstance(tokens, tuple) and tokens:
            return len(tokens)
        rows = next((t.dims[1] for t in tensors if t.name == INPUT and len(t.dims) > 1), 0)
        return min(self.number("vocab_size", limit=self.limits.vocab) or rows, self.limits.vocab)

    def feed_forward(self, width: int, used: int) -> int:
        """The widest there is: of a dense layer, or of all experts that are used together."""
        dense = self.number("feed_forward_length") or 4 * width
        each = self.number("expert_feed_forward_length") or dense
        shared = self.number("expert_shared_feed_forward_length")
        return max(dense, used * each + shared)

    def query_width(self, width: int) -> int:
        heads = self.number("attention.head_count", limit=self.limits.heads)
        return heads * self.number("attention.key_length") or width
