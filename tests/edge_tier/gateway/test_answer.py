"""Events are rewritten where something must be, and pass as the bytes they are elsewhere."""

from __future__ import annotations

import json
import time
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edge_tier.gateway.answer import EventRewriter, filters, rewrite_answer, rewriter
from edge_tier.gateway.content import ContentScreen
from edge_tier.gateway.request import ContentRule
from edge_tier.gateway.restore import Restorer
from wire.chat import DONE, ChunkEncoder, TokenLogprob
from wire.sse import SSEDecoder

MAPPING = {"[EMAIL_1]": "joe@example.com", "[PHONE_1]": '+1 "415"'}
SCREEN = ContentScreen([ContentRule(name="weapons", words=("bomb",), sides=("output",))], "output")
NOTHING = ContentScreen((), "output")
CHAT = ChunkEncoder("c1", "m", 1)
TEXT = ChunkEncoder("c1", "m", 1, "completion")


def restoring() -> EventRewriter:
    one = rewriter(MAPPING, NOTHING)
    assert one is not None
    return one


def scanning() -> EventRewriter:
    one = rewriter(MAPPING, SCREEN)
    assert one is not None
    return one


def chunks(stream: bytes) -> list[Any]:
    events = SSEDecoder().feed(stream)
    return [json.loads(e.data) for e in events if e.data != "[DONE]"]


def said(stream: bytes, index: int = 0) -> str:
    choices = [c for chunk in chunks(stream) for c in chunk["choices"] if c["index"] == index]
    return "".join((c.get("delta") or {}).get("content") or c.get("text") or "" for c in choices)


def call_event(arguments: str, call: int = 0, choice: int = 0) -> bytes:
    delta = {"tool_calls": [{"index": call, "function": {"arguments": arguments}}]}
    chunk = {"id": "c1", "choices": [{"index": choice, "delta": delta, "finish_reason": None}]}
    return b"data: " + json.dumps(chunk).encode() + b"\n\n"


@pytest.mark.parametrize("encoder", [CHAT, TEXT], ids=["chat", "completion"])
def test_a_placeholder_is_restored_at_every_split(encoder: ChunkEncoder) -> None:
    text = "Write [EMAIL_1], call [PHONE_1] or [EMAIL_9] [x]"
    expected = 'Write joe@example.com, call +1 "415" or [EMAIL_9] [x]'
    for first in range(len(text)):
        for second in range(first, len(text), 5):
            parts = text[:first], text[first:second], text[second:]
            events = [*map(encoder.delta, parts), encoder.finish("stop"), DONE]
            one = restoring()
            out = b"".join(map(one.feed, events)) + one.flush()
            assert said(out) == expected
            assert chunks(out)[-1]["choices"][0]["finish_reason"] == "stop"
            assert out.endswith(DONE)


def test_events_without_a_bracket_pass_untouched() -> None:
    one = restoring()
    for event in (
        CHAT.role(), CHAT.delta("hello"), CHAT.delta("a") + CHAT.delta('"choices":'),
        CHAT.finish("stop"),
        CHAT.usage(1, 2), b": comment\n\n", b'data: {"id": 1, "choices": [{"index": 0}]}\n\n',
    ):  # fmt: skip
        assert one.feed(event) is event
    assert one.feed(DONE) == DONE


def test_a_bracket_in_any_form_is_seen() -> None:
    for text in (rb"\u005bEMAIL_1]", rb"\u005BEMAIL_1]", b"[EMAIL_1]"):
        event = b'data: {"choices":[{"index":0,"delta":{"content":"%b"}}]}\n\n' % text
        assert said(restoring().feed(event)) == "joe@example.com"


def test_what_is_held_back_goes_out_with_the_end_however_it_ends() -> None:
    for ending in ([CHAT.finish("length"), DONE], [DONE], []):
        one = restoring()
        out = b"".join(map(one.feed, [CHAT.delta("a [EM"), *ending])) + one.flush()
        assert said(out) == "a [EM"
        assert out.endswith(DONE) == bool(ending)


def test_arguments_of_calls_are_restored_as_json() -> None:
    arguments = json.dumps({"to": "[EMAIL_1]", "call": "[PHONE_1]"})
    for cut in range(len(arguments)):
        one = restoring()
        events = [call_event(arguments[:cut]), call_event("[1", 1), call_event(arguments[cut:])]
        events.append(CHAT.finish("tool_calls"))
        out = b"".join(map(one.feed, events))
        parts: dict[int, str] = {0: "", 1: ""}
        for chunk in chunks(out):
            for call in chunk["choices"][0]["delta"].get("tool_calls", []):
                parts[call["index"]] += call["function"]["arguments"]
        assert json.loads(parts[0]) == {"to": "joe@example.com", "call": '+1 "415"'}
        assert parts[1] == "[1"


def test_a_held_end_of_arguments_is_added_to_the_last_event() -> None:
    one = restoring()
    out = one.feed(call_event('"[EMAI')) + one.feed(CHAT.finish("tool_calls"))
    calls = [c for chunk in chunks(out) for c in chunk["choices"][0]["delta"].get("tool_calls", [])]
    assert "".join(call["function"]["arguments"] for call in calls) == '"[EMAI'
    assert chunks(out)[-1]["choices"][0]["finish_reason"] == "tool_calls"


def test_choices_are_told_apart() -> None:
    def event(index: int, text: str) -> bytes:
        return b'data: {"choices":[{"index":%d,"delta":{"content":"%b"}}]}\n\n' % (
            index,
            text.encode(),
        )

    one = restoring()
    events = [event(0, "[EMA"), event(1, "b[EMAI"), event(0, "IL_1]"), event(1, "L_1]!"), DONE]
    out = b"".join(map(one.feed, events))
    assert (said(out, 0), said(out, 1)) == ("joe@example.com", "bjoe@example.com!")


@given(
    st.lists(
        st.sampled_from([*MAPPING, "[", "EMAIL_1]", "a", "\n", '"', "é", "[EMAIL"]), max_size=8
    ),
    st.data(),
)
def test_events_may_come_in_any_pieces_and_together(parts: list[str], data: st.DataObject) -> None:
    text = "".join(parts)
    expected = Restorer(MAPPING)
    whole = expected.feed(text) + expected.flush()
    one, out, waiting, rest = restoring(), b"", b"", text
    while rest:
        cut = data.draw(st.integers(1, len(rest)))
        waiting += CHAT.delta(rest[:cut])
        rest = rest[cut:]
        if data.draw(st.booleans()):
            out += one.feed(waiting)
            waiting = b""
    out += one.feed(waiting + CHAT.finish("stop") + DONE)
    assert said(out) == whole


@pytest.mark.parametrize("encoder", [CHAT, TEXT], ids=["chat", "completion"])
def test_a_denied_answer_ends_as_filtered(encoder: ChunkEncoder) -> None:
    one = scanning()
    events = [*map(encoder.delta, "I like a bomb and"), encoder.finish("stop"), DONE]
    out = b"".join(map(one.feed, events)) + one.flush()
    assert one.blocked == "weapons"
    assert "bomb" not in said(out)
    assert chunks(out)[-1]["choices"][0]["finish_reason"] == "content_filter"
    assert out.count(DONE) == 1
    assert out.endswith(DONE)


@pytest.mark.parametrize("ending", [[CHAT.finish("stop"), DONE], [DONE]])
def test_a_denied_last_word_is_seen(ending: list[bytes]) -> None:
    one = scanning()
    out = b"".join(map(one.feed, [CHAT.delta("a bomb"), *ending]))
    assert one.blocked == "weapons"
    assert "bomb" not in said(out)
    assert chunks(out)[-1]["choices"][0]["finish_reason"] == "content_filter"
    assert out.count(DONE) == 1


def test_an_allowed_answer_is_whole() -> None:
    one = scanning()
    text = "Bombs are no word of the list, joe@example.com is [EMAIL_1]."
    out = b"".join(map(one.feed, [*map(CHAT.delta, text), CHAT.finish("stop"), DONE]))
    assert said(out) == text.replace("[EMAIL_1]", "joe@example.com")
    assert one.blocked == ""


@pytest.mark.parametrize(
    "event", [b"data: nonsense[\n\n", b'data: {"error":["x"]}\n\n', b"data: [1]\n\n", b": [c]\n\n"]
)
def test_what_is_no_chunk_passes(event: bytes) -> None:
    assert restoring().feed(event) == event


def answer(message: dict[str, Any]) -> bytes:
    choice = {"index": 0, "message": message, "finish_reason": "stop"}
    return json.dumps({"id": "c1", "choices": [choice], "usage": {"total_tokens": 7}}).encode()


def test_a_whole_answer_is_restored() -> None:
    call = {"id": "1", "function": {"name": "f", "arguments": '{"to": "[PHONE_1]"}'}}
    body = answer({"role": "assistant", "content": "to [EMAIL_1]", "tool_calls": [call]})
    out, blocked = rewrite_answer(body, filters(MAPPING, NOTHING))
    message = json.loads(out)["choices"][0]["message"]
    assert message["content"] == "to joe@example.com"
    arguments = message["tool_calls"][0]["function"]["arguments"]
    assert json.loads(arguments) == {"to": '+1 "415"'}
    assert blocked == ""


def test_a_whole_answer_is_withheld() -> None:
    body = answer({"role": "assistant", "content": "a bomb"})
    out, blocked = rewrite_answer(body, filters({}, SCREEN))
    choice = json.loads(out)["choices"][0]
    assert (blocked, choice["finish_reason"], choice["message"]["content"]) == (
        "weapons", "content_filter", "",
    )  # fmt: skip
    assert json.loads(out)["usage"] == {"total_tokens": 7}


@pytest.mark.parametrize("body", [b"nonsense", b"[1]", b'{"choices":[1,{"message":2}]}'])
def test_what_is_no_answer_is_left(body: bytes) -> None:
    out, blocked = rewrite_answer(body, filters(MAPPING, NOTHING))
    assert (out, blocked) == (body, "")


def test_passing_an_event_costs_little() -> None:
    event, one = CHAT.delta(" token"), restoring()
    best = min(_seconds(one, event) for _ in range(5))
    # Measured at 0.5 µs; pass-through takes some 1 µs in the scan and 10 µs with the sockets.
    assert best / 2_000 < 5e-6


def _seconds(one: EventRewriter, event: bytes) -> float:
    begun = time.thread_time()
    for _ in range(2_000):
        one.feed(event)
    return time.thread_time() - begun


def test_a_denied_choice_ends_the_others_too() -> None:
    def event(index: int, text: str) -> bytes:
        choice = {"index": index, "delta": {"content": text}}
        return b"data: " + json.dumps({"choices": [choice]}).encode() + b"\n\n"

    one = scanning()
    out = one.feed(event(0, "good") + event(1, "a bomb ") + event(0, "more"))
    last = chunks(out)[-1]["choices"]
    assert [(c["index"], c["finish_reason"]) for c in last] == [
        (0, "content_filter"),
        (1, "content_filter"),
    ]
    assert one.feed(event(0, "more")) == one.flush() == b""


def test_where_nothing_transforms_there_is_no_rewriter() -> None:
    assert rewriter({}, NOTHING) is None


def test_shadow_ends_no_answer_and_says_what_it_would_have_ended() -> None:
    one = rewriter(MAPPING, SCREEN, shadow=True)
    assert one is not None
    out = b"".join(map(one.feed, [*map(CHAT.delta, "a bomb!"), CHAT.finish("stop"), DONE]))
    assert said(out) == "a bomb!"
    assert (one.blocked, one.flagged) == ("", {"weapons"})


def test_log_probabilities_tell_nothing_that_is_held_back() -> None:
    token = TokenLogprob("bomb", -0.1)
    for one, expected in ((restoring(), True), (scanning(), False)):
        assert (b"bomb" in one.feed(CHAT.delta("[bomb", [token]))) == expected


def test_an_answer_that_is_json_stays_json() -> None:
    one = rewriter(MAPPING, NOTHING, json_content=True)
    assert one is not None
    text = json.dumps({"call": "[PHONE_1]"})
    out = b"".join(map(one.feed, [*map(CHAT.delta, text), CHAT.finish("stop"), DONE]))
    assert json.loads(said(out)) == {"call": '+1 "415"'}
