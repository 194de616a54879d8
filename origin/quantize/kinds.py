"""The quantizations that can be asked for.

A name such as ``Q4_K_M`` stands for a mixture: a base type for most tensors, and rules for the rest
(``rules.py``). Names and numbers are those of llama.cpp (``llama.h``, ``enum llama_ftype``).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from origin.quantize.errors import QuantizeError
from wire.gguf_types import TENSOR_TYPES, TensorType

TYPES_BY_NAME: dict[str, TensorType] = {kind.name: kind for kind in TENSOR_TYPES.values()}


@dataclass(frozen=True, slots=True)
class Quantization:
    """A mixture of tensor types under one name."""

    name: str
    file_type: int
    """What ``general.file_type`` says of such a file."""
    base: TensorType
    """The type of most tensors."""


QUANTIZATIONS: dict[str, Quantization] = {
    name: Quantization(name, number, TYPES_BY_NAME[base])
    for name, number, base in (
        ("Q4_0", 2, "Q4_0"),
        ("Q4_1", 3, "Q4_1"),
        ("Q8_0", 7, "Q8_0"),
        ("Q5_0", 8, "Q5_0"),
        ("Q5_1", 9, "Q5_1"),
        ("Q3_K_S", 11, "Q3_K"),
        ("Q3_K_M", 12, "Q3_K"),
        ("Q3_K_L", 13, "Q3_K"),
        ("Q4_K_S", 14, "Q4_K"),
        ("Q4_K_M", 15, "Q4_K"),
        ("Q5_K_S", 16, "Q5_K"),
        ("Q5_K_M", 17, "Q5_K"),
        ("Q6_K", 18, "Q6_K"),
    )
}


def quantizations(names: Sequence[str]) -> list[Quantization]:
    """What these names mean, each once, in their order. Case does not matter.

    Raises:
        QuantizeError: no name, or one that is not known; lists those that are.
    """
    wanted = list(dict.fromkeys(name.strip().upper() for name in names))
    unknown = [name for name in wanted if name not in QUANTIZATIONS]
    if unknown or not wanted:
        what = repr(", ".join(unknown)[:80])
        raise QuantizeError(f"unknown quantization {what}; known are {', '.join(QUANTIZATIONS)}")
    return [QUANTIZATIONS[name] for name in wanted]
