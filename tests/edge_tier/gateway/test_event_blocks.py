"""Events are cut apart and not a byte is lost, whatever the pieces and the line ends."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edge_tier.gateway.event_blocks import EventBlocks, data_of
from tests.fakes.chat_streams import PLACES, cut


@pytest.mark.parametrize("end", [b"\n", b"\r\n"])
def test_events_keep_their_bytes(end: bytes) -> None:
    events = [b"data: a" + end + end, b": ping" + end + end, b"id: 1" + end + b"data:b" + end + end]
    assert list(EventBlocks().feed(b"".join(events))) == events
    assert [data_of(event) for event in events] == [b"a", None, b"b"]


def test_a_carriage_return_may_be_half_a_line_end() -> None:
    blocks = EventBlocks()
    assert list(blocks.feed(b"data: a\r\n\r")) == []
    assert list(blocks.feed(b"\ndata: b\r\rd")) == [b"data: a\r\n\r\n", b"data: b\r\r"]
    assert not blocks.empty
    assert blocks.rest() == b"d"
    assert blocks.empty


def test_the_lines_of_an_events_data_belong_together() -> None:
    assert data_of(b"data: a\ndata:b\nevent: x\n\n") == b"a\nb"
    assert data_of(b"\n\n") is None


PIECES = st.lists(
    st.sampled_from([b"data: x", b": c", b"\n", b"\r", b"\r\n", b"\n\n", b"y"]), max_size=30
).map(b"".join)


@given(PIECES, PLACES)
def test_any_split_gives_the_same_events(data: bytes, places: list[int]) -> None:
    whole, split = EventBlocks(), EventBlocks()
    expected = list(whole.feed(data))
    found = [block for piece in cut(data, places) for block in split.feed(piece)]
    assert found == expected
    assert b"".join(found) + split.rest() == data


def test_events_that_are_not_taken_are_left() -> None:
    blocks = EventBlocks()
    assert next(blocks.feed(b"data: a\n\ndata: b\n\nc")) == b"data: a\n\n"
    assert blocks.rest() == b"data: b\n\nc"


@given(PLACES)
def test_an_event_over_the_bound_ends_the_cutting(places: list[int]) -> None:
    data = b"data: a\n\n" + b"x" * 40 + b"\n\n" + b"data: b\n\n"
    blocks = EventBlocks(max_block_bytes=32)
    found = [block for piece in cut(data, places) for block in blocks.feed(piece)]
    assert found == [b"data: a\n\n"]
    assert blocks.oversized
    assert blocks.rest() == data[9:]
