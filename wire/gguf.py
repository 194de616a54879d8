"""A bounded reader of GGUF headers, versions 2 and 3 (ggml ``docs/gguf.md``), little-endian.

It reads the header only (metadata, tokenizer, tensor table), from a seekable stream or through a
function that gives bytes at an offset, so tensors are never loaded. No count or length is believed
before it is checked against the limits and against what the file can hold; an error says what is
wrong and at which byte. Where the specification and llama.cpp (``gguf.cpp``) differ, the stricter
of the two holds.
"""

from __future__ import annotations

import struct
from collections.abc import Callable
from dataclasses import dataclass
from itertools import pairwise
from typing import BinaryIO, NoReturn

from wire.errors import GGUFInvalidError, GGUFTruncatedError
from wire.gguf_types import (
    GGUF,
    NUMBER_FORMATS,
    TENSOR_TYPES,
    Scalar,
    Tensor,
    Value,
    ValueType,
)

__all__ = ["GGUF", "GGUFLimits", "ReadAt", "Tensor", "Value", "is_gguf", "read_gguf"]

MAGIC = b"GGUF"
VERSIONS = (2, 3)
DEFAULT_ALIGNMENT = 32
ALIGNMENT_KEY = "general.alignment"
MAX_DIMS = 4

ReadAt = Callable[[int, int], bytes]
"""Gives the bytes at an offset: ``read(offset, length)``. Fewer than ``length`` only at the end."""

_U32 = struct.Struct("<I")
_U64 = struct.Struct("<Q")
_INT64_MAX = 2**63 - 1
_SHOWN = 80
"""Characters of a name that an error message repeats."""


@dataclass(frozen=True, slots=True, kw_only=True)
class GGUFLimits:
    """What a header may ask for; everything beyond is refused before it is read."""

    header_bytes: int = 64 * 1024 * 1024
    keys: int = 4_096
    tensors: int = 65_536
    key_bytes: int = 65_535
    string_bytes: int = 32 * 1024 * 1024
    tensor_name_bytes: int = 63
    array_items: int = 2_097_152
    total_array_items: int = 4_194_304
    alignment_bytes: int = 1024 * 1024
    window_bytes: int = 1024 * 1024
    """Bytes asked for at a time."""


DEFAULT_LIMITS = GGUFLimits()


def read_gguf(
    source: ReadAt | BinaryIO, file_size: int, limits: GGUFLimits = DEFAULT_LIMITS
) -> GGUF:
    """The checked header of a GGUF file of ``file_size`` bytes.

    Raises:
        GGUFInvalidError: not GGUF, truncated, beyond a limit, or inconsistent. Where the source
            gave fewer bytes than there should be, it is a ``GGUFTruncatedError``.
    """
    cursor = _Cursor(source if callable(source) else _reader(source), file_size, limits)
    version, n_tensors, n_keys = _counts(cursor)
    metadata, entries = _metadata(cursor, n_keys)
    alignment = _alignment(metadata, limits)
    table_start = cursor.position
    listed = [_tensor_entry(cursor) for _ in range(n_tensors)]
    table = (table_start, cursor.position)
    data_offset = min(_padded(cursor.position, alignment), file_size)
    tensors = tuple(_placed(entry, data_offset, alignment, file_size) for entry in listed)
    _check_apart(tensors)
    return GGUF(
        version=version,
        metadata=metadata,
        alignment=alignment,
        data_offset=data_offset,
        tensors=tensors,
        file_size=file_size,
        entries=entries,
        table=table,
    )


def is_gguf(start: bytes) -> bool:
    """Whether a file that starts so claims to be GGUF."""
    return start[:4] == MAGIC


def _reader(stream: BinaryIO) -> ReadAt:
    def read(offset: int, length: int) -> bytes:
        stream.seek(offset)
        return stream.read(length)

    return read


class _Cursor:
    """A position in the header, with a window of bytes around it."""

    __slots__ = ("_at", "_base", "_buffer", "_file_size", "_read", "items_left", "limits")

    def __init__(self, read: ReadAt, file_size: int, limits: GGUFLimits) -> None:
        self._read = read
        self._file_size = file_size
        self._buffer = b""
        self._base = 0
        self._at = 0
        self.limits = limits
        self.items_left = limits.total_array_items

    @property
    def position(self) -> int:
        """Bytes from the start of the file."""
        return self._base + self._at

    @property
    def left(self) -> int:
        """Bytes from here to the end of the file."""
        return self._file_size - self.position

    def fail(self, reason: str) -> NoReturn:
        raise GGUFInvalidError(f"GGUF: {reason} (at byte {self.position})")

    def need(self, count: int, what: str) -> None:
        """Have ``count`` bytes in the window. ``count`` is checked before anything is read."""
        held = len(self._buffer) - self._at
        if held >= count:
            return
        position = self.position
        if position + count > self._file_size:
            self.fail(f"the file ends inside {what}: {count} B wanted, {self.left} B left")
        if position + count > self.limits.header_bytes:
            self.fail(f"{what} goes beyond the limit of {self.limits.header_bytes} header bytes")
        end = min(self._file_size, self.limits.header_bytes)
        length = min(max(count, self.limits.window_bytes), end - position)
        kept = self._buffer[self._at :]
        self._buffer = kept + self._read(position + held, length - held)
        self._base, self._at = position, 0
        if len(self._buffer) < count:
            raise GGUFTruncatedError(
                f"GGUF: the file ends inside {what}: it is shorter than {self._file_size} B "
                f"(at byte {self.position})"
            )

    def take(self, count: int, what: str) -> bytes:
        """The next ``count`` bytes."""
        self.need(count, what)
        start = self._at
        self._at = start + count
        return self._buffer[start : self._at]

    def u32(self, what: str) -> int:
        return int(_U32.unpack(self.take(4, what))[0])

    def u64(self, what: str) -> int:
        return int(_U64.unpack(self.take(8, what))[0])

    def text(self, limit: int, what: str) -> str:
        """A string: its length in bytes (u64), then UTF-8."""
        length = self.u64(f"the length of {what}")
        if length > limit:
            self.fail(f"{what} is {length} B long; the limit is {limit} B")
        return self._decoded(self.take(length, what), what)

    def texts(self, count: int, what: str) -> tuple[str, ...]:
        """``count`` strings. The loop stays inside the window: a vocabulary has 150,000 of them."""
        limit = self.limits.string_bytes
        unpack = _U64.unpack_from
        found: list[str] = []
        while len(found) < count:
            buffer, at = self._buffer, self._at
            last = len(buffer) - 8
            missing = count - len(found)
            while missing and at <= last:
                stop = at + 8 + unpack(buffer, at)[0]
                if stop > last + 8 or stop - at - 8 > limit:
                    break
                try:
                    found.append(buffer[at + 8 : stop].decode())
                except UnicodeDecodeError:
                    self._at = at
                    self.fail(f"item {len(found)} of {what} is not UTF-8")
                at = stop
                missing -= 1
            self._at = at
            if missing:  # the next string is too long, or not wholly in the window
                found.append(self.text(limit, f"item {len(found)} of {what}"))
        return tuple(found)

    def _decoded(self, data: bytes, what: str) -> str:
        try:
            return data.decode()
        except UnicodeDecodeError:
            self.fail(f"{what} is not UTF-8")


def _counts(cursor: _Cursor) -> tuple[int, int, int]:
    """Version, number of tensors, number of keys; the numbers fit the limits and the file."""
    if cursor.take(4, "the magic number") != MAGIC:
        raise GGUFInvalidError("not a GGUF file: it does not start with 'GGUF'")
    version = cursor.u32("the version")
    if version not in VERSIONS:
        swapped = int.from_bytes(version.to_bytes(4, "little"), "big")
        hint = ", big-endian" if swapped in VERSIONS else ""
        cursor.fail(f"version {version}{hint} is not supported; versions {VERSIONS} are")
    n_tensors = cursor.u64("the number of tensors")
    n_keys = cursor.u64("the number of keys")
    if n_keys > cursor.limits.keys:
        cursor.fail(f"{n_keys} metadata keys; the limit is {cursor.limits.keys}")
    if n_tensors > cursor.limits.tensors:
        cursor.fail(f"{n_tensors} tensors; the limit is {cursor.limits.tensors}")
    return version, n_tensors, n_keys


def _metadata(cursor: _Cursor, count: int) -> tuple[dict[str, Value], dict[str, tuple[int, int]]]:
    """The values by key, and where each entry starts and ends."""
    metadata: dict[str, Value] = {}
    entries: dict[str, tuple[int, int]] = {}
    for index in range(count):
        start = cursor.position
        key = cursor.text(cursor.limits.key_bytes, f"key {index}")
        if not key or "\0" in key:
            cursor.fail(f"key {index} is empty or holds a NUL")
        if key in metadata:
            cursor.fail(f"key {key[:_SHOWN]!r} stands twice")
        metadata[key] = _value(cursor, key)
        entries[key] = (start, cursor.position)
    return metadata, entries


def _value(cursor: _Cursor, key: str) -> Value:
    what = f"the value of {key[:_SHOWN]!r}"
    kind = cursor.u32(f"the type of {key[:_SHOWN]!r}")
    if key == ALIGNMENT_KEY and kind != ValueType.UINT32:
        cursor.fail(f"{ALIGNMENT_KEY} is of value type {kind}; it must be {ValueType.UINT32:d}")
    if kind == ValueType.STRING:
        return cursor.text(cursor.limits.string_bytes, what)
    if kind == ValueType.ARRAY:
        return _array(cursor, what)
    return _numbers(cursor, kind, 1, what)[0]


def _array(cursor: _Cursor, what: str) -> tuple[Scalar, ...]:
    kind = cursor.u32(f"the item type of {what}")
    count = cursor.u64(f"the number of items of {what}")
    if count > cursor.limits.array_items or count > cursor.items_left:
        limits = cursor.limits
        cursor.fail(
            f"{what} has {count} items; the limit is {limits.array_items} items, and "
            f"{limits.total_array_items} in all arrays together"
        )
    cursor.items_left -= count
    if kind == ValueType.STRING:
        if count * 8 > cursor.left:
            cursor.fail(f"{what} has {count} strings; the file ends before")
        return cursor.texts(count, what)
    return _numbers(cursor, kind, count, what)


def _numbers(cursor: _Cursor, kind: int, count: int, what: str) -> tuple[bool | int | float, ...]:
    """``count`` numbers of one type (or bools), little-endian."""
    if kind not in NUMBER_FORMATS:  # an array of arrays is one of these; llama.cpp has none either
        cursor.fail(f"{what} has the unknown or unsupported value type {kind}")
    letter, size = NUMBER_FORMATS[kind]
    numbers = struct.unpack(f"<{count}{letter}", cursor.take(count * size, what))
    if kind != ValueType.BOOL:
        return numbers
    if any(number > 1 for number in numbers):
        cursor.fail(f"{what} is a bool other than 0 and 1")
    return tuple(number == 1 for number in numbers)


def _alignment(metadata: dict[str, Value], limits: GGUFLimits) -> int:
    """The file's alignment in bytes: a power of two and a multiple of 8, as the format demands."""
    alignment = metadata.get(ALIGNMENT_KEY, DEFAULT_ALIGNMENT)
    if (
        not isinstance(alignment, int)
        or not 8 <= alignment <= limits.alignment_bytes
        or alignment & (alignment - 1)
    ):
        raise GGUFInvalidError(
            f"GGUF: {ALIGNMENT_KEY} is {alignment}; it must be a power of two from 8 to "
            f"{limits.alignment_bytes}"
        )
    return alignment


def _tensor_entry(cursor: _Cursor) -> Tensor:
    """One entry of the tensor table; its offset is still counted from the data's start."""
    name = cursor.text(cursor.limits.tensor_name_bytes, "a tensor name")
    shown = f"tensor {name!r}"
    if not name or "\0" in name:
        cursor.fail("a tensor name is empty or holds a NUL")
    n_dims = cursor.u32(f"the dimensions of {shown}")
    if not 1 <= n_dims <= MAX_DIMS:
        cursor.fail(f"{shown} has {n_dims} dimensions; 1 to {MAX_DIMS} are possible")
    dims = tuple(cursor.u64(f"the dimensions of {shown}") for _ in range(n_dims))
    items = 1
    for dim in dims:
        items *= dim
        if not 0 < items <= _INT64_MAX:
            cursor.fail(f"{shown} of {dims} is empty or has more than 2^63 - 1 numbers")
    code = cursor.u32(f"the type of {shown}")
    kind = TENSOR_TYPES.get(code)
    if kind is None:
        cursor.fail(f"{shown} has the unknown type {code}")
    if dims[0] % kind.block_items:
        cursor.fail(f"{shown} of {dims}: rows are not whole blocks of {kind.block_items} numbers")
    offset = cursor.u64(f"the offset of {shown}")
    return Tensor(name, dims, kind, offset, items // kind.block_items * kind.block_bytes)


def _placed(entry: Tensor, data_offset: int, alignment: int, file_size: int) -> Tensor:
    """The entry with its offset from the file's start; it lies aligned and inside the file."""
    if entry.offset % alignment:
        raise GGUFInvalidError(
            f"GGUF: tensor {entry.name!r} is at data offset {entry.offset}, "
            f"which is not a multiple of {alignment}"
        )
    offset = data_offset + entry.offset
    if offset + entry.size > file_size:
        raise GGUFInvalidError(
            f"GGUF: tensor {entry.name!r} of {entry.size} B at byte {offset} "
            f"goes beyond the file's {file_size} B"
        )
    return Tensor(entry.name, entry.dims, entry.type, offset, entry.size)


def _check_apart(tensors: tuple[Tensor, ...]) -> None:
    """Names differ, and no two tensors share a byte."""
    names: set[str] = set()
    for tensor in tensors:
        if tensor.name in names:
            raise GGUFInvalidError(f"GGUF: tensor {tensor.name!r} stands twice")
        names.add(tensor.name)
    for one, next_one in pairwise(sorted(tensors, key=lambda tensor: tensor.offset)):
        if one.offset + one.size > next_one.offset:
            raise GGUFInvalidError(
                f"GGUF: tensors {one.name!r} and {next_one.name!r} overlap "
                f"at byte {next_one.offset}"
            )


def _padded(position: int, alignment: int) -> int:
    return -(-position // alignment) * alignment
