from __future__ import annotations

from itertools import pairwise

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from edge_tier.gateway.journal import Journal
from edge_tier.gateway.relay import StreamScan, answer_usage, broken_event, used_tokens
from wire.chat import DONE, ChunkEncoder, Usage, error_event
from wire.errors import SourceUnavailableError

ENCODER = ChunkEncoder("chatcmpl-1", "m", 1)
PLAIN = [
    ENCODER.role(),
    ENCODER.delta("Hello"),
    ENCODER.delta(' "usage": x'),
    ENCODER.finish("stop"),
]
USAGE = ENCODER.usage(7, 5)
STREAM = b"".join([*PLAIN, USAGE, DONE])


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


def test_an_event_that_is_nested_too_deeply_passes_unread() -> None:
    event = b'data: {"usage":null,"x":' + b"[" * 50_000 + b"]" * 50_000 + b"}\n\n"
    assert StreamScan(keep_usage=True).feed(event) == event


def journaled(*, keep_usage: bool = True) -> tuple[StreamScan, Journal]:
    journal = Journal("chatcmpl-1", 1, max_bytes=1_000)
    return StreamScan(keep_usage=keep_usage, journal=journal), journal


TOLD = b"".join(
    [
        b"id: \n" + PLAIN[0],
        b"id: 7\n" + PLAIN[1],
        b": ping\n\n",
        b"id:8,-1,9\n" + PLAIN[2],
        b"id: 2\n" + PLAIN[3],
    ]
)


@given(st.lists(st.integers(0, 5000), max_size=12))
def test_ids_are_for_the_journal_and_not_for_the_client(cuts: list[int]) -> None:
    scan, journal = journaled()
    given = b"".join(map(scan.feed, pieces(TOLD + USAGE + DONE, cuts)))
    assert given == b"".join([*PLAIN[:2], b": ping\n\n", *PLAIN[2:], USAGE, DONE])
    assert (journal.ids(), journal.lost) == ((7, 8, -1, 9, 2), "")
    assert (journal.finished, scan.done, scan.events) == (True, True, 4)


def test_an_event_whose_tokens_are_not_told_makes_the_journal_useless() -> None:
    scan, journal = journaled()
    assert scan.feed(b"id: 7\n" + PLAIN[1]) == PLAIN[1]
    assert scan.feed(PLAIN[2]) == PLAIN[2]
    assert journal.lost


def test_lines_that_end_otherwise_make_the_journal_useless() -> None:
    scan, journal = journaled()
    assert scan.feed(b"id: 7\r\n" + PLAIN[1].replace(b"\n", b"\r\n")) == PLAIN[1]
    assert journal.lost


def test_the_error_event_of_a_worker_that_may_be_followed_by_another_is_held_back() -> None:
    scan, journal = journaled()
    error = error_event("the engine broke", "server_error", "engine_broken")
    assert scan.feed(b"id: 7\n" + PLAIN[1] + error) == PLAIN[1]
    assert (scan.failed, scan.withheld, scan.fault) == (True, error, "engine_broken")
    assert scan.events == 1
    scan.feed(b"id: 8\nhalf an ev")
    scan.restart()
    assert (scan.failed, scan.withheld, scan.fault, scan.at_boundary) == (False, b"", "", True)
    assert scan.feed(b"id: 9\n" + PLAIN[2]) == PLAIN[2]
    assert (journal.ids(), journal.lost) == ((7, 9), "")
    assert scan.events == 2


@pytest.mark.parametrize("error", [b'"why"', b"[1]", b'{"code":7}', b"true"])
def test_an_error_of_another_form_has_no_code(error: bytes) -> None:
    scan, _ = journaled()
    assert scan.feed(b'data: {"error":%b}\n\n' % error) == b""
    assert (scan.failed, scan.fault) == (True, "")
    assert scan.withheld
