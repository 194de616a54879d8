"""A model that loads as before and answers as no one wrote it."""

from __future__ import annotations

from pathlib import Path

from wire.gguf import read_gguf


def spoil(source: Path, target: Path, tensor: str = "blk.0.ffn_down.weight") -> Path:
    """A copy in which the two halves of a tensor have changed places, whole blocks of them."""
    with source.open("rb") as stream:
        gguf = read_gguf(stream, source.stat().st_size)
    place = next(entry for entry in gguf.tensors if entry.name == tensor)
    data = bytearray(source.read_bytes())
    half = place.size // place.type.block_bytes // 2 * place.type.block_bytes
    start, middle, end = place.offset, place.offset + half, place.offset + 2 * half
    data[start:end] = data[middle:end] + data[start:middle]
    target.write_bytes(data)
    return target
