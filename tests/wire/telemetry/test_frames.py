from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from wire.telemetry.frames import (
    HEADER_BYTES,
    MAX_PAYLOAD_BYTES,
    decode_header,
    encode_frame,
    is_sound,
)

PAYLOADS = st.binary(max_size=300)
COUNTS = st.integers(0, 2**32 - 1)
TIMES = st.integers(0, 2**64 - 1)


@given(PAYLOADS, COUNTS, TIMES)
@settings(deadline=None)
def test_a_frame_is_read_as_it_was_written(payload: bytes, samples: int, time_ms: int) -> None:
    frame = encode_frame(payload, samples, time_ms)
    header = decode_header(frame[:HEADER_BYTES])
    assert header is not None
    assert (header.samples, header.time_ms) == (samples, time_ms)
    assert header.frame_bytes == len(frame)
    assert is_sound(header, frame[HEADER_BYTES:])


@given(PAYLOADS, st.data())
@settings(deadline=None)
def test_no_changed_byte_goes_unseen(payload: bytes, data: st.DataObject) -> None:
    frame = bytearray(encode_frame(payload, 3, 5))
    frame[data.draw(st.integers(0, len(frame) - 1))] ^= data.draw(st.integers(1, 255))
    header = decode_header(bytes(frame[:HEADER_BYTES]))
    assert header is None or not is_sound(header, bytes(frame[HEADER_BYTES:]))


@given(PAYLOADS, st.data())
@settings(deadline=None)
def test_no_part_of_a_frame_is_one(payload: bytes, data: st.DataObject) -> None:
    frame = encode_frame(payload, 3, 5)
    cut = frame[: data.draw(st.integers(0, len(frame) - 1))]
    header = decode_header(cut)
    assert header is None or not is_sound(header, cut[HEADER_BYTES:])


def test_a_payload_is_bounded() -> None:
    with pytest.raises(ValueError, match="over"):
        encode_frame(bytes(MAX_PAYLOAD_BYTES + 1), 1, 1)
