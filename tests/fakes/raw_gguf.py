"""GGUF headers byte by byte, so that a test can write what no writer would."""

from __future__ import annotations

import struct
from collections.abc import Sequence

U8, I8, U16, I16, U32, I32, F32, BOOL, STRING, ARRAY, U64, I64, F64 = range(13)


def text(value: str | bytes) -> bytes:
    """A string: its length, then its bytes."""
    data = value.encode() if isinstance(value, str) else value
    return struct.pack("<Q", len(data)) + data


def key(name: str | bytes, kind: int, payload: bytes) -> bytes:
    """A metadata entry."""
    return text(name) + struct.pack("<I", kind) + payload


def text_key(name: str, value: str | bytes) -> bytes:
    """A metadata entry with a string."""
    return key(name, STRING, text(value))


def u32_key(name: str, value: int) -> bytes:
    """A metadata entry with a 32-bit number."""
    return key(name, U32, struct.pack("<I", value))


def array(kind: int, count: int, items: bytes) -> bytes:
    """The payload of an array."""
    return struct.pack("<IQ", kind, count) + items


def texts_key(name: str, values: Sequence[str]) -> bytes:
    """A metadata entry with an array of strings."""
    return key(name, ARRAY, array(STRING, len(values), b"".join(map(text, values))))


def tensor(name: str | bytes, dims: Sequence[int], kind: int = 0, offset: int = 0) -> bytes:
    """An entry of the tensor table; 0 is F32."""
    numbers = struct.pack(f"<I{len(dims)}Q", len(dims), *dims)
    return text(name) + numbers + struct.pack("<IQ", kind, offset)


def header(
    keys: Sequence[bytes] = (),
    tensors: Sequence[bytes] = (),
    *,
    version: int = 3,
    n_keys: int | None = None,
    n_tensors: int | None = None,
    alignment: int = 32,
) -> bytes:
    """A whole header, padded; the counts are true unless given."""
    counts = struct.pack(
        "<IQQ",
        version,
        len(tensors) if n_tensors is None else n_tensors,
        len(keys) if n_keys is None else n_keys,
    )
    data = b"GGUF" + counts + b"".join(keys) + b"".join(tensors)
    return data + bytes(-len(data) % alignment)
