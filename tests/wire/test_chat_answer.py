"""wire.chat_answer: choices and calls that arrive interleaved, and bounds on both."""

from __future__ import annotations

import json
from base64 import b64decode
from itertools import chain
from struct import unpack

import pytest
from hypothesis import given
from hypothesis import strategies as st
from openai.types import CreateEmbeddingResponse
from openai.types.chat import ChatCompletion, ChatCompletionChunk

from wire.chat import ChunkEncoder, Kind, encode_embeddings
from wire.chat_answer import MAX_CALLS, AnswerAccumulator
from wire.errors import SourceUnavailableError
from wire.sse import SSEDecoder


def accumulator(kind: Kind = "chat") -> AnswerAccumulator:
    return AnswerAccumulator("chatcmpl-1", "m", 1_700_000_000, kind)


def encoders(kind: Kind = "chat") -> tuple[ChunkEncoder, ChunkEncoder]:
    first = ChunkEncoder("chatcmpl-1", "m", 1_700_000_000, kind)
    return first, first.next()


def fed(answer: AnswerAccumulator, stream: bytes) -> AnswerAccumulator:
    for event in SSEDecoder().feed(stream):
        answer.feed(event.data)
    return answer


@pytest.mark.parametrize("kind", ["chat", "completion"])
def test_interleaved_choices_are_told_apart(kind: Kind) -> None:
    a, b = encoders(kind)
    stream = a.role() + b.role() + b.delta("x") + a.delta("Pa") + b.delta("y") + a.delta("ris")
    answer = fed(accumulator(kind), stream + b.finish("length"))
    assert not answer.finished
    answer = fed(answer, a.finish("stop") + a.usage(3, 4))
    assert answer.finished
    first, second = json.loads(answer.body())["choices"]
    texts = [c["message"]["content"] if kind == "chat" else c["text"] for c in (first, second)]
    assert texts == ["Paris", "xy"]
    assert (first["index"], first["finish_reason"]) == (0, "stop")
    assert (second["index"], second["finish_reason"]) == (1, "length")


def test_calls_come_back_whole_and_fit_the_stock_client() -> None:
    one, _ = encoders()
    pieces = [
        one.role(),
        one.call(0, "c1", "weather", ""),
        one.call(0, None, None, '{"city":"O'),
        one.call(1, "c2", "news", '{"a":"\\"\n"}'),
        one.call(0, None, None, 'slo"}'),
        one.finish("tool_calls"),
    ]
    for event in SSEDecoder().feed(b"".join(pieces)):
        ChatCompletionChunk.model_validate(json.loads(event.data), strict=True)
    body = json.loads(fed(accumulator(), b"".join(pieces)).body())
    choice = ChatCompletion.model_validate(body, strict=True).choices[0]
    assert choice.message.content is None
    made = [
        (call.id, call.function.name, call.function.arguments)
        for call in choice.message.tool_calls or ()
        if call.type == "function"
    ]
    assert made == [("c1", "weather", '{"city":"Oslo"}'), ("c2", "news", '{"a":"\\"\n"}')]


@given(st.lists(st.text(st.characters(exclude_categories=["Cs"])), max_size=5))
def test_arguments_in_pieces_are_the_arguments(pieces: list[str]) -> None:
    one, _ = encoders()
    events = [one.call(0, "c", "f", ""), *(one.call(0, None, None, piece) for piece in pieces)]
    body = json.loads(fed(accumulator(), b"".join(chain(events, [one.finish("stop")]))).body())
    call = body["choices"][0]["message"]["tool_calls"][0]
    assert call == {
        "id": "c",
        "type": "function",
        "function": {"name": "f", "arguments": "".join(pieces)},
    }


@pytest.mark.parametrize("index", [-1, 128, 10**9])
def test_choices_are_bounded(index: int) -> None:
    with pytest.raises(SourceUnavailableError, match="choices"):
        accumulator().text("x", None, index)


def test_calls_are_bounded() -> None:
    answer = accumulator()
    for index in range(MAX_CALLS):
        answer.call(index, "c", "f", "")
    with pytest.raises(SourceUnavailableError, match="calls"):
        answer.call(MAX_CALLS, "c", "f", "")


def test_arguments_count_as_text() -> None:
    answer = AnswerAccumulator("i", "m", 1, max_answer_chars=10)
    with pytest.raises(SourceUnavailableError, match="longer"):
        answer.call(0, "c", "f", "x" * 11)


def test_embeddings_fit_the_stock_client_as_numbers_and_base64() -> None:
    vectors = [[0.5, -2.0], [0.25, 1.0]]
    body = json.loads(encode_embeddings("m", vectors, 7))
    read = CreateEmbeddingResponse.model_validate(body, strict=True)
    assert [entry.embedding for entry in read.data] == vectors
    assert read.usage.total_tokens == 7
    shown = json.loads(encode_embeddings("m", vectors, 7, base64=True))["data"]
    assert [list(unpack("<2f", b64decode(entry["embedding"]))) for entry in shown] == vectors
