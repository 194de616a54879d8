"""gpu_worker.engines.openai_api, on what servers were seen to send."""

from __future__ import annotations

import contextlib
import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gpu_worker.engine import (
    CallPiece,
    ContextLengthError,
    EngineBrokenError,
    EngineError,
    EngineRefusedError,
    EngineUnavailableError,
    Finish,
    Generation,
    Message,
    Sampling,
    Token,
    TokenEvent,
    TokensUnsupportedError,
)
from gpu_worker.engines.openai_api import compose, events, refusal

USAGE = {"prompt_tokens": 3, "completion_tokens": 2, "total_tokens": 5}


def read(*sent: Any, top: int = 0, first: int = 0) -> list[TokenEvent]:
    """What these events say; the last one is ``[DONE]`` unless it is text."""
    decode, batch = events(top, first), list[TokenEvent]()
    for value in sent:
        decode(value if isinstance(value, str) else json.dumps(value).encode(), batch)
    return batch


def text(content: str, reason: str | None = None, **more: Any) -> dict[str, Any]:
    return {"choices": [{"index": 0, "text": content, "finish_reason": reason, **more}]}


def delta(content: str | None = None, reason: str | None = None, **more: Any) -> dict[str, Any]:
    inner = {"content": content, **more}
    return {"choices": [{"index": 0, "delta": inner, "finish_reason": reason}]}


def body(request: Generation, **options: Any) -> tuple[str, dict[str, Any]]:
    path, raw, _ = compose(request, "m", **{"takes_ids": True, **options})
    return path, json.loads(raw)


def test_a_completion_is_read_to_its_end() -> None:
    found = read(
        text("Hel"), text("lo"), text("", "length"), {"choices": [], "usage": USAGE}, "[DONE]"
    )
    assert found == [
        Token("Hel"),
        Token("lo"),
        Finish(reason="length", prompt_tokens=3, completion_tokens=2),
    ]


def test_a_chat_is_read_to_its_end() -> None:
    found = read(
        delta(role="assistant"), delta("Hi"), delta(None, "stop"), {"usage": USAGE}, "[DONE]"
    )
    assert found == [Token("Hi"), Finish(reason="stop", prompt_tokens=3, completion_tokens=2)]


def test_an_answer_is_whole_with_its_reason_and_its_end_only() -> None:
    assert read(text("a"), "[DONE]") == [Token("a")]
    assert read(text("a", "stop")) == [Token("a")]


def test_a_server_that_counts_nothing_is_counted_by_pieces() -> None:
    assert read(text("a"), text("b", "stop"), "[DONE]")[-1] == Finish(
        reason="stop", prompt_tokens=0, completion_tokens=2
    )


def test_a_reason_that_nobody_knows_is_an_ordinary_end() -> None:
    last = read(text("a", "abort"), "[DONE]")[-1]
    assert isinstance(last, Finish)
    assert last.reason == "stop"


def test_calls_of_tools_are_pieces() -> None:
    function = {"name": "f", "arguments": None}
    call = {"index": 0, "id": "c1", "type": "function", "function": function}
    more = {"index": 0, "function": {"arguments": "{}"}}
    found = read(
        delta(tool_calls=[call]), delta(tool_calls=[more]), delta(None, "tool_calls"), "[DONE]"
    )
    assert found[:2] == [CallPiece(0, "c1", "f", ""), CallPiece(0, None, None, "{}")]
    assert isinstance(found[2], Finish)
    assert found[2].reason == "tool_calls"


def test_log_probabilities_of_both_forms_are_one_form() -> None:
    old = {"tokens": ["a"], "token_logprobs": [-0.5], "top_logprobs": [{"a": -0.5, "é": -2.0}]}
    new = {
        "content": [
            {
                "token": "a",
                "logprob": -0.5,
                "bytes": [97],
                "top_logprobs": [
                    {"token": "a", "logprob": -0.5, "bytes": [97]},
                    {"token": "é", "logprob": -2.0, "bytes": [195, 169]},
                ],
            }
        ]
    }
    for top in (0, 1, 2):
        found = [read(text("a", logprobs=form), top=top) for form in (old, new)]
        assert found[0] == found[1]
        token = found[0][0]
        assert isinstance(token, Token)
        assert token.logprobs is not None
        assert len(token.logprobs[0].top_logprobs) == top


def test_only_the_first_tokens_may_carry_them() -> None:
    form = {"tokens": ["a"], "token_logprobs": [None]}
    tokens = read(*[text("a", logprobs=form)] * 3, first=2)
    assert [token.logprobs is not None for token in tokens if isinstance(token, Token)] == [
        True,
        True,
        False,
    ]


@pytest.mark.parametrize("sent", ["", "{", "[1]", '{"choices":[{"delta":7}]}', "[" * 5_000])
def test_a_malformed_event_breaks_the_answer(sent: str) -> None:
    with pytest.raises(EngineBrokenError, match="malformed"):
        read(sent)


@given(st.text(max_size=40))
def test_whatever_is_sent_is_read_or_refused(sent: str) -> None:
    with contextlib.suppress(EngineError):
        assert all(isinstance(event, Token | Finish | CallPiece) for event in read(sent))


def test_an_error_in_the_stream_breaks_it() -> None:
    with pytest.raises(EngineBrokenError, match="died"):
        read(text("a"), {"error": {"message": "the engine died", "code": 500}})


LONG = "This model's maximum context length is 4096 tokens. However, you requested 5000 tokens"


@pytest.mark.parametrize(
    ("status", "answer", "kind"),
    [
        (
            400,
            {"error": {"message": LONG, "type": "BadRequestError", "code": 400}},
            ContextLengthError,
        ),
        (400, {"object": "error", "message": LONG}, ContextLengthError),
        (
            400,
            {"error": {"code": "context_length_exceeded", "message": "context_length"}},
            ContextLengthError,
        ),
        (400, {"error": {"message": "top_p must be in (0, 1]"}}, EngineRefusedError),
        (404, {"error": "model 'x' not found"}, EngineRefusedError),
        (422, {"detail": []}, EngineRefusedError),
        (401, {"error": "Unauthorized"}, EngineBrokenError),
        (429, {}, EngineUnavailableError),
        (503, {"error": {"message": "overloaded"}}, EngineUnavailableError),
        (500, {"error": {"message": "EngineDeadError"}}, EngineBrokenError),
        (502, "<html>", EngineBrokenError),
    ],
)
def test_a_refusal_says_whose_fault_it_is(
    status: int, answer: Any, kind: type[EngineError]
) -> None:
    raw = answer.encode() if isinstance(answer, str) else json.dumps(answer).encode()
    assert type(refusal(status, raw)) is kind


def test_a_refusal_is_bounded() -> None:
    assert len(refusal(400, json.dumps({"error": "x" * 10_000}).encode()).message) < 400


def test_ids_go_as_ids_and_may_fill_the_context() -> None:
    path, found = body(Generation(prompt=(1, 2, 3)), context_tokens=100)
    assert path == "/v1/completions"
    assert (found["prompt"], found["max_tokens"]) == ([1, 2, 3], 97)
    assert found["stream_options"] == {"include_usage": True}


def test_a_server_without_ids_refuses_them_by_name() -> None:
    with pytest.raises(TokensUnsupportedError) as caught:
        body(Generation(prompt=(1,)), takes_ids=False)
    assert (caught.value.status, caught.value.code) == (400, "token_ids_unsupported")


def test_text_and_messages_go_where_they_belong() -> None:
    assert body(Generation(prompt="hi"), takes_ids=False)[1]["prompt"] == "hi"
    path, found = body(Generation(prompt=(Message("user", "hi"),)), takes_ids=False)
    assert path == "/v1/chat/completions"
    assert found["messages"] == [{"role": "user", "content": "hi"}]
    assert "max_tokens" not in found


def test_sampling_is_told_in_the_apis_own_words() -> None:
    sampling = Sampling(
        temperature=0.0, top_p=0.5, seed=7, stop=("x",), logit_bias=((3, -1.0),), logprobs=True
    )
    _, found = body(Generation(prompt=(1,), max_tokens=5, sampling=sampling))
    assert found["logit_bias"] == {"3": -1.0}
    assert (found["temperature"], found["seed"], found["stop"]) == (0.0, 7, ["x"])
    assert (found["logprobs"], found["max_tokens"]) == (0, 5)
    _, chat = body(Generation(prompt=(Message("user", "x"),), sampling=sampling))
    assert (chat["logprobs"], chat["top_logprobs"]) == (True, 0)


def test_tools_and_forms_pass_as_they_are() -> None:
    request = Generation(
        prompt=(Message("user", "x"),),
        tools='[{"type":"function","function":{"name":"f"}}]',
        tool_choice='"auto"',
        parallel_tool_calls=False,
        response_format='{"type":"json_object"}',
    )
    _, found = body(request)
    assert found["tools"][0]["function"]["name"] == "f"
    assert (found["tool_choice"], found["parallel_tool_calls"]) == ("auto", False)
    assert found["response_format"] == {"type": "json_object"}
