"""Answers are read out of streams, whatever the pieces; a draft that broke is of no use."""

from __future__ import annotations

import pytest
from hypothesis import given

from edge_tier.gateway.verify_draft import AnswerReader, Draft, DraftCollector
from tests.fakes.chat_streams import ENCODER, PLACES, answer, cut, event, stream
from wire.chat import error_event

WHOLE = stream(event("Paris "), event("is it."), usage=(5, 9))


def collected(*pieces: bytes, max_chars: int = 100) -> DraftCollector:
    collector = DraftCollector(max_chars=max_chars)
    for piece in pieces:
        collector.feed(piece)
    return collector


@given(PLACES)
def test_a_whole_answer_is_a_draft(places: list[int]) -> None:
    found = collected(*cut(WHOLE, places))
    assert found.ended
    assert found.draft() == Draft(text="Paris is it.", tokens=9, whole=True)


def test_without_usage_the_pieces_are_counted() -> None:
    assert collected(answer(["a", "b"])).draft().tokens == 2


def test_an_answer_cut_by_its_token_limit_is_whole() -> None:
    found = collected(stream(event("Pa"), finish="length")).draft()
    assert (found.whole, found.finish_reason) == (True, "length")


@pytest.mark.parametrize(
    "broken",
    [
        b"",
        ENCODER.role() + event("Pa"),
        event("Pa") + error_event("died", "server_error", "engine_broken"),
        event("Pa") + b"data: {\n\n",
        event("Pa") + b"data: " + b"x" * 1_100_000,
        b"\n\n" * 5_000 + WHOLE,
        b"data: {}\n\n" * 5_000 + WHOLE,
        stream(event("x" * 101)),
        stream(event(" \n")),
        stream(),
    ],
)
def test_what_is_no_whole_answer_is_no_draft(broken: bytes) -> None:
    found = collected(broken).draft()
    assert not found.whole
    assert found.text.strip() == ""


def test_nothing_is_held_of_a_draft_that_is_too_long() -> None:
    found = collected(event("x" * 101), event("y"), WHOLE)
    assert (found.useless, found.ended, found.draft().text) == (True, True, "")


def test_only_the_first_choice_is_read_and_nothing_after_done() -> None:
    reader = AnswerReader()
    other = b'data: {"choices":[{"index":1,"delta":{"content":"no"}}]}\n\n'
    text = b'data: {"choices":[{"index":0,"text":"yes"}]}\n\n'
    assert reader.feed(b": ping\n\n" + other + text + b"data: [DONE]\n\n" + text) == ["yes"]
    assert reader.ended
