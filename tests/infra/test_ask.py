from __future__ import annotations

import itertools
import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from infra.ask import Answer, Asker, parse_timing, take
from infra.errors import AnswerError
from tests.fakes.tier import Canned, stub_tier
from wire.sse import Event, SSEDecoder, encode

HEADERS = {
    "Content-Type": "text/event-stream",
    "x-headwater-route": "worker; model=edge-small",
    "x-headwater-plan": "complexity 0.10 < 0.50",
    "x-model-digest": "ab" * 32,
    "Server-Timing": "auth;dur=0.021, parse;dur=0.100, backend;dur=12.5",
}
QUESTION = [{"role": "user", "content": "What is the capital of France?"}]


def piece(text: str, finish: str | None = None) -> bytes:
    choice = {"index": 0, "delta": {"content": text}, "finish_reason": finish}
    return encode(json.dumps({"id": "c", "choices": [choice]}))


STREAM = (
    piece("Par")
    + b": ping\n\n"
    + piece("is.", "stop")
    + encode(json.dumps({"choices": [], "usage": {"total_tokens": 9}}))
    + encode("[DONE]")
)


async def asked(answer: Canned, **fields: Any) -> tuple[Answer, list[str], dict[str, Any]]:
    """Ask a stub once: the answer, the pieces of text, and what was sent."""
    pieces: list[str] = []
    with stub_tier({"POST /v1/chat/completions": answer}) as edge:
        async with Asker(edge.url, "hw-k-secret") as asker:
            found = await asker.ask(QUESTION, on_text=pieces.append, **fields)
        sent = edge.received[0]
    assert sent.headers["authorization"] == "Bearer hw-k-secret"
    assert sent.headers["x-headwater-explain"] == "1"
    body: dict[str, Any] = json.loads(sent.body)
    return found, pieces, body


async def test_a_whole_answer_with_all_it_says_about_itself() -> None:
    answer, pieces, sent = await asked(Canned(STREAM, headers=HEADERS), max_tokens=5)
    assert answer.text == "".join(pieces) == "Paris."
    assert answer.whole
    assert answer.finish_reason == "stop"
    assert answer.usage == {"total_tokens": 9}
    assert answer.target == "worker"
    assert answer.plan.startswith("complexity")
    assert answer.digest == "ab" * 32
    assert answer.stages_ms == {"auth": 0.021, "parse": 0.1, "backend": 12.5}
    assert 0 < answer.first_token_s <= answer.total_s
    assert sent == {
        "model": "auto",
        "messages": QUESTION,
        "stream": True,
        "stream_options": {"include_usage": True},
        "max_tokens": 5,
    }


async def test_a_stream_without_done_is_not_whole() -> None:
    answer, _, _ = await asked(Canned(piece("Par") + piece("is.", "stop"), headers=HEADERS))
    assert answer.text == "Paris."
    assert not answer.whole


async def test_an_error_event_is_kept() -> None:
    broken = encode(json.dumps({"error": {"message": "the worker went away"}}))
    answer, _, _ = await asked(Canned(piece("Par") + broken, headers=HEADERS))
    assert answer.error == "the worker went away"
    assert not answer.whole


async def test_a_refusal_is_an_error_with_the_edges_reason() -> None:
    refusal = Canned({"error": {"message": "the API key is not valid here"}}, status=401)
    with pytest.raises(AnswerError, match=r"401.*not valid here"):
        await asked(refusal)


async def test_a_refusal_without_a_reason_is_an_error_too() -> None:
    with pytest.raises(AnswerError, match="no reason given"):
        await asked(Canned(b"<html>", status=502))


async def test_nobody_there_is_an_error() -> None:
    async with Asker("http://127.0.0.1:9", "k") as asker:
        with pytest.raises(AnswerError, match=r"127\.0\.0\.1:9"):
            await asker.ask(QUESTION)


async def test_a_closed_client_says_so() -> None:
    with pytest.raises(AnswerError, match="closed"):
        await Asker("http://127.0.0.1:9", "k").ask(QUESTION)


@given(st.lists(st.integers(1, len(STREAM) - 1), max_size=6))
def test_the_cuts_of_the_network_change_nothing(cuts: list[int]) -> None:
    decoder, answer = SSEDecoder(), Answer()
    edges = [0, *sorted(cuts), len(STREAM)]
    for start, end in itertools.pairwise(edges):
        for event in decoder.feed(STREAM[start:end]):
            take(answer, event)
    assert answer.text == "Paris."
    assert answer.whole


@pytest.mark.parametrize("data", ["", "{", "[]", '{"choices": 3}', '{"choices": [{"delta": 1}]}'])
def test_an_event_that_is_none_of_the_protocol_is_an_error(data: str) -> None:
    answer = Answer()
    take(answer, Event(data))
    assert answer.error


@pytest.mark.parametrize(
    ("header", "found"),
    [
        ("", {}),
        ("cache", {}),
        ("a;dur=1.5", {"a": 1.5}),
        ('a;desc="x";dur="2" , b;dur=3', {"a": 2.0, "b": 3.0}),
        ("a;dur=1, a;dur=2", {"a": 3.0}),
        ("a;dur=fast", {}),
    ],
)
def test_server_timing_is_read(header: str, found: dict[str, float]) -> None:
    assert parse_timing(header) == found
