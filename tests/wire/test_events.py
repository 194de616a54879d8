from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from wire.errors import RequestInvalidError
from wire.events import MAX_EVENT_BYTES, Event, EventLog, decode_event, encode_event


def test_a_subscriber_that_comes_back_gets_what_it_missed() -> None:
    log = EventLog("e1")
    first = log.append("channel", ["channel:chat@stable"])
    second = log.append("purge", ["chunk:x"], hard=True)
    assert log.since(first.id) == [second]
    assert log.since(second.id) == []


@pytest.mark.parametrize("last_id", [None, "", "7", "other-1", "e1-99", "e1-x", "e1--1", "e1-²"])
def test_an_unknown_past_means_reset(last_id: str | None) -> None:
    log = EventLog("e1")
    log.append("channel", ["a"])
    (event,) = log.since(last_id)
    assert event.kind == "reset"
    assert event.id == log.last_id


@given(st.integers(1, 20), st.integers(0, 60), st.integers(0, 60))
def test_replay_is_complete_or_a_reset(capacity: int, events: int, seen: int) -> None:
    log = EventLog("e", capacity=capacity)
    for number in range(events):
        log.append("channel", [str(number)])
    missed = log.since(f"e-{seen}")
    if 0 <= events - seen <= min(capacity, events):
        assert [e.keys[0] for e in missed] == [str(n) for n in range(seen, events)]
    else:
        assert [e.kind for e in missed] == ["reset"]


def test_an_event_survives_its_bytes() -> None:
    event = Event(id="e-1", kind="purge", keys=("a", "b"), hard=True)
    assert decode_event(encode_event(event)) == event


@pytest.mark.parametrize(
    "data", [b"", b"[]", b'{"id":1}', b"[" * 50_000, b" " * (MAX_EVENT_BYTES + 1)]
)
def test_what_is_no_event_is_refused(data: bytes) -> None:
    with pytest.raises(RequestInvalidError):
        decode_event(data)
