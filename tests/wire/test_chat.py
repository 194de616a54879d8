"""wire.chat: what we encode is what stock clients and our own decoder read."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from openai.types import Completion
from openai.types.chat import ChatCompletion, ChatCompletionChunk

from wire.chat import (
    DONE,
    ChunkEncoder,
    Kind,
    ModelCard,
    TokenLogprob,
    TopLogprob,
    Usage,
    decode_chunk,
    encode_models,
    error_body,
    error_event,
)
from wire.chat_answer import AnswerAccumulator
from wire.errors import SourceUnavailableError
from wire.sse import SSEDecoder

LOGPROBS = [TokenLogprob("Pa", -0.1, [80, 97], [TopLogprob("Ly", -2.5, [76, 121])])]


def chunk_encoder(kind: Kind = "chat") -> ChunkEncoder:
    return ChunkEncoder("chatcmpl-1", 'say "small"', 1_700_000_000, kind)


def accumulator(kind: Kind = "chat", **limits: int) -> AnswerAccumulator:
    return AnswerAccumulator("chatcmpl-1", "chat-small", 1_700_000_000, kind, **limits)


def payloads(stream: bytes) -> list[Any]:
    return [json.loads(event.data) for event in SSEDecoder().feed(stream)]


@pytest.mark.parametrize(
    "event",
    [
        chunk_encoder().role(),
        chunk_encoder().delta('a "quoted"\nline\r\n\u2028 é 🏴\x00'),
        chunk_encoder().delta("Pa", LOGPROBS),
        chunk_encoder().finish("stop"),
        chunk_encoder().usage(3, 4),
    ],
    ids=["role", "delta", "logprobs", "finish", "usage"],
)
def test_each_chat_event_is_whole_and_fits_the_stock_client(event: bytes) -> None:
    assert event.startswith(b"data: ")
    assert event.endswith(b"\n\n")
    assert event.count(b"\n") == 2
    (payload,) = payloads(event)
    chunk = ChatCompletionChunk.model_validate(payload, strict=True)
    assert (chunk.id, chunk.model, chunk.created) == ("chatcmpl-1", 'say "small"', 1_700_000_000)


@pytest.mark.parametrize("method", ["delta", "finish", "usage"])
def test_each_completion_event_fits_the_stock_client(method: str) -> None:
    encoder = chunk_encoder("completion")
    event = {
        "delta": encoder.delta("Pa", LOGPROBS),
        "finish": encoder.finish("length"),
        "usage": encoder.usage(3, 4),
    }[method]
    (payload,) = payloads(event)
    assert Completion.model_construct(**payload).object == "text_completion"
    assert {"id", "object", "created", "model", "choices"} <= payload.keys()


def test_a_completion_has_no_role_event() -> None:
    assert chunk_encoder("completion").role() == b""


@given(st.text(st.characters(exclude_categories=["Cs"])))
def test_any_text_comes_back(text: str) -> None:
    (payload,) = payloads(chunk_encoder().delta(text))
    assert payload["choices"][0]["delta"]["content"] == text
    (payload,) = payloads(chunk_encoder("completion").delta(text))
    assert payload["choices"][0]["text"] == text


@pytest.mark.parametrize("kind", ["chat", "completion"])
def test_a_stream_accumulates_to_the_answer(kind: Kind) -> None:
    encoder = chunk_encoder(kind)
    stream = (
        encoder.role()
        + encoder.delta("Pa", LOGPROBS)
        + encoder.delta("ris")
        + encoder.finish("stop")
        + encoder.usage(5, 2)
        + DONE
    )
    answer = accumulator(kind)
    for event in SSEDecoder().feed(stream):
        answer.feed(event.data)
    assert answer.finished
    body = json.loads(answer.body())
    assert body["usage"] == {"prompt_tokens": 5, "completion_tokens": 2, "total_tokens": 7}
    choice = body["choices"][0]
    assert choice["finish_reason"] == "stop"
    if kind == "chat":
        read = ChatCompletion.model_validate(body, strict=True).choices[0]
        assert read.message.content == "Paris"
        assert read.logprobs is not None
        assert read.logprobs.content is not None
        assert read.logprobs.content[0].top_logprobs[0].token == "Ly"
    else:
        assert choice["text"] == "Paris"
        assert choice["logprobs"]["token_logprobs"] == [-0.1]
        assert choice["logprobs"]["top_logprobs"] == [{"Ly": -2.5}]


def test_token_events_accumulate_like_a_stream() -> None:
    answer = accumulator()
    answer.text("Par")
    answer.text("is", LOGPROBS)
    assert not answer.finished
    answer.finish("length")
    answer.usage(1, 2)
    body = json.loads(answer.body())
    assert body["choices"][0]["message"] == {
        "role": "assistant",
        "content": "Paris",
        "refusal": None,
    }
    assert body["choices"][0]["finish_reason"] == "length"


def test_answer_without_finish_reason_is_not_finished() -> None:
    answer = accumulator()
    answer.feed(b'{"choices":[{"delta":{"content":"a"}}]}')
    answer.feed(b"[DONE]")
    assert not answer.finished


def test_answer_is_bounded() -> None:
    answer = accumulator(max_answer_chars=10)
    answer.text("x" * 10)
    with pytest.raises(SourceUnavailableError, match="longer than 10"):
        answer.text("x")


def test_error_event_of_the_engine_breaks_the_answer_without_its_text() -> None:
    with pytest.raises(SourceUnavailableError) as caught:
        accumulator().feed('{"error":{"message":"the prompt said: hunter2"}}')
    assert "hunter2" not in str(caught.value)


@pytest.mark.parametrize(
    "data",
    [b"", b"nonsense", b"[]", b'{"choices":7}', b'{"choices":[{"index":"x"}]}', b"\xff"],
)
def test_what_is_no_chunk_is_the_engines_fault(data: bytes) -> None:
    with pytest.raises(SourceUnavailableError, match="not a chunk"):
        decode_chunk(data)


def test_deep_nesting_from_an_engine_is_refused() -> None:
    with pytest.raises(SourceUnavailableError):
        decode_chunk(b'{"x":' + b"[" * 100_000)


def test_decoding_forgives_what_engines_leave_out_or_add() -> None:
    chunk = decode_chunk(
        b'{"error":null,"system_fingerprint":"b1","timings":{"a":1},"choices":[{"delta":'
        b'{"content":null,"reasoning_content":"x"},"finish_reason":null,"text":null}],"usage":'
        b'{"prompt_tokens":4,"prompt_tokens_details":{"cached_tokens":2}}}'
    )
    assert not chunk.failed
    assert chunk.choices[0].delta is not None
    assert chunk.choices[0].delta.content is None
    assert chunk.usage == Usage(prompt_tokens=4)


def test_completion_logprobs_of_an_engine_are_read() -> None:
    answer = accumulator("completion")
    answer.feed(
        b'{"choices":[{"text":"ab","logprobs":{"tokens":["a","b"],"token_logprobs":[null,-1.5],'
        b'"top_logprobs":[null,{"c":-2}]},"finish_reason":"stop"}]}'
    )
    logprobs = json.loads(answer.body())["choices"][0]["logprobs"]
    assert logprobs["tokens"] == ["b"]
    assert logprobs["top_logprobs"] == [{"c": -2.0}]


def test_error_envelope() -> None:
    assert json.loads(error_body("bad", "invalid_request_error", "invalid_value", "top_p")) == {
        "error": {
            "message": "bad",
            "type": "invalid_request_error",
            "param": "top_p",
            "code": "invalid_value",
        }
    }
    (payload,) = payloads(error_event("broke", "server_error", None))
    assert payload["error"]["param"] is None


def test_model_list() -> None:
    assert json.loads(encode_models([ModelCard("chat-small", 7)])) == {
        "object": "list",
        "data": [{"id": "chat-small", "created": 7, "owned_by": "headwater", "object": "model"}],
    }
