from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.fakes.quick_disk import quick_folder
from wire.telemetry.frames import HEADER_BYTES, encode_frame
from wire.telemetry.segments import locked, numbered, repaired, segment_path


def test_segments_are_found_in_order_and_nothing_else(tmp_path: Path) -> None:
    for number in (10, 9, 100):
        segment_path(tmp_path, number).touch()
    for other in ("state", "lock", "x.segment", "-1.segment"):
        (tmp_path / other).touch()
    assert [number for number, _ in numbered(tmp_path)] == [9, 10, 100]


@given(st.lists(st.binary(max_size=40), max_size=6), st.data())
@settings(deadline=None, max_examples=50)
def test_whole_frames_are_kept_and_the_rest_is_cut(
    payloads: list[bytes], data: st.DataObject
) -> None:
    frames = [encode_frame(one, 3, 100 + at) for at, one in enumerate(payloads)]
    written = b"".join(frames)
    size = data.draw(st.integers(0, len(written)))
    done = data.draw(st.integers(0, len(frames)))
    with quick_folder() as folder:
        path = segment_path(folder, 1)
        path.write_bytes(written[:size])
        one, cut_bytes = repaired(1, path, done_bytes=len(b"".join(frames[:done])))
        assert path.stat().st_size == one.size
    whole = 0
    while whole < len(frames) and len(b"".join(frames[: whole + 1])) <= size:
        whole += 1
    assert one.size == sum(HEADER_BYTES + len(payload) for payload in payloads[:whole])
    assert (one.samples, one.done) == (3 * whole, 3 * min(done, whole))
    assert cut_bytes == size - one.size
    assert (one.first_ms, one.last_ms) == ((100, 99 + whole) if whole else (0, 0))


def test_a_lock_is_held_by_one(tmp_path: Path) -> None:
    with locked(tmp_path / "lock"), pytest.raises(BlockingIOError):
        locked(tmp_path / "lock")
    locked(tmp_path / "lock").close()
