"""Our own writer: a quantized GGUF, tensor by tensor, in bounded memory.

Tensors are read, quantized and written in pieces of ``PIECE_ITEMS`` numbers, a few of them at the
same time, so memory does not grow with a tensor or a model.
"""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

import numpy as np

from origin.quantize.errors import QuantizeError
from origin.quantize.kinds import Quantization
from origin.quantize.layout import lay_out
from origin.quantize.rows import RowQuantizer, to_floats
from origin.quantize.rules import FLOAT_TYPES, choose_types
from wire.gguf import read_gguf
from wire.gguf_types import Tensor, TensorType

PIECE_ITEMS = 256 * 1024
"""Numbers; whole blocks of every type."""
MAX_MAGNITUDE = 65_504.0
"""The largest half-precision number: a block's scale could not hold more."""
Progress = Callable[[int, int], None]
"""Told what is written and the total, in bytes."""


@dataclass(frozen=True, slots=True)
class _Piece:
    """Part of a tensor. ``padding`` zeros follow it in the new file."""

    name: str
    offset: int
    size: int
    old: TensorType
    new: TensorType
    padding: int


def write_quantized(
    source: Path,
    target: BinaryIO,
    quant: Quantization,
    rows: RowQuantizer,
    *,
    threads: int,
    progress: Progress,
) -> None:
    """Write ``source`` quantized to ``target``.

    Raises:
        GGUFInvalidError: the source is not GGUF.
        NoEngineError: ``rows`` cannot write a type that is needed.
        QuantizeError: a weight is not a finite number, or the source shrank meanwhile.
    """
    with source.open("rb") as stream:
        gguf = read_gguf(stream, source.stat().st_size)
        types = choose_types(gguf, quant, rows.types | FLOAT_TYPES)
        stream.seek(0)
        layout = lay_out(stream.read(gguf.data_offset), gguf, types, quant.file_type)
        target.write(layout.header)
        done = len(layout.header)
        ends = [*(tensor.offset for tensor in layout.tensors[1:]), layout.size]
        pieces = _pieces(gguf.tensors, layout.tensors, ends)
        for piece, data in _in_order(stream.fileno(), pieces, rows, threads):
            target.write(data)
            target.write(bytes(piece.padding))
            done += memoryview(data).nbytes + piece.padding
            progress(done, layout.size)
    if done != layout.size:
        raise QuantizeError(f"{done} B were written; the layout has {layout.size} B")


def _pieces(old: tuple[Tensor, ...], new: tuple[Tensor, ...], ends: list[int]) -> Iterator[_Piece]:
    for before, after, end in zip(old, new, ends, strict=True):
        limit = PIECE_ITEMS // before.type.block_items * before.type.block_bytes
        for start in range(0, before.size, limit):
            size = min(limit, before.size - start)
            last = start + size == before.size
            padding = end - after.offset - after.size if last else 0
            yield _Piece(before.name, before.offset + start, size, before.type, after.type, padding)


def _in_order(
    handle: int, pieces: Iterator[_Piece], rows: RowQuantizer, threads: int
) -> Iterator[tuple[_Piece, bytes | memoryview]]:
    """Each piece with its new bytes; at most ``threads`` + 1 are under way."""
    under_way: deque[tuple[_Piece, Future[bytes | memoryview]]] = deque()
    with ThreadPoolExecutor(threads, "quantize") as pool:
        for piece in pieces:
            under_way.append((piece, pool.submit(_convert, handle, piece, rows)))
            if len(under_way) > threads:
                first, future = under_way.popleft()
                yield first, future.result()
        for first, future in under_way:
            yield first, future.result()


def _convert(handle: int, piece: _Piece, rows: RowQuantizer) -> bytes | memoryview:
    data = os.pread(handle, piece.size, piece.offset)
    if len(data) != piece.size:
        raise QuantizeError(f"the file ends inside tensor {piece.name!r}; it shrank meanwhile")
    if piece.old == piece.new:
        return data
    values = to_floats(data, piece.old)
    # One comparison finds NaN and infinities too. The engine's code must never see them: it makes
    # indexes of what it computes.
    if not np.max(np.abs(values)) <= MAX_MAGNITUDE:
        raise QuantizeError(
            f"tensor {piece.name!r} has a weight that is not a number, or is beyond "
            f"{MAX_MAGNITUDE:g}; the model is broken"
        )
    return rows.quantize(values, piece.new).data
