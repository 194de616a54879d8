"""The header of a quantized file: the source's metadata byte for byte, and a new tensor table.

Only ``general.file_type`` and ``general.quantization_version`` are written anew; every other key
keeps its bytes and its place, and tensors keep their order. The format is ggml ``docs/gguf.md``.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from wire.gguf_types import GGUF, Tensor, TensorType, ValueType

FILE_TYPE = "general.file_type"
QUANTIZATION_VERSION = "general.quantization_version"
_VERSION = 2
"""llama.cpp's ``GGML_QNT_VERSION``."""
_HEAD = struct.Struct("<4sIQQ")


@dataclass(frozen=True, slots=True)
class Layout:
    """A file to be written: its header with padding, and where each tensor goes (absolute)."""

    header: bytes
    tensors: tuple[Tensor, ...]
    size: int
    """Bytes of the whole file, with the padding after the last tensor."""


def lay_out(header: bytes, gguf: GGUF, types: Sequence[TensorType], file_type: int) -> Layout:
    """What a file becomes when its tensors get ``types``.

    Args:
        header: the source's first ``gguf.data_offset`` bytes.
        types: one for each tensor, in the order of the table.
    """
    fresh = {FILE_TYPE: file_type, QUANTIZATION_VERSION: _VERSION}
    kept = b"".join(_metadata(header, gguf, fresh))
    added = b"".join(_u32_entry(k, v) for k, v in fresh.items() if k not in gguf.entries)
    n_keys = len({*gguf.entries, *fresh})
    head = _HEAD.pack(b"GGUF", gguf.version, len(gguf.tensors), n_keys)
    placed = _placed(gguf, types)
    table = b"".join(_table_entry(tensor) for tensor in placed)
    start = head + kept + added + table
    start += bytes(-len(start) % gguf.alignment)
    end = max((t.offset + t.size for t in placed), default=0)
    return Layout(
        header=start,
        tensors=tuple(
            Tensor(t.name, t.dims, t.type, t.offset + len(start), t.size) for t in placed
        ),
        size=len(start) + _padded(end, gguf.alignment),
    )


def _metadata(header: bytes, gguf: GGUF, fresh: dict[str, int]) -> Iterator[bytes]:
    for key, (start, stop) in gguf.entries.items():
        yield _u32_entry(key, fresh[key]) if key in fresh else header[start:stop]


def _placed(gguf: GGUF, types: Sequence[TensorType]) -> list[Tensor]:
    """The tensors with new types, sizes, and offsets counted from the data's start."""
    placed: list[Tensor] = []
    offset = 0
    for tensor, kind in zip(gguf.tensors, types, strict=True):
        size = tensor.items // kind.block_items * kind.block_bytes
        placed.append(Tensor(tensor.name, tensor.dims, kind, offset, size))
        offset = _padded(offset + size, gguf.alignment)
    return placed


def _table_entry(tensor: Tensor) -> bytes:
    name = tensor.name.encode()
    dims = tensor.dims
    return struct.pack(
        f"<Q{len(name)}sI{len(dims)}QIQ",
        len(name), name, len(dims), *dims, tensor.type.code, tensor.offset,
    )  # fmt: skip


def _u32_entry(key: str, value: int) -> bytes:
    name = key.encode()
    return struct.pack(f"<Q{len(name)}sII", len(name), name, ValueType.UINT32, value)


def _padded(position: int, alignment: int) -> int:
    return -(-position // alignment) * alignment
