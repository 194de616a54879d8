"""wire.sse against WHATWG HTML section 9.2, at every split point."""

from __future__ import annotations

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from wire.errors import NameInvalidError
from wire.sse import MAX_EVENT_BYTES, Event, EventTooLargeError, SSEDecoder, comment, encode

# The example streams of section 9.2.6, and what the specification says they dispatch.
SPEC_EXAMPLES: dict[str, tuple[bytes, list[Event]]] = {
    "stock_ticker": (b"data: YHOO\ndata: +2\ndata: 10\n\n", [Event("YHOO\n+2\n10")]),
    "comment_id_and_reset": (
        b": test stream\n\ndata: first event\nid: 1\n\ndata:second event\nid\n\n"
        b"data:  third event\n\n",
        [Event("first event", id="1"), Event("second event"), Event(" third event")],
    ),
    "empty_data_and_cut_off_end": (b"data\n\ndata\ndata\n\ndata:", [Event(""), Event("\n")]),
    "space_after_colon": (b"data:test\n\ndata: test\n\n", [Event("test"), Event("test")]),
}

STREAMS: dict[str, tuple[bytes, list[Event]]] = {
    **SPEC_EXAMPLES,
    "named": (b"event: add\ndata: 1\n\ndata: 2\n\n", [Event("1", "add"), Event("2")]),
    "type_without_data": (b"event: add\n\ndata: 2\n\n", [Event("2")]),
    "id_stays": (b"id: 7\ndata: a\n\ndata: b\n\n", [Event("a", id="7"), Event("b", id="7")]),
    "id_with_nul": (b"id: 7\nid: 8\x00\ndata: a\n\n", [Event("a", id="7")]),
    "bom": (b"\xef\xbb\xbfdata: a\n\n", [Event("a")]),
    "only_first_bom": (b"\xef\xbb\xbf\xef\xbb\xbfdata: a\n\ndata: b\n\n", [Event("b")]),
    "unknown_field": (b"datas: a\ndata\x00: b\ndata: c\n\n", [Event("c")]),
    "utf8": ("data: é – 🏴 \u2028x\n\n".encode(), [Event("é – 🏴 \u2028x")]),
    "broken_utf8": (b"data: a\xff\n\n", [Event("a\ufffd")]),
    "pings": (b": ping\n\n:\n\ndata: a\n\n: ping\n\n", [Event("a")]),
    "blank_lines": (b"\n\n\ndata: a\n\n\n\ndata: b\n\n", [Event("a"), Event("b")]),
}


def in_pieces(stream: bytes, *cuts: int, max_event_bytes: int = MAX_EVENT_BYTES) -> list[Event]:
    decoder = SSEDecoder(max_event_bytes=max_event_bytes)
    bounds = [0, *sorted(cuts), len(stream)]
    pieces = [stream[a:b] for a, b in pairwise(bounds)]
    return [event for piece in pieces for event in decoder.feed(piece)]


@pytest.mark.parametrize("ending", [b"\n", b"\r", b"\r\n"], ids=["lf", "cr", "crlf"])
@pytest.mark.parametrize("name", STREAMS)
def test_decodes_the_same_at_every_split_point(name: str, ending: bytes) -> None:
    stream, expected = STREAMS[name]
    stream = stream.replace(b"\n", ending)
    assert in_pieces(stream) == expected
    for cut in range(len(stream) + 1):
        assert in_pieces(stream, cut) == expected, cut
    assert in_pieces(stream, *range(len(stream))) == expected


def test_mixed_line_ends_in_one_stream() -> None:
    assert in_pieces(b"data: a\r\ndata: b\rdata: c\n\r\n") == [Event("a\nb\nc")]


def test_cr_lf_split_between_pieces_is_one_line_end() -> None:
    decoder = SSEDecoder()
    assert decoder.feed(b"data: a\r") == []
    assert decoder.feed(b"\ndata: b\r") == []
    assert decoder.feed(b"\n\r") == [Event("a\nb")]
    assert decoder.feed(b"\n") == []
    assert decoder.feed(b"data: c\n\n") == [Event("c")]


def test_retry_takes_digits_only() -> None:
    decoder = SSEDecoder()
    decoder.feed(b"retry: 1500\n\n")
    decoder.feed(b"retry: 1.5\n\nretry: -3\n\nretry:\n\nretry: " + b"9" * 5000 + b"\n\n")
    assert decoder.retry_ms == 1500


def test_last_event_id_moves_only_when_the_event_is_whole() -> None:
    decoder = SSEDecoder()
    decoder.feed(b"id: 1\ndata: a\n\nid: 2\ndata: b\n")
    assert decoder.last_event_id == "1"
    decoder.feed(b"\n")
    assert decoder.last_event_id == "2"


@pytest.mark.parametrize(
    "endless",
    [
        b"data: " + b"x" * 200,
        b"data: " + b"x" * 200 + b"\n\n",
        b": " + b"x" * 200,
        b"data: x\n" * 60,
        b"data\n" * 200,
        b"id: 1\n" + b"x" * 200,
    ],
    ids=["open_line", "whole_event", "open_comment", "many_lines", "empty_lines", "open_field"],
)
@pytest.mark.parametrize("piece_bytes", [1, 7, 4096])
def test_event_beyond_the_bound_is_refused(endless: bytes, piece_bytes: int) -> None:
    with pytest.raises(EventTooLargeError, match="100 B"):
        in_pieces(endless, *range(0, len(endless), piece_bytes), max_event_bytes=100)


def test_many_events_together_may_exceed_the_bound_of_one() -> None:
    decoder = SSEDecoder(max_event_bytes=100)
    assert len(decoder.feed(b"data: x\n\n" * 1000)) == 1000
    assert len(decoder.feed(b": ping\n\n" * 1000 + b"data: x\n\n")) == 1


@pytest.mark.parametrize(
    ("arguments", "wire"),
    [
        (("x",), b"data: x\n\n"),
        ((b"x",), b"data: x\n\n"),
        (("a\nb\r\nc\rd",), b"data: a\ndata: b\ndata: c\ndata: d\n\n"),
        (("x", "roll", "7"), b"event: roll\nid: 7\ndata: x\n\n"),
        (("",), b"data: \n\n"),
    ],
)
def test_encode(arguments: tuple[str, ...], wire: bytes) -> None:
    assert encode(*arguments) == wire


@pytest.mark.parametrize("hostile", ["a\nb", "a\rb", "a\0b", "a\r\n\r\nb"])
def test_encode_refuses_line_ends_in_names(hostile: str) -> None:
    with pytest.raises(NameInvalidError, match="event"):
        encode("x", event=hostile)
    with pytest.raises(NameInvalidError, match="id"):
        encode("x", id=hostile)


def test_comment_carries_no_event_whatever_its_text() -> None:
    assert comment("ping") == b": ping\n\n"
    assert SSEDecoder().feed(comment() + comment("a\ndata: b\r\ndata: c")) == []


lines = st.text(st.characters(exclude_characters="\r\n\0", exclude_categories=["Cs"]), max_size=12)


@given(
    st.lists(
        st.tuples(st.lists(lines, min_size=1, max_size=3).map("\n".join), lines, lines), max_size=5
    ),
    st.lists(st.integers(0, 400), max_size=6),
    st.sampled_from([b"\n", b"\r", b"\r\n"]),
)
def test_what_was_encoded_is_decoded(
    sent: list[tuple[str, str, str]], cuts: list[int], ending: bytes
) -> None:
    stream = b"".join(encode(data, event=kind, id=name) for data, kind, name in sent)
    stream = stream.replace(b"\n", ending)
    expected = [Event(data, kind or "message", name) for data, kind, name in sent]
    assert in_pieces(stream, *(min(cut, len(stream)) for cut in cuts)) == expected


@given(st.lists(st.sampled_from([b"data", b":", b" ", b"\n", b"\r", b"x", b"id", b"\xef\xbb\xbf"])))
def test_any_bytes_decode_the_same_whole_and_byte_by_byte(tokens: list[bytes]) -> None:
    stream = b"".join(tokens)
    assert in_pieces(stream) == in_pieces(stream, *range(len(stream)))
