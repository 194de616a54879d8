"""The value types and tensor types of GGUF, and the values of a parsed header.

Sources: the GGUF specification (ggml ``docs/gguf.md``) and the type table of llama.cpp (``ggml.h``,
``ggml-common.h``). Types that llama.cpp has removed (4, 5, 31-33, 36-38) are unknown here too.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import IntEnum
from functools import cached_property
from typing import NoReturn, cast

from wire.errors import GGUFInvalidError

Scalar = bool | int | float | str
Value = Scalar | tuple[Scalar, ...]
"""A metadata value. All items of an array have one type."""


class ValueType(IntEnum):
    """The type tag of a metadata value."""

    UINT8 = 0
    INT8 = 1
    UINT16 = 2
    INT16 = 3
    UINT32 = 4
    INT32 = 5
    FLOAT32 = 6
    BOOL = 7
    STRING = 8
    ARRAY = 9
    UINT64 = 10
    INT64 = 11
    FLOAT64 = 12


NUMBER_FORMATS: dict[int, tuple[str, int]] = {
    ValueType.UINT8: ("B", 1),
    ValueType.INT8: ("b", 1),
    ValueType.UINT16: ("H", 2),
    ValueType.INT16: ("h", 2),
    ValueType.UINT32: ("I", 4),
    ValueType.INT32: ("i", 4),
    ValueType.FLOAT32: ("f", 4),
    ValueType.BOOL: ("B", 1),
    ValueType.UINT64: ("Q", 8),
    ValueType.INT64: ("q", 8),
    ValueType.FLOAT64: ("d", 8),
}
"""``struct`` letter and size in bytes of every type of fixed size."""


@dataclass(frozen=True, slots=True)
class TensorType:
    """How a tensor's numbers are stored: ``block_items`` numbers take ``block_bytes`` bytes."""

    code: int
    name: str
    block_items: int
    block_bytes: int


TENSOR_TYPES: dict[int, TensorType] = {
    code: TensorType(code, name, items, size)
    for code, name, items, size in (
        (0, "F32", 1, 4),
        (1, "F16", 1, 2),
        (2, "Q4_0", 32, 18),
        (3, "Q4_1", 32, 20),
        (6, "Q5_0", 32, 22),
        (7, "Q5_1", 32, 24),
        (8, "Q8_0", 32, 34),
        (9, "Q8_1", 32, 40),
        (10, "Q2_K", 256, 84),
        (11, "Q3_K", 256, 110),
        (12, "Q4_K", 256, 144),
        (13, "Q5_K", 256, 176),
        (14, "Q6_K", 256, 210),
        (15, "Q8_K", 256, 292),
        (16, "IQ2_XXS", 256, 66),
        (17, "IQ2_XS", 256, 74),
        (18, "IQ3_XXS", 256, 98),
        (19, "IQ1_S", 256, 50),
        (20, "IQ4_NL", 32, 18),
        (21, "IQ3_S", 256, 110),
        (22, "IQ2_S", 256, 82),
        (23, "IQ4_XS", 256, 136),
        (24, "I8", 1, 1),
        (25, "I16", 1, 2),
        (26, "I32", 1, 4),
        (27, "I64", 1, 8),
        (28, "F64", 1, 8),
        (29, "IQ1_M", 256, 56),
        (30, "BF16", 1, 2),
        (34, "TQ1_0", 256, 54),
        (35, "TQ2_0", 256, 66),
        (39, "MXFP4", 32, 17),
        (40, "NVFP4", 64, 36),
        (41, "Q1_0", 128, 18),
        (42, "Q2_0", 64, 18),
    )
}


@dataclass(frozen=True, slots=True)
class Tensor:
    """One entry of the tensor table.

    ``dims`` in numbers, the fastest-moving first; ``offset`` (from the start of the file) and
    ``size`` in bytes.
    """

    name: str
    dims: tuple[int, ...]
    type: TensorType
    offset: int
    size: int

    @property
    def items(self) -> int:
        """How many numbers the tensor holds."""
        return self.size // self.type.block_bytes * self.type.block_items


@dataclass(frozen=True)
class GGUF:
    """A checked GGUF header. Offsets and sizes in bytes.

    ``data_offset`` is where tensor data may begin: the end of the header, padded to ``alignment``.
    ``tensors`` stand in the order of the table. ``entries`` says where each key stands, with its
    type and value, and ``table`` where the table does: start and end.
    """

    version: int
    metadata: dict[str, Value]
    alignment: int
    data_offset: int
    tensors: tuple[Tensor, ...]
    file_size: int
    entries: dict[str, tuple[int, int]] = field(default_factory=dict)
    table: tuple[int, int] = (0, 0)

    @cached_property
    def parameters(self) -> int:
        """Numbers in all tensors."""
        return sum(tensor.items for tensor in self.tensors)

    def text(self, key: str, default: str | None = None) -> str:
        """The string under ``key``.

        Raises:
            GGUFInvalidError: missing without a default, or not a string.
        """
        value = self._value(key, default)
        return value if isinstance(value, str) else self._refuse(key, value, "a string")

    def integer(self, key: str, default: int | None = None) -> int:
        """The integer under ``key``; a bool is none. Raises as :meth:`text`."""
        value = self._value(key, default)
        if isinstance(value, int) and not isinstance(value, bool):
            return value
        return self._refuse(key, value, "an integer")

    def number(self, key: str, default: float | None = None) -> float:
        """The integer or float under ``key``. Raises as :meth:`text`."""
        value = self._value(key, default)
        if isinstance(value, int | float) and not isinstance(value, bool):
            return value
        return self._refuse(key, value, "a number")

    def flag(self, key: str, default: bool | None = None) -> bool:
        """The bool under ``key``. Raises as :meth:`text`."""
        value = self._value(key, default)
        return value if isinstance(value, bool) else self._refuse(key, value, "a bool")

    def texts(self, key: str, default: tuple[str, ...] | None = None) -> tuple[str, ...]:
        """The array of strings under ``key``. Raises as :meth:`text`."""
        value = self._value(key, default)
        if isinstance(value, tuple) and (not value or isinstance(value[0], str)):
            return cast("tuple[str, ...]", value)  # the items of an array have one type
        return self._refuse(key, value, "an array of strings")

    def integers(self, key: str, default: tuple[int, ...] | None = None) -> tuple[int, ...]:
        """The array of integers under ``key``. Raises as :meth:`text`."""
        value = self._value(key, default)
        if isinstance(value, tuple) and (
            not value or (isinstance(value[0], int) and not isinstance(value[0], bool))
        ):
            return cast("tuple[int, ...]", value)
        return self._refuse(key, value, "an array of integers")

    def _value(self, key: str, default: Value | None) -> Value:
        value = self.metadata.get(key, default)
        if value is None:
            raise GGUFInvalidError(f"GGUF metadata has no {key!r}")
        return value

    @staticmethod
    def _refuse(key: str, value: Value, wanted: str) -> NoReturn:
        raise GGUFInvalidError(
            f"GGUF metadata {key!r} is of type {type(value).__name__}; it must be {wanted}"
        )
