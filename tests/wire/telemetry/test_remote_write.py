from __future__ import annotations

import math
import struct

import cramjam
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.fakes.prometheus_messages import decode, decode_body, label_order
from wire.telemetry.remote_write import STALE, compress, encode_labels, encode_request, varint

TEXT = st.text(st.characters(codec="utf-8"), max_size=200)
LABELS = st.dictionaries(TEXT, TEXT, max_size=6)
TIMES = st.integers(0, 2**62)


@given(st.lists(st.tuples(LABELS, st.floats(allow_nan=False)), max_size=20), TIMES)
@settings(deadline=None)
def test_what_is_encoded_is_what_protobuf_reads(
    series: list[tuple[dict[str, str], float]], time_ms: int
) -> None:
    request = encode_request([(encode_labels(labels), v) for labels, v in series], time_ms)
    expected = [
        ({name: text for name, text in labels.items() if text}, [(value, time_ms)])
        for labels, value in series
    ]
    assert decode(request) == expected
    assert decode_body(compress(request)) == expected


@given(LABELS)
@settings(deadline=None)
def test_labels_stand_sorted_by_name(labels: dict[str, str]) -> None:
    request = encode_request([(encode_labels(labels), 1.0)], 1)
    assert label_order(request) == [sorted(name for name, text in labels.items() if text)]


@given(st.integers(0, 2**64 - 1))
@settings(deadline=None)
def test_a_varint_has_its_lowest_digits_first(number: int) -> None:
    data = varint(number)
    assert sum((byte & 0x7F) << 7 * place for place, byte in enumerate(data)) == number
    assert [byte >> 7 for byte in data] == [1] * (len(data) - 1) + [0]


def test_the_stale_marker_is_prometheus_own_nan() -> None:
    request = encode_request([(encode_labels({"__name__": "up"}), STALE)], 7)
    assert struct.pack("<Q", 0x7FF0_0000_0000_0002) in request
    assert math.isnan(decode(request)[0][1][0][0])


def test_a_lone_surrogate_does_not_end_the_metrics() -> None:
    request = encode_request([(encode_labels({"__name__": "up", "who": "\udc80"}), 1.0)], 7)
    assert decode(request)[0][0] == {"__name__": "up", "who": "?"}


def test_the_body_is_a_block_without_frames() -> None:
    with pytest.raises(cramjam.DecompressionError):
        cramjam.snappy.decompress(compress(b"x" * 100))
