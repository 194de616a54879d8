"""gpu_worker.engines.llamacpp_api: what llama.cpp is asked, and how its answers are read."""

from __future__ import annotations

import json
from typing import Any

import pytest

from gpu_worker.engine import (
    ContextLengthError,
    EngineBrokenError,
    EngineRefusedError,
    EngineUnavailableError,
    Finish,
    Generation,
    Message,
    Sampling,
    Token,
    TokenEvent,
)
from gpu_worker.engines.event_stream import Decode
from gpu_worker.engines.llamacpp_api import (
    Tokenized,
    chat_events,
    compose,
    decode_answer,
    journaled_events,
    native_events,
    refusal,
)
from wire.chat import TokenLogprob, TopLogprob

TOP = [{"id": 7, "token": "x", "logprob": -0.5, "bytes": [120]}]
CHOSEN = {"id": 5, "token": "w", "logprob": -0.1, "bytes": [119], "top_logprobs": TOP}
ALL_SAMPLING = Sampling(
    temperature=0.5,
    top_p=0.9,
    seed=7,
    stop=("END",),
    presence_penalty=0.1,
    frequency_penalty=0.2,
    logit_bias=((5, -100.0),),
    logprobs=True,
    top_logprobs=2,
)


def body_of(request: Generation) -> tuple[str, dict[str, Any]]:
    path, body, _ = compose(request, cache_prompt=True)
    return path, json.loads(body)


def read(decode: Decode, *events: dict[str, Any]) -> list[TokenEvent]:
    batch: list[TokenEvent] = []
    for event in events:
        decode(json.dumps(event), batch)
    return batch


def test_token_ids_go_to_the_native_endpoint() -> None:
    path, body = body_of(Generation(prompt=(1, 2), max_tokens=9))
    assert path == "/completion"
    assert (body["prompt"], body["n_predict"], body["stream"]) == ([1, 2], 9, True)
    assert "temperature" not in body


def test_messages_go_to_the_chat_endpoint_which_renders_the_template() -> None:
    path, body = body_of(Generation(prompt=(Message("user", "hi"),), max_tokens=9))
    assert path == "/v1/chat/completions"
    assert body["messages"] == [{"role": "user", "content": "hi"}]
    assert (body["max_tokens"], body["stream_options"]) == (9, {"include_usage": True})


@pytest.mark.parametrize("prompt", [(1, 2), (Message("user", "hi"),)], ids=["ids", "messages"])
def test_every_sampling_field_is_passed_on(prompt: Any) -> None:
    _, body = body_of(Generation(prompt=prompt, sampling=ALL_SAMPLING))
    expected = {"temperature": 0.5, "top_p": 0.9, "seed": 7, "stop": ["END"]}
    expected |= {"presence_penalty": 0.1, "frequency_penalty": 0.2, "logit_bias": [[5, -100.0]]}
    assert expected.items() <= body.items()
    assert body.get("n_probs", body.get("top_logprobs")) == 2


def test_logprobs_without_alternatives_still_ask_for_those_of_the_chosen_tokens() -> None:
    _, body = body_of(Generation(prompt=(1,), sampling=Sampling(logprobs=True)))
    assert body["n_probs"] == 1
    event = {"content": "w", "completion_probabilities": [CHOSEN]}
    assert read(native_events(0), event) == [Token("w", [TokenLogprob("w", -0.1, [119], [])])]


@pytest.mark.parametrize("tokens_in_an_event", [1, 2])
def test_only_the_first_tokens_keep_their_logprobs(tokens_in_an_event: int) -> None:
    native = {"content": "w", "completion_probabilities": [CHOSEN] * tokens_in_an_event}
    choice = {"delta": {"content": "w"}, "logprobs": {"content": [CHOSEN] * tokens_in_an_event}}
    for events in (
        read(native_events(0, 3), *[native] * 4),
        read(chat_events(0, 3), *[{"choices": [choice]}] * 4),
    ):
        assert [event.text for event in events if isinstance(event, Token)] == ["w"] * 4
        kept = [len(event.logprobs or []) for event in events if isinstance(event, Token)]
        assert kept == ([1, 1, 1, 0] if tokens_in_an_event == 1 else [2, 1, 0, 0])
        last = events[-1]
        assert isinstance(last, Token)
        assert last.logprobs is None


def test_native_events_become_tokens_and_a_finish() -> None:
    timings = {"cache_n": 1, "prompt_ms": 2.5, "predicted_ms": 7.0}
    last = {"content": "", "stop": True, "stop_type": "eos", "timings": timings}
    last |= {"tokens_evaluated": 4, "tokens_predicted": 6}
    assert read(native_events(0), {"content": "ö"}, last) == [
        Token("ö"),
        Finish(
            reason="stop",
            prompt_tokens=4,
            completion_tokens=6,
            cached_tokens=1,
            prompt_ms=2.5,
            decode_ms=7.0,
        ),
    ]


def said(text: str, count: int, *tokens: int, **more: Any) -> dict[str, Any]:
    return {"content": text, "tokens": tokens, "tokens_predicted": count, "stop": False} | more


def test_ids_are_asked_for_only_where_they_are_wanted() -> None:
    assert "return_tokens" not in body_of(Generation(prompt=(1,)))[1]
    path, body = body_of(Generation(prompt=(1,), token_ids=True))
    assert (path, body["return_tokens"]) == ("/completion", True)


def test_ids_wait_for_the_text_that_is_held_back() -> None:
    """As llama.cpp was seen to send it: a stop string that was none, and a character in pieces."""
    progress = said("", 0, 0, prompt_progress={"total": 9})
    events = read(
        journaled_events(0),
        progress,
        said("P", 1, 50),
        said("", 2, 283),
        said("", 3, 355),
        said("aris", 4, 263),
        said("ö", 6, 182),
        said("", 7, 2),
        {"content": "", "stop": True, "stop_type": "eos", "tokens_evaluated": 9,
         "tokens_predicted": 7},
    )  # fmt: skip
    assert events[:-1] == [
        Token("P", None, (50,)),
        Token("aris", None, (283, 355, 263)),
        Token("ö", None, (-1, 182)),
    ]
    assert isinstance(events[-1], Finish)
    assert (events[-1].ids, events[-1].completion_tokens) == ((2,), 7)


def test_logprobs_wait_with_their_tokens() -> None:
    """Else a client would have those of a token that another worker gives again."""
    decode = journaled_events(1)
    chosen = {"completion_probabilities": [CHOSEN]}
    events = read(
        decode,
        said("", 1, 5, **chosen),
        said("ww", 2, 5, **chosen),
        said("", 3, 2, **chosen),
        {"stop": True, "stop_type": "eos", "tokens_predicted": 3},
    )
    first, last, finish = events
    assert isinstance(first, Token)
    assert isinstance(last, Token)
    assert isinstance(finish, Finish)
    assert (first.text, first.ids, len(first.logprobs or [])) == ("ww", (5, 5), 2)
    assert (last.text, last.ids, len(last.logprobs or [])) == ("", (), 1)
    assert finish.ids == (2,)


def test_a_limit_in_the_middle_of_a_character_is_a_gap_at_the_end() -> None:
    end = {"stop": True, "stop_type": "limit", "tokens_predicted": 3}
    _, finish = read(journaled_events(0), said("a", 1, 7), end)
    assert isinstance(finish, Finish)
    assert finish.ids == (-2,)


def test_prompt_progress_is_no_token() -> None:
    progress = {"content": "", "tokens": [0], "prompt_progress": {"total": 9, "processed": 4}}
    assert read(native_events(0), progress) == []


@pytest.mark.parametrize(
    ("kind", "reason"), [("eos", "stop"), ("word", "stop"), ("limit", "length"), ("none", "length")]
)
def test_only_an_end_of_the_model_or_a_stop_word_is_a_stop(kind: str, reason: str) -> None:
    last = read(native_events(0), {"stop": True, "stop_type": kind})[0]
    assert isinstance(last, Finish)
    assert last.reason == reason


def test_chat_events_become_tokens_and_a_finish() -> None:
    def chunk(**choice: Any) -> dict[str, Any]:
        return {"choices": [{"index": 0, "delta": {}, **choice}]}

    usage = {"prompt_tokens": 4, "completion_tokens": 2, "total_tokens": 6}
    batch = read(
        chat_events(1),
        chunk(delta={"role": "assistant", "content": None}),
        chunk(delta={"content": "w"}, logprobs={"content": [CHOSEN]}),
        chunk(finish_reason="length"),
        {"choices": [], "usage": usage, "timings": {"cache_n": 3}},
    )
    alternative = TopLogprob("x", -0.5, [120])
    assert batch == [
        Token("w", [TokenLogprob("w", -0.1, [119], [alternative])]),
        Finish(reason="length", prompt_tokens=4, completion_tokens=2, cached_tokens=3),
    ]


def test_the_end_mark_of_a_chat_stream_is_no_event() -> None:
    batch: list[TokenEvent] = []
    chat_events(0)("[DONE]", batch)
    assert batch == []


@pytest.mark.parametrize("decode", [native_events(0), journaled_events(0), chat_events(0)])
@pytest.mark.parametrize("data", ["", "{", "[]", '{"error": 5}', "nul", '{"x":' + "[" * 99_999])
def test_a_malformed_event_breaks_the_answer(decode: Decode, data: str) -> None:
    with pytest.raises(EngineBrokenError, match="malformed"):
        decode(data, [])


@pytest.mark.parametrize("decode", [native_events(0), journaled_events(0), chat_events(0)])
def test_an_error_event_breaks_the_answer_without_repeating_its_text(decode: Decode) -> None:
    fault = {
        "error": {"code": 500, "message": "while decoding 'my secret'", "type": "server_error"}
    }
    with pytest.raises(EngineBrokenError, match="server_error") as caught:
        read(decode, fault)
    assert "secret" not in caught.value.message


@pytest.mark.parametrize(
    ("status", "fault", "kind"),
    [
        (400, {"type": "exceed_context_size_error", "message": "5000 > 2048"}, ContextLengthError),
        (400, {"type": "invalid_request_error", "message": "empty"}, EngineRefusedError),
        (503, {"type": "unavailable_error", "message": "loading"}, EngineUnavailableError),
        (500, {"type": "server_error", "message": "oh"}, EngineBrokenError),
        (401, {"type": "authentication_error", "message": "key"}, EngineBrokenError),
    ],
)
def test_refusals_say_who_is_at_fault(
    status: int, fault: dict[str, Any], kind: type[Exception]
) -> None:
    assert type(refusal(status, json.dumps({"error": fault}).encode())) is kind


@pytest.mark.parametrize("answer", [b"", b"<html>", b'{"error": 5}', b"[" * 99_999])
def test_an_unreadable_refusal_is_the_engines_fault(answer: bytes) -> None:
    assert isinstance(refusal(500, answer), EngineBrokenError)


def test_answers_of_another_shape_are_refused() -> None:
    assert decode_answer(b'{"tokens": [1, 2]}', Tokenized).tokens == [1, 2]
    with pytest.raises(EngineBrokenError, match="malformed answer"):
        decode_answer(b'{"tokens": "12"}', Tokenized)
