"""Which tensor gets which type, as llama.cpp decides it without an importance matrix.

Source: llama.cpp ``src/llama-quant.cpp`` (``llama_model_quantize_impl`` for what is left alone,
``llama_tensor_get_type`` for the types). Two differences, both to the better side: a row that is
not made of whole blocks of 32 keeps its type (llama.cpp makes it F16, or refuses the model), and a
type that an engine cannot write becomes Q8_0 where it is Q6_K.
"""

from __future__ import annotations

import re
from collections.abc import Collection
from dataclasses import dataclass

from origin.quantize.errors import NoEngineError
from origin.quantize.kinds import TYPES_BY_NAME, Quantization
from wire.gguf_types import GGUF, Tensor, TensorType

FLOAT_TYPES = frozenset({"F32", "F16", "BF16"})
_OUTPUT = "output.weight"
_EMBEDDING = "token_embd.weight"
_ALONE = (
    "_norm.weight", "ffn_gate_inp.weight", "altup", "laurel", "per_layer_model_proj",
    "ssm_conv1d.weight", "shortconv.conv.weight", "time_mix_first.weight", "time_mix_w0.weight",
    "time_mix_w1.weight", "time_mix_w2.weight", "time_mix_v0.weight", "time_mix_v1.weight",
    "time_mix_v2.weight", "time_mix_a0.weight", "time_mix_a1.weight", "time_mix_a2.weight",
    "time_mix_g1.weight", "time_mix_g2.weight", "time_mix_decay_w1.weight",
    "time_mix_decay_w2.weight", "time_mix_lerp_fused.weight", "attn_rel_b.weight",
)  # fmt: skip
"""Parts of the names of tensors that stay: small, or the model is sensitive to them."""
_ALONE_NAMES = frozenset({"position_embd.weight", "token_types.weight"})
_COUNTED = ("attn_v.weight", "attn_qkv.weight", "attn_kv_b.weight")
_LAYER = re.compile(r"blk\.(\d+)\.")
_SMALLER_BLOCKS = {"Q3_K": "IQ4_NL", "Q4_K": "Q5_0", "Q5_K": "Q5_1", "Q6_K": "Q8_0"}
"""What stands in for a type with blocks of 256 where rows are not whole ones."""
_SEVENTY_B_LAYERS = 80


def choose_types(
    gguf: GGUF, quant: Quantization, writable: Collection[str]
) -> tuple[TensorType, ...]:
    """The type of every tensor after quantization, in the order of the table.

    Args:
        writable: names of the types that the engine writes.

    Raises:
        NoEngineError: it takes a type that is not among them.
    """
    rules = _Rules(_Model.of(gguf), quant)
    ordered = sorted(gguf.tensors, key=lambda tensor: (_layer(tensor.name), tensor.name))
    chosen = {tensor.name: rules.choose(tensor) for tensor in ordered}
    return tuple(_written(tensor, chosen[tensor.name], writable) for tensor in gguf.tensors)


def _written(tensor: Tensor, name: str, writable: Collection[str]) -> TensorType:
    if name == tensor.type.name or name in writable:
        return TYPES_BY_NAME[name]
    if name == "Q6_K" and "Q8_0" in writable:
        return TYPES_BY_NAME["Q8_0"]
    raise NoEngineError(f"tensor {tensor.name!r} becomes {name}, which this engine cannot write")


@dataclass(frozen=True, slots=True)
class _Model:
    """What the rules ask of a model."""

    falcon: bool
    seventy_b: bool
    n_experts: int
    n_layers: int
    n_values: int
    """Tensors that hold attention values."""
    has_output: bool

    @classmethod
    def of(cls, gguf: GGUF) -> _Model:
        arch = gguf.text("general.architecture", "")
        names = [tensor.name for tensor in gguf.tensors]
        n_layers = gguf.integer(f"{arch}.block_count", 0)
        return cls(
            falcon=arch == "falcon",
            seventy_b=arch in {"llama", "qwen2"} and n_layers == _SEVENTY_B_LAYERS,
            n_experts=gguf.integer(f"{arch}.expert_count", 0),
            n_layers=n_layers,
            n_values=sum(any(part in name for part in _COUNTED) for name in names),
            has_output=_OUTPUT in names,
        )


class _Rules:
    """Chooses tensor by tensor, in llama.cpp's order, because some rules count."""

    def __init__(self, model: _Model, quant: Quantization) -> None:
        self._model = model
        self._quant = quant
        self._values = 0
        self._downs = 0

    def choose(self, tensor: Tensor) -> str:
        """The name of the tensor's type."""
        name = tensor.name
        if not _is_quantized(tensor):
            return tensor.type.name
        if name == _OUTPUT or (not self._model.has_output and name == _EMBEDDING):
            chosen = self._output(tensor)
        elif "attn_v.weight" in name:
            chosen = self._value()
            self._values += 1
        elif "attn_k.weight" in name and self._model.n_experts == 8:
            chosen = "Q8_0"
        elif "ffn_down" in name:
            chosen = self._down(_layer(name) if self._model.n_experts > 1 else self._downs)
            self._downs += 1
        elif "attn_output.weight" in name:
            chosen = self._attention_output()
        elif "attn_qkv.weight" in name:
            chosen = self._by_quant(Q3_K_M="Q4_K", Q3_K_L="Q4_K", Q4_K_M="Q5_K", Q5_K_M="Q6_K")
        else:
            chosen = self._quant.base.name
        return _fitting(tensor, chosen)

    def _output(self, tensor: Tensor) -> str:
        base = self._quant.base
        if self._model.falcon or tensor.dims[0] % base.block_items:
            return "Q8_0"
        return "Q8_0" if base.name == "Q8_0" else "Q6_K"

    def _value(self) -> str:
        index, model = self._values, self._model
        chosen = self._by_quant(Q3_K_M="Q5_K" if index < 2 else "Q4_K", Q3_K_L="Q5_K")
        if self._quant.name in {"Q4_K_M", "Q5_K_M"} and _use_more_bits(index, model.n_values):
            chosen = "Q6_K"
        elif self._quant.name == "Q4_K_S" and index < 4:
            chosen = "Q5_K"
        if model.seventy_b and chosen in {"Q3_K", "Q4_K"}:
            chosen = "Q5_K"
        return "Q8_0" if model.n_experts == 8 else chosen

    def _down(self, layer: int) -> str:
        n_layers, falcon = self._model.n_layers, self._model.falcon
        more = _use_more_bits(layer, n_layers)
        first = layer < n_layers // 16
        if falcon:
            return self._by_quant(
                Q3_K_M="Q5_K" if first else "Q4_K" if more else "Q3_K",
                Q3_K_L="Q4_K",
                Q4_K_M="Q6_K" if first else "Q5_K" if more else "Q4_K",
                Q5_K_M="Q6_K" if more else "Q5_K",
            )
        return self._by_quant(
            Q3_K_M="Q5_K" if first else "Q4_K",
            Q3_K_L="Q5_K",
            Q4_K_S="Q5_K" if layer < n_layers // 8 else "Q4_K",
            Q4_K_M="Q6_K" if more else "Q4_K",
            Q5_K_M="Q6_K" if more else "Q5_K",
        )

    def _attention_output(self) -> str:
        if self._model.falcon:
            return self._by_quant(Q3_K_L="Q4_K")
        if self._model.n_experts == 8:
            return self._by_quant(Q3_K_S="Q5_K", Q3_K_M="Q5_K", Q4_K_S="Q5_K", Q4_K_M="Q5_K")
        return self._by_quant(Q3_K_M="Q4_K", Q3_K_L="Q5_K")

    def _by_quant(self, **types: str) -> str:
        return types.get(self._quant.name, self._quant.base.name)


def _is_quantized(tensor: Tensor) -> bool:
    name = tensor.name
    return (
        tensor.type.name in FLOAT_TYPES
        and name.endswith("weight")
        and sum(dim > 1 for dim in tensor.dims[1:]) > 0
        and name not in _ALONE_NAMES
        and not any(part in name for part in _ALONE)
    )


def _fitting(tensor: Tensor, chosen: str) -> str:
    """The type, one with smaller blocks where rows are not whole ones, or what it is already."""
    row = tensor.dims[0]
    if row % TYPES_BY_NAME[chosen].block_items:
        chosen = _SMALLER_BLOCKS.get(chosen, chosen)
    return tensor.type.name if row % TYPES_BY_NAME[chosen].block_items else chosen


def _use_more_bits(layer: int, n_layers: int) -> bool:
    """The first and last eighth of the layers, and every third between."""
    eighth = n_layers // 8
    return layer < eighth or layer >= 7 * n_layers // 8 or (layer - eighth) % 3 == 2


def _layer(name: str) -> int:
    """The number in ``blk.7.``; -1 for what belongs to no layer."""
    found = _LAYER.match(name)
    return int(found.group(1)) if found else -1
