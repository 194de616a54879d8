"""safetensors files byte by byte, so that a test can write what no writer would."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from math import prod
from pathlib import Path

from wire.safetensors import DTYPE_BITS

Table = Mapping[str, tuple[str, Sequence[int]]]
"""Type and shape of each tensor, in file order."""


def entry(dtype: str, shape: object, start: int, end: int) -> dict[str, object]:
    """A tensor in the header."""
    return {"dtype": dtype, "shape": shape, "data_offsets": [start, end]}


def joined(header: object, data: bytes) -> bytes:
    """A file of this header: bytes and text as they are, anything else as JSON."""
    if isinstance(header, bytes):
        content = header
    else:
        text = header if isinstance(header, str) else json.dumps(header)
        content = text.encode(errors="surrogatepass")
    return len(content).to_bytes(8, "little") + content + data


def write(table: Table, *, metadata: Mapping[str, str] | None = None, seed: int = 0) -> bytes:
    """A true file; each tensor's bytes follow from its name and the seed."""
    header: dict[str, object] = {} if metadata is None else {"__metadata__": dict(metadata)}
    parts: list[bytes] = []
    offset = 0
    for name, (dtype, shape) in table.items():
        size = prod(shape) * DTYPE_BITS[dtype] // 8
        header[name] = entry(dtype, list(shape), offset, offset + size)
        pattern = f"{seed}:{name};".encode()
        parts.append((pattern * (size // len(pattern) + 1))[:size])
        offset += size
    return joined(header, b"".join(parts))


def write_file(path: Path, table: Table, *, seed: int = 0) -> Path:
    """The same as a file."""
    path.write_bytes(write(table, seed=seed))
    return path
