"""The messages of Prometheus remote write 1.0, from values to bytes. Sans-IO.

https://prometheus.io/docs/specs/prw/remote_write_spec/: a protobuf ``prometheus.WriteRequest``,
compressed as one block of snappy. Four message types with six fields need no library::

    WriteRequest { repeated TimeSeries timeseries = 1 }
    TimeSeries   { repeated Label labels = 1; repeated Sample samples = 2 }
    Label        { string name = 1; string value = 2 }
    Sample       { double value = 1; int64 timestamp = 2 }
"""

from __future__ import annotations

import struct
from collections.abc import Iterable, Mapping

import cramjam

HEADERS: Mapping[str, str] = {
    "Content-Encoding": "snappy",
    "Content-Type": "application/x-protobuf",
    "X-Prometheus-Remote-Write-Version": "0.1.0",
    "User-Agent": "headwater",
}
STALE: float = struct.unpack("<d", struct.pack("<Q", 0x7FF0_0000_0000_0002))[0]
"""The NaN that says that a series has ended (``value.StaleNaN`` of Prometheus)."""
_STALE_BITS = struct.pack("<Q", 0x7FF0_0000_0000_0002)
_VALUE = struct.Struct("<d")


def varint(number: int) -> bytes:
    """An unsigned number in base 128, lowest digits first (protobuf encoding)."""
    out = bytearray()
    while number > 0x7F:
        out.append(number & 0x7F | 0x80)
        number >>= 7
    out.append(number)
    return bytes(out)


def encode_labels(labels: Mapping[str, str]) -> bytes:
    """The labels of a series, sorted by name as the specification wants them; those without a value
    are left out, since Prometheus takes them for missing."""
    return b"".join(
        _field(1, _field(1, name.encode()) + _field(2, value.encode("utf-8", "replace")))
        for name, value in sorted(labels.items())
        if value
    )


def encode_request(series: Iterable[tuple[bytes, float]], timestamp_ms: int) -> bytes:
    """One sample of each series.

    Args:
        series: labels from :func:`encode_labels`, and the value.
        timestamp_ms: Unix time.
    """
    stamp = b"\x10" + varint(timestamp_ms)
    out = []
    for labels, value in series:
        sample = b"\x09" + (_STALE_BITS if value is STALE else _VALUE.pack(value)) + stamp
        out.append(_field(1, labels + _field(2, sample)))
    return b"".join(out)


def compress(request: bytes) -> bytes:
    """A request's body: snappy's block format, not the framed one."""
    return bytes(cramjam.snappy.compress_raw(request))


def _field(number: int, content: bytes) -> bytes:
    """A field with a length (wire type 2)."""
    return bytes((number << 3 | 2,)) + varint(len(content)) + content
