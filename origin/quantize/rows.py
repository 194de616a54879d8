"""Turns runs of numbers into blocks of a tensor type: what our own writer quantizes with.

Without an importance matrix every type here treats its blocks one by one, so a tensor may be given
in pieces, as long as each is made of whole blocks.
"""

from __future__ import annotations

import ctypes
import importlib.util
from typing import Protocol

import gguf
import numpy as np
import numpy.typing as npt

from origin.quantize.errors import NoEngineError
from origin.quantize.kinds import TYPES_BY_NAME
from wire.gguf_types import TensorType

Floats = npt.NDArray[np.float32]
Bytes = npt.NDArray[np.uint8]

_SAMPLE_ITEMS = 512


class RowQuantizer(Protocol):
    """Quantizes blocks. Safe to call from several threads."""

    @property
    def types(self) -> frozenset[str]:
        """Names of the tensor types it writes."""
        ...

    def quantize(self, values: Floats, kind: TensorType) -> Bytes:
        """The blocks of ``values``, which are finite and fill whole blocks."""
        ...


class GgufRows:
    """The ``gguf`` package, in numpy: its bytes are those of ggml's reference code."""

    types = frozenset({"F32", "F16", "BF16", "Q4_0", "Q4_1", "Q5_0", "Q5_1", "Q8_0"})

    def quantize(self, values: Floats, kind: TensorType) -> Bytes:
        blocks = gguf.quants.quantize(values.reshape(1, -1), gguf.GGMLQuantizationType(kind.code))
        return np.ascontiguousarray(blocks).view(np.uint8).reshape(-1)


class GgmlRows:
    """llama.cpp's own code, ``ggml_quantize_chunk`` (ggml.h), out of the xllamacpp wheel.

    The function takes plain numbers and pointers and is part of ggml's public interface. Before it
    is trusted it has to write the bytes that :class:`GgufRows` writes.

    Raises:
        NoEngineError: the wheel is not here, or its function is another one.
    """

    types = GgufRows.types | {"Q3_K", "Q4_K", "Q5_K", "Q6_K", "IQ4_NL"}

    def __init__(self) -> None:
        try:
            extension = importlib.util.find_spec("xllamacpp.xllamacpp")
            library = ctypes.CDLL(extension.origin if extension and extension.origin else "")
            self._function = library.ggml_quantize_chunk
        except (ImportError, OSError, AttributeError) as error:
            raise NoEngineError(f"xllamacpp gives no ggml_quantize_chunk: {error}") from error
        size, number, pointer = ctypes.c_size_t, ctypes.c_int64, ctypes.c_void_p
        self._function.argtypes = [ctypes.c_int, pointer, pointer, number, number, number, pointer]
        self._function.restype = size
        self._check()

    def quantize(self, values: Floats, kind: TensorType) -> Bytes:
        values = np.ascontiguousarray(values, np.float32)
        blocks = np.empty(values.size // kind.block_items * kind.block_bytes, np.uint8)
        written = self._function(
            kind.code, values.ctypes.data, blocks.ctypes.data, 0, 1, values.size, None
        )
        if written != blocks.size:
            raise NoEngineError(f"ggml wrote {written} B of {kind.name}; {blocks.size} B are due")
        return blocks

    def _check(self) -> None:
        sample = np.sin(np.arange(_SAMPLE_ITEMS, dtype=np.float32))
        for name in ("Q8_0", "Q4_0"):
            kind = TYPES_BY_NAME[name]
            if not np.array_equal(self.quantize(sample, kind), GgufRows().quantize(sample, kind)):
                raise NoEngineError("xllamacpp's ggml_quantize_chunk writes other bytes than ggml")


def to_floats(data: bytes, kind: TensorType) -> Floats:
    """The numbers of an F32, F16 or BF16 tensor's bytes, little-endian."""
    if kind.name == "F32":
        return np.frombuffer(data, "<f4")
    if kind.name == "F16":
        return np.frombuffer(data, "<f2").astype(np.float32)
    wide = np.frombuffer(data, "<u2").astype(np.uint32)
    return np.left_shift(wide, np.uint32(16)).view(np.float32)
