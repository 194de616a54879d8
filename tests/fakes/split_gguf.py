"""GGUF files in parts, as llama.cpp's ``gguf-split`` writes them."""

from __future__ import annotations

import struct
from pathlib import Path

from tests.fakes import raw_gguf
from wire.gguf import read_gguf


def split_gguf(file: Path, folder: Path, count: int, *, stem: str = "model") -> list[Path]:
    """A GGUF in ``count`` parts. The first holds all metadata, the others only ``split.*``."""
    data = file.read_bytes()
    with file.open("rb") as stream:
        gguf = read_gguf(stream, len(data))
    spans = list(gguf.entries.values())
    keys = [data[start:end] for start, end in spans]
    share = -(-len(gguf.tensors) // count)
    paths = []
    for number in range(count):
        told = split_keys(number, count, len(gguf.tensors))
        entries, body = [], bytearray()
        for tensor in gguf.tensors[number * share : (number + 1) * share]:
            entries.append(raw_gguf.tensor(tensor.name, tensor.dims, tensor.type.code, len(body)))
            body += data[tensor.offset : tensor.offset + tensor.size]
            body += bytes(-len(body) % gguf.alignment)
        header = raw_gguf.header([*(keys if number == 0 else ()), *told], entries)
        paths.append(folder / f"{stem}-{number + 1:05d}-of-{count:05d}.gguf")
        paths[-1].write_bytes(header + bytes(body))
    return paths


def split_keys(number: int, count: int, tensors: int) -> list[bytes]:
    """The three keys of a part; ``number`` from 0."""
    return [
        raw_gguf.key("split.no", raw_gguf.U16, struct.pack("<H", number)),
        raw_gguf.key("split.count", raw_gguf.U16, struct.pack("<H", count)),
        raw_gguf.key("split.tensors.count", raw_gguf.I32, struct.pack("<i", tensors)),
    ]
