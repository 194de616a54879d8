"""How a batch of samples stands in a segment of the spool. Sans-IO.

A frame is a header of 28 bytes, little-endian, and the payload. The header has a checksum of its
own: where only a payload is damaged, the frames after it are still found, and what was lost is
known by its count::

    magic "hwt1" | payload bytes u32 | samples u32 | time ms u64 | CRC-32 of payload | of header
"""

from __future__ import annotations

import struct
import zlib
from dataclasses import dataclass

_FIELDS = struct.Struct("<4sIIQI")
_CHECK = struct.Struct("<I")
HEADER_BYTES = _FIELDS.size + _CHECK.size
MAX_PAYLOAD_BYTES = 16 * 1024 * 1024
"""A header that says more is none."""
_MAGIC = b"hwt1"


@dataclass(frozen=True, slots=True)
class Header:
    """What a frame says of its payload."""

    payload_bytes: int
    samples: int
    time_ms: int
    checksum: int

    @property
    def frame_bytes(self) -> int:
        return HEADER_BYTES + self.payload_bytes


def encode_frame(payload: bytes, samples: int, time_ms: int) -> bytes:
    """A frame.

    Raises:
        ValueError: the payload is over ``MAX_PAYLOAD_BYTES``.
    """
    if len(payload) > MAX_PAYLOAD_BYTES:
        raise ValueError(f"a payload of {len(payload)} B is over {MAX_PAYLOAD_BYTES} B")
    fields = _FIELDS.pack(_MAGIC, len(payload), samples, time_ms, zlib.crc32(payload))
    return fields + _CHECK.pack(zlib.crc32(fields)) + payload


def decode_header(data: bytes) -> Header | None:
    """The header at the beginning of ``data``; None where there is no whole and sound one."""
    if len(data) < HEADER_BYTES:
        return None
    fields = data[: _FIELDS.size]
    if zlib.crc32(fields) != _CHECK.unpack_from(data, _FIELDS.size)[0]:
        return None
    magic, size, samples, time_ms, checksum = _FIELDS.unpack(fields)
    if magic != _MAGIC or size > MAX_PAYLOAD_BYTES:
        return None
    return Header(size, samples, time_ms, checksum)


def is_sound(header: Header, payload: bytes) -> bool:
    """Whether this is the payload that was written under the header."""
    return len(payload) == header.payload_bytes and zlib.crc32(payload) == header.checksum
