from __future__ import annotations

from itertools import pairwise

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from edge_tier.gateway.chunked import LAST, Dechunker, frame
from edge_tier.gateway.relay import (
    Passthrough,
    StreamScan,
    answer_usage,
    broken_event,
    used_tokens,
)
from wire.chat import DONE, ChunkEncoder, Usage
from wire.errors import HeadwaterError, SourceUnavailableError

ENCODER = ChunkEncoder("chatcmpl-1", "m", 1)
PLAIN = [
    ENCODER.role(),
    ENCODER.delta("Hello"),
    ENCODER.delta(' "usage": x'),
    ENCODER.finish("stop"),
]
USAGE = ENCODER.usage(7, 5)
STREAM = b"".join([*PLAIN, USAGE, DONE])


class Passed:
    """What a passthrough gave to the client, and what it told."""

    def __init__(self, scan: StreamScan) -> None:
        self.chunks: list[bytes] = []
        self.failures: list[HeadwaterError] = []
        self.ended = 0
        self.take = Passthrough(scan).sink(self.chunks.append, self._end, self.failures.append)

    def _end(self) -> None:
        self.ended += 1


def pieces(data: bytes, cuts: list[int]) -> list[bytes]:
    edges = sorted({0, len(data), *(cut % (len(data) + 1) for cut in cuts)})
    return [data[a:b] for a, b in pairwise(edges)]


@given(st.lists(st.integers(0, 5000), max_size=12))
def test_a_stream_passes_untouched_however_it_is_cut(cuts: list[int]) -> None:
    scan = StreamScan(keep_usage=True)
    assert b"".join(map(scan.feed, pieces(STREAM, cuts))) == STREAM
    assert scan.done
    assert not scan.failed
    assert scan.usage == Usage(7, 5, 12)
    assert scan.events == len(PLAIN)


@given(st.lists(st.integers(0, 5000), max_size=12))
def test_usage_the_client_did_not_ask_for_is_kept_back(cuts: list[int]) -> None:
    scan = StreamScan(keep_usage=False)
    assert b"".join(map(scan.feed, pieces(STREAM, cuts))) == b"".join([*PLAIN, DONE])
    assert scan.usage == Usage(7, 5, 12)


@given(st.lists(st.integers(0, 5000), max_size=12), st.sampled_from([b"\r\n", b"\r"]))
def test_other_line_ends_are_written_anew(cuts: list[int], end: bytes) -> None:
    scan = StreamScan(keep_usage=False)
    foreign = STREAM.replace(b"\n", end)
    assert b"".join(map(scan.feed, pieces(foreign, cuts))) == b"".join([*PLAIN, DONE])
    assert scan.done


def test_usage_null_in_every_event_as_openai_sends_it() -> None:
    event = b'data: {"choices":[{"delta":{"content":"a"}}],"usage":null}\n\n'
    usage = b'{"prompt_tokens":1,"completion_tokens":2,"total_tokens":3}'
    last = b'data: {"choices":[],"usage":' + usage + b"}\n\n"
    scan = StreamScan(keep_usage=False)
    assert scan.feed(event + event + last) == event + event
    assert (scan.events, scan.usage) == (2, Usage(1, 2, 3))


def test_comments_pass_and_are_no_tokens() -> None:
    scan = StreamScan(keep_usage=True)
    assert scan.feed(b": ping\n\n") == b": ping\n\n"
    assert scan.events == 0


def test_an_error_of_the_backend_is_seen_and_passes() -> None:
    event = b'data: {"error":{"message":"engine died"}}\n\n'
    scan = StreamScan(keep_usage=True)
    assert scan.feed(event) == event
    assert scan.failed
    assert not scan.done


def test_text_that_talks_about_errors_is_no_error() -> None:
    scan = StreamScan(keep_usage=True)
    scan.feed(ENCODER.delta('{"error": "usage"} [DONE]'))
    assert not scan.failed
    assert not scan.done
    assert scan.events == 1


def test_an_event_without_end_is_bounded() -> None:
    scan = StreamScan(keep_usage=True, max_event_bytes=1000)
    assert scan.feed(b"data: " + b"x" * 900) == b""
    with pytest.raises(SourceUnavailableError):
        scan.feed(b"x" * 100)


def test_a_broken_stream_ends_in_an_error_event_and_no_done() -> None:
    event = broken_event(SourceUnavailableError("worker died"))
    assert event.startswith(b"data: ")
    assert event.endswith(b"\n\n")
    assert b"[DONE]" not in event
    body = msgspec.json.decode(event[6:])
    assert body["error"]["message"] == "worker died"
    assert body["error"]["code"] == "source_unavailable"


def test_what_was_used() -> None:
    assert used_tokens(10, Usage(11, 5, 16), 4) == (11, 5)
    assert used_tokens(10, None, 4) == (10, 4)
    assert used_tokens(10, Usage(), 4) == (10, 4)
    assert used_tokens(10, Usage(0, 0, 16), 4) == (10, 6)
    assert answer_usage(b'{"usage":{"total_tokens":3}}') == Usage(total_tokens=3)
    assert answer_usage(b"{}") is None
    assert answer_usage(b'{"usage":"none"}') is None
    assert used_tokens(10, Usage(20, -4, 16), 4) == (10, 6)
    assert used_tokens(10, Usage(-20, 24, 4), 4) == (10, 0)
    assert used_tokens(10, Usage(5, -20, -15), 4) == (10, 4)


@pytest.mark.parametrize("body", [b"<html>", b"", b'{"a":' + b"[" * 50_000 + b"]" * 50_000 + b"}"])
def test_what_is_no_json_is_no_answer(body: bytes) -> None:
    with pytest.raises(SourceUnavailableError):
        answer_usage(body)


def test_events_are_counted_and_not_what_they_say() -> None:
    event = b'data:{"choices":[{"delta":{"content":"data: data: data:"}}]}\n\n'
    scan = StreamScan(keep_usage=True)
    assert scan.feed(event * 3) == event * 3
    assert scan.events == 3
    send: list[bytes] = []
    through = StreamScan(keep_usage=True)
    take = Passthrough(through).sink(send.append, lambda: None, lambda _: None)
    take(frame(event))
    take(frame(event))
    assert (send, through.events) == ([frame(event)] * 2, 2)


def test_an_event_that_is_nested_too_deeply_passes_unread() -> None:
    event = b'data: {"usage":null,"x":' + b"[" * 50_000 + b"]" * 50_000 + b"}\n\n"
    assert StreamScan(keep_usage=True).feed(event) == event


@given(
    st.lists(st.integers(0, 5000), max_size=12),
    st.lists(st.integers(0, 5000), max_size=6),
    st.booleans(),
)
def test_a_stream_in_chunks_passes_as_one_without_them(
    cuts: list[int], chunk_cuts: list[int], keep_usage: bool
) -> None:
    """Whatever the backend's chunks and the network's pieces are."""
    plain, through = StreamScan(keep_usage=keep_usage), StreamScan(keep_usage=keep_usage)
    wire = b"".join(map(frame, pieces(STREAM, chunk_cuts))) + LAST
    client, passed = Dechunker(), Passed(through)
    for piece in pieces(wire, cuts):
        passed.take(piece)
    assert client.feed(b"".join(passed.chunks)) == plain.feed(STREAM)
    assert client.at_boundary
    assert passed.ended == 1
    assert passed.failures == []
    assert (through.usage, through.events, through.done) == (plain.usage, plain.events, True)


def test_a_chunk_of_one_plain_event_is_not_even_copied() -> None:
    scan = StreamScan(keep_usage=False)
    passed = Passed(scan)
    events = [frame(ENCODER.delta(text)) for text in ("a", "b", 'a "quote"', "", "[DONE]", "c")]
    for event in events:
        passed.take(event)
    assert all(sent is event for sent, event in zip(passed.chunks[:4], events, strict=False))
    assert passed.chunks == events
    assert scan.events == 6
    assert not scan.done


def test_an_event_that_is_not_whole_waits_for_its_rest() -> None:
    scan = StreamScan(keep_usage=False)
    passed, half = Passed(scan), len(PLAIN[1]) // 2
    passed.take(frame(PLAIN[1][:half]))
    assert passed.chunks == []
    passed.take(frame(PLAIN[1][half:]))
    assert passed.chunks == [frame(PLAIN[1])]
    assert scan.events == 1


def test_chunks_that_are_none_end_the_stream() -> None:
    passed = Passed(StreamScan(keep_usage=False))
    passed.take(b"xyz\r\nab\r\n")
    assert [type(error) for error in passed.failures] == [SourceUnavailableError]
    assert passed.chunks == []


@given(st.lists(st.text(max_size=20), min_size=1, max_size=6), st.integers(0, 5), st.binary())
def test_what_looks_like_the_events_before_it_is_seen_through(
    texts: list[str], at: int, noise: bytes
) -> None:
    """Bytes put anywhere into an event make no difference to what the scan knows."""
    events = [ENCODER.delta(text) for text in texts]
    place = at % len(events)
    where = len(events[place]) // 2
    events[place] = events[place][:where] + noise + events[place][where:]
    chunks = [frame(event) for event in events]
    plain, through = StreamScan(keep_usage=False), StreamScan(keep_usage=False)
    passed, client = Passed(through), Dechunker()
    for chunk in chunks:
        passed.take(chunk)
    if b"\r" in noise or b"data: " in noise:
        return  # written anew, or counted as more events
    assert client.feed(b"".join(passed.chunks)) == b"".join(plain.feed(e) for e in events)
    assert (through.done, through.failed, through.usage) == (plain.done, plain.failed, plain.usage)
