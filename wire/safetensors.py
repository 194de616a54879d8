"""A bounded reader of safetensors headers and of the index of a model in several such files.

A file is 8 bytes (the header's length, little-endian), the header (JSON), then the tensors' bytes
(safetensors ``README.md``, "Format"). Only the header is read. Where the README and the reference
reader (``safetensors/src/tensor.rs``) differ, the stricter of the two holds: names and keys stand
once, and the tensors cover the data exactly, without gap and without overlap.

The header is read entry by entry: what one entry may make of memory is bounded by its own length,
so a hostile header costs no more than its bytes and the tensors it has named so far.
"""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from typing import Any, BinaryIO

import msgspec

from wire.errors import SafetensorsInvalidError
from wire.gguf import ReadAt

__all__ = [
    "INDEX_SUFFIX",
    "Safetensors",
    "SafetensorsLimits",
    "StoredTensor",
    "read_index",
    "read_safetensors",
]

INDEX_SUFFIX = ".safetensors.index.json"
METADATA_KEY = "__metadata__"
MAX_HEADER_BYTES = 100_000_000
"""What the reference reader takes; no limit may be set beyond it."""
DTYPE_BITS = {
    "BOOL": 8, "U8": 8, "I8": 8, "U16": 16, "I16": 16, "U32": 32, "I32": 32, "U64": 64, "I64": 64,
    "F16": 16, "BF16": 16, "F32": 32, "F64": 64, "C64": 64,
    "F8_E5M2": 8, "F8_E4M3": 8, "F8_E8M0": 8, "F8_E4M3FNUZ": 8, "F8_E5M2FNUZ": 8,
    "F6_E2M3": 6, "F6_E3M2": 6, "F4": 4,
}  # fmt: skip
"""Bits of one number of each type (``safetensors/src/tensor.rs``, ``Dtype``)."""

_LENGTH_BYTES = 8
_UINT64_MAX = 2**64 - 1
_SHOWN = 80
_STRING = r'"(?:[^"\\\x00-\x1f]|\\.)*+"'
_ENTRY = re.compile(rf'\s*({_STRING})\s*:\s*(\{{(?:[^{{}}"]|{_STRING})*+\}})\s*([,}}])')
"""A name, an object without objects in it, and what follows. It never tries a byte twice."""
_START = re.compile(r"\{\s*(\}?)")


@dataclass(frozen=True, slots=True, kw_only=True)
class SafetensorsLimits:
    """What a header may ask for; everything beyond is refused before it is read."""

    header_bytes: int = 32 * 1024 * 1024
    tensors: int = 262_144
    entry_bytes: int = 4_096
    """One tensor's entry, as JSON."""
    metadata_bytes: int = 4 * 1024 * 1024
    dims: int = 16
    name_bytes: int = 512
    index_bytes: int = 32 * 1024 * 1024


@dataclass(frozen=True, slots=True)
class StoredTensor:
    """One tensor; ``offset`` (from the start of the file) and ``size`` in bytes."""

    name: str
    dtype: str
    shape: tuple[int, ...]
    offset: int
    size: int


@dataclass(frozen=True, slots=True)
class Safetensors:
    """A checked header. ``data_offset`` and ``file_size`` in bytes; tensors in file order."""

    metadata: dict[str, str]
    tensors: tuple[StoredTensor, ...]
    data_offset: int
    file_size: int


DEFAULT_LIMITS = SafetensorsLimits()


def read_safetensors(
    source: ReadAt | BinaryIO, file_size: int, limits: SafetensorsLimits = DEFAULT_LIMITS
) -> Safetensors:
    """The checked header of a safetensors file of ``file_size`` bytes.

    Raises:
        SafetensorsInvalidError: not safetensors, truncated, beyond a limit, or inconsistent.
    """
    read = source if callable(source) else _reader(source)
    text = _header(read, file_size, limits)
    data_offset = _LENGTH_BYTES + len(text)
    metadata, found = _entries(_decoded(text), limits)
    data_bytes = file_size - data_offset
    tensors = sorted(
        (_tensor(name, entry, data_offset, limits) for name, entry in found.items()),
        key=lambda tensor: (tensor.offset, tensor.size),
    )
    end = data_offset
    for tensor in tensors:
        if tensor.offset != end:
            raise _refused(
                f"tensor {tensor.name[:_SHOWN]!r} begins at data byte "
                f"{tensor.offset - data_offset}; the one before ends at {end - data_offset}"
            )
        end += tensor.size
    if end != file_size:
        raise _refused(f"its tensors take {end - data_offset} B; the file has {data_bytes} B")
    return Safetensors(metadata, tuple(tensors), data_offset, file_size)


class _Index(msgspec.Struct, frozen=True):
    """``model.safetensors.index.json``; other keys are of no concern."""

    weight_map: dict[str, str]


_index_decoder = msgspec.json.Decoder(_Index)


def read_index(data: bytes, limits: SafetensorsLimits = DEFAULT_LIMITS) -> dict[str, str]:
    """The index of a model in several files: the file's name by the tensor's.

    Raises:
        SafetensorsInvalidError: malformed, or beyond a limit.
    """
    if len(data) > limits.index_bytes:
        raise _refused(f"the index has {len(data)} B; the limit is {limits.index_bytes} B")
    try:
        found = _index_decoder.decode(data).weight_map
    except (msgspec.DecodeError, RecursionError) as error:
        raise _refused(f"the index is malformed: {error}") from error
    if not 0 < len(found) <= limits.tensors:
        raise _refused(f"the index names {len(found)} tensors; 1 to {limits.tensors} are possible")
    return found


def _reader(stream: BinaryIO) -> ReadAt:
    def read(offset: int, length: int) -> bytes:
        stream.seek(offset)
        return stream.read(length)

    return read


def _header(read: ReadAt, file_size: int, limits: SafetensorsLimits) -> bytes:
    start = read(0, _LENGTH_BYTES)
    if len(start) < _LENGTH_BYTES:
        raise _refused(f"{file_size} B are too few")
    length = int.from_bytes(start, "little")
    limit = min(limits.header_bytes, MAX_HEADER_BYTES)
    if length > limit:
        raise _refused(f"the header is {length} B long; the limit is {limit} B")
    if _LENGTH_BYTES + length > file_size:
        raise _refused(f"the header is {length} B long; the file has {file_size} B")
    text = read(_LENGTH_BYTES, length)
    if len(text) < length:
        raise _refused(f"the file is shorter than {file_size} B")
    return text


def _decoded(text: bytes) -> str:
    try:
        return text.decode()
    except UnicodeDecodeError as error:
        raise _refused(f"the header is not UTF-8 at byte {error.start}") from error


def _entries(
    text: str, limits: SafetensorsLimits
) -> tuple[dict[str, str], dict[str, dict[str, Any]]]:
    """The metadata, and each tensor's entry by name, still unchecked."""
    metadata: dict[str, str] | None = None
    tensors: dict[str, dict[str, Any]] = {}
    opening = _START.match(text)
    if opening is None:
        raise _refused("the header is no JSON object")
    position, more = opening.end(), not opening[1]
    while more:
        found = _ENTRY.match(text, position)
        if found is None:
            raise _refused(f"the header is malformed at character {position}")
        name, position, more = _name(found[1], limits), found.end(), found[3] == ","
        if name == METADATA_KEY:
            if metadata is not None:
                raise _refused(f"{METADATA_KEY} stands twice")
            metadata = _texts(_object(name, found[2], limits.metadata_bytes))
            continue
        if name in tensors:
            raise _refused(f"tensor {name[:_SHOWN]!r} stands twice")
        if len(tensors) >= limits.tensors:
            raise _refused(f"it names more than {limits.tensors} tensors")
        tensors[name] = _object(name, found[2], limits.entry_bytes)
    if text[position:].strip(" \n\r\t"):
        raise _refused("something follows the header's JSON")
    return metadata or {}, tensors


def _name(text: str, limits: SafetensorsLimits) -> str:
    if len(text) > limits.name_bytes:
        raise _refused(f"a tensor's name has {len(text)} characters")
    name = _parsed(text)
    if not isinstance(name, str) or not name or not name.isprintable():
        raise _refused("a tensor's name is empty or holds characters that do not print")
    return name


def _object(name: str, text: str, limit: int) -> dict[str, Any]:
    """One entry; a key stands once."""
    if len(text) > limit:
        raise _refused(f"the entry of {name[:_SHOWN]!r} has {len(text)} characters, not {limit}")
    value = _parsed(text)
    if not isinstance(value, dict):
        raise _refused(f"the entry of {name[:_SHOWN]!r} is no object")
    return value


def _parsed(text: str) -> Any:
    try:
        return json.loads(text, object_pairs_hook=_once, parse_constant=_no_constant)
    except (ValueError, RecursionError) as error:
        raise _refused(f"the header is malformed: {type(error).__name__}") from error


def _once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) != len(pairs):
        raise _refused("a key stands twice in an entry")
    return found


def _no_constant(text: str) -> Any:
    raise _refused(f"{text} is no JSON")


def _texts(value: dict[str, Any]) -> dict[str, str]:
    if not all(isinstance(item, str) for item in value.values()):
        raise _refused(f"{METADATA_KEY} holds something else than strings")
    return value


def _tensor(
    name: str, entry: dict[str, Any], data_offset: int, limits: SafetensorsLimits
) -> StoredTensor:
    shown = f"tensor {name[:_SHOWN]!r}"
    if entry.keys() != {"dtype", "shape", "data_offsets"}:
        raise _refused(f"{shown} must have dtype, shape and data_offsets, and nothing else")
    dtype, shape, offsets = entry["dtype"], entry["shape"], entry["data_offsets"]
    if not isinstance(dtype, str) or dtype not in DTYPE_BITS:
        raise _refused(f"{shown} has an unknown type")
    if not _sizes(shape) or len(shape) > limits.dims:
        raise _refused(f"{shown} has no shape of at most {limits.dims} dimensions")
    if not _sizes(offsets) or len(offsets) != 2 or offsets[1] < offsets[0]:
        raise _refused(f"{shown} has no data_offsets")
    bits = DTYPE_BITS[dtype]
    for dim in shape:
        bits *= dim
        if bits > _UINT64_MAX:
            raise _refused(f"{shown} has more than 2^64 bits")
    size = offsets[1] - offsets[0]
    if bits != size * 8:
        raise _refused(f"{shown} needs {bits} bits; its data_offsets hold {size} B")
    return StoredTensor(name, dtype, tuple(shape), data_offset + offsets[0], size)


def _sizes(value: object) -> bool:
    """Whether it is a list of integers from 0 to 2^64 - 1."""
    return isinstance(value, list) and all(
        type(item) is int and 0 <= item <= _UINT64_MAX for item in value
    )


def _refused(reason: str) -> SafetensorsInvalidError:
    return SafetensorsInvalidError(f"safetensors: {reason}")
