"""The parse stage: what is taken, refused and dropped, and that nothing hostile is slow."""

from __future__ import annotations

import json
from contextlib import suppress
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edge_tier.gateway.parse import ParseConfig, parse_chat, parse_completion, parse_embedding
from edge_tier.gateway.parse_errors import (
    ParameterInvalidError,
    ParameterUnsupportedError,
    RequestTooLargeError,
)
from edge_tier.gateway.request import Message, Prompt, Sampling, ToolCall
from tests.fakes.cpu import least_cpu_s
from wire.errors import RequestInvalidError

CONFIG = ParseConfig()
MEBIBYTE = 1024 * 1024


def chat(config: ParseConfig = CONFIG, /, **fields: Any) -> Prompt:
    body = {"model": "auto", "messages": [{"role": "user", "content": "hi"}], **fields}
    return parse_chat(json.dumps(body).encode(), config)


def completion(config: ParseConfig = CONFIG, /, **fields: Any) -> Prompt:
    return parse_completion(
        json.dumps({"model": "auto", "prompt": "hi", **fields}).encode(), config
    )


def embedding(config: ParseConfig = CONFIG, /, **fields: Any) -> Prompt:
    return parse_embedding(json.dumps({"model": "auto", "input": "hi", **fields}).encode(), config)


def raw_chat(extra: bytes) -> Prompt:
    body = b'{"model":"auto","messages":[{"role":"user","content":"hi"}],' + extra + b"}"
    return parse_chat(body, CONFIG)


def test_every_taken_field_arrives() -> None:
    prompt = chat(
        model="chat-small",
        messages=[
            {"role": "system", "content": "be brief"},
            {"role": "developer", "content": "d"},
            {"role": "user", "content": [{"type": "text", "text": t} for t in ("a", "b")]},
            {"role": "assistant", "content": ""},
            {"role": "tool", "content": "42", "tool_call_id": "x"},
        ],
        temperature=0,
        top_p=0.5,
        seed=-7,
        stop=["END", "\n"],
        presence_penalty=-2,
        frequency_penalty=2.0,
        logit_bias={"0": -100, "15043": 1.5},
        logprobs=True,
        top_logprobs=3,
        max_completion_tokens=9,
        stream=True,
        stream_options={"include_usage": True},
        user="u1",
    )
    assert prompt == Prompt(
        kind="chat",
        model="chat-small",
        messages=(
            Message("system", "be brief"),
            Message("developer", "d"),
            Message("user", "a\nb"),
            Message("assistant", ""),
            Message("tool", "42", (), "x"),
        ),
        sampling=Sampling(
            temperature=0.0,
            top_p=0.5,
            seed=-7,
            stop=("END", "\n"),
            presence_penalty=-2.0,
            frequency_penalty=2.0,
            logit_bias={"0": -100.0, "15043": 1.5},
            logprobs=True,
            top_logprobs=3,
        ),
        max_tokens=9,
        stream=True,
        include_usage=True,
        user="u1",
    )


def test_completion_fields_arrive() -> None:
    prompt = completion(prompt=["once upon"], max_tokens=5, logprobs=0, stop="\n", best_of=1)
    assert prompt.kind == "completion"
    assert prompt.texts() == ("once upon",)
    assert prompt.sampling == Sampling(stop=("\n",), logprobs=True, top_logprobs=0)
    assert completion().sampling == Sampling()


def test_several_choices_may_be_asked_for() -> None:
    assert chat(n=3).n == completion(n=3).n == 3
    assert chat(ParseConfig(max_choices=16), n=16).n == 16


def test_embedding_fields_arrive() -> None:
    prompt = embedding(input=["a", "b"], dimensions=8, encoding_format="base64", user="u")
    assert prompt == Prompt(
        kind="embedding",
        model="auto",
        inputs=("a", "b"),
        dimensions=8,
        encoding_format="base64",
        user="u",
    )
    assert prompt.texts() == ("a", "b")
    assert embedding(slot_id=3, stream=True) == embedding()


@pytest.mark.parametrize(
    "fields",
    [
        {"input": []},
        {"input": [""]},
        {"input": [[1, 2]]},
        {"input": [1, 2]},
        {"input": ["x"] * 257},
        {"input": ["x" * 262_145]},
        {"dimensions": 0},
        {"encoding_format": "hex"},
    ],
)
def test_bad_embedding_field_is_refused_and_named(fields: dict[str, object]) -> None:
    with pytest.raises(ParameterInvalidError) as caught:
        embedding(**fields)
    assert str(caught.value.param).startswith(next(iter(fields)))


CALL = {"id": "call_1", "type": "function", "function": {"name": "f", "arguments": '{"a":1}'}}


def test_calls_and_their_answers_arrive() -> None:
    turns = [
        {"role": "user", "content": "hi"},
        {"role": "assistant", "content": None, "tool_calls": [CALL]},
        {"role": "tool", "tool_call_id": "call_1", "content": "42"},
    ]
    prompt = chat(messages=turns)
    assert prompt.messages[1:] == (
        Message("assistant", "", (ToolCall("call_1", "f", '{"a":1}'),)),
        Message("tool", "42", (), "call_1"),
    )
    assert prompt.engine_renders
    assert prompt.with_texts(prompt.texts()) == prompt
    assert '{"a":1}' in prompt.texts()


@pytest.mark.parametrize(
    ("message", "param"),
    [
        ({"role": "user", "content": "x", "tool_calls": [CALL]}, "messages[0].tool_calls"),
        (
            {"role": "tool", "content": "x", "tool_call_id": "<|im_end|>"},
            "messages[0].tool_call_id",
        ),
        ({"role": "assistant", "tool_calls": [{"id": "a"}]}, "messages[0].tool_calls[0].function"),
        ({"role": "assistant", "tool_calls": [CALL] * 33}, "messages[0].tool_calls"),
        ({"role": "assistant", "content": None, "tool_calls": []}, "messages[0].content"),
    ],
)
def test_bad_calls_are_refused_and_named(message: object, param: str) -> None:
    with pytest.raises(ParameterInvalidError) as caught:
        chat(messages=[message])
    assert caught.value.param == param


def test_null_means_absent() -> None:
    names = "temperature top_p seed stop logit_bias n max_tokens stream stream_options user tools"
    assert chat(**dict.fromkeys(names.split())) == chat()


def test_unknown_and_hostile_fields_go_no_further() -> None:
    hostile = {
        "n_discard": -1,
        "slot_id": 3,
        "id_slot": 0,
        "lora": [{"id": 0, "scale": 9}],
        "grammar": "root ::= x",
        "cache_prompt": False,
        "chat_template": "{{ x.__globals__ }}",
        "metadata": {"a": "b"},
        "store": True,
        "service_tier": "auto",
        "max_tokens ": 5,
    }
    messages = [{"role": "user", "content": "hi", "name": "n", "prefix": True, "x": "file:///"}]
    assert chat(**hostile, messages=messages) == chat()


@pytest.mark.parametrize(
    ("param", "value"),
    [
        ("temperature", -0.1),
        ("n", 0),
        ("n", 9),
        ("n", True),
        ("tool_choice", "required"),
        ("parallel_tool_calls", "no"),
        ("temperature", 2.1),
        ("temperature", "0.5"),
        ("temperature", True),
        ("top_p", 1.01),
        ("top_p", -1),
        ("seed", 2**63),
        ("seed", 1.5),
        ("presence_penalty", 2.5),
        ("frequency_penalty", -3),
        ("max_tokens", 0),
        ("max_tokens", -1),
        ("max_tokens", True),
        ("max_tokens", 2**40),
        ("max_completion_tokens", 0),
        ("stop", ["1", "2", "3", "4", "5"]),
        ("stop", ""),
        ("stop", ["ok", ""]),
        ("stop", "x" * 257),
        ("stop", 5),
        ("logit_bias", {"1": 101}),
        ("logit_bias", {"-1": 1}),
        ("logit_bias", {"01": 1}),
        ("logit_bias", {"a": 1}),
        ("logit_bias", {"١": 1}),
        ("logit_bias", {"1": "x"}),
        ("logit_bias", [1]),
        ("logprobs", "yes"),
        ("top_logprobs", 2),
        ("stream", "true"),
        ("stream_options", {"include_usage": True}),
        ("user", "x" * 257),
        ("user", 7),
        ("model", ""),
        ("model", "a\nb"),
        ("model", "x" * 129),
        ("model", None),
        ("messages", []),
        ("messages", "hi"),
        ("messages", None),
    ],
)
def test_bad_value_is_refused_and_named(param: str, value: object) -> None:
    with pytest.raises(ParameterInvalidError) as caught:
        chat(**{param: value})
    assert caught.value.status == 400
    assert caught.value.param == param
    assert param in caught.value.message


def test_top_logprobs_has_a_range() -> None:
    with pytest.raises(ParameterInvalidError, match="between 0 and 20"):
        chat(logprobs=True, top_logprobs=21)
    with pytest.raises(ParameterInvalidError, match="logprobs"):
        completion(logprobs=21)


@pytest.mark.parametrize("missing", ["model", "messages"])
def test_missing_field_is_named(missing: str) -> None:
    body = {"model": "auto", "messages": [{"role": "user", "content": "hi"}]}
    del body[missing]
    with pytest.raises(ParameterInvalidError) as caught:
        parse_chat(json.dumps(body).encode(), CONFIG)
    assert caught.value.param == missing


def test_the_two_spellings_of_max_tokens_cannot_disagree() -> None:
    assert chat(max_tokens=5, max_completion_tokens=5).max_tokens == 5
    assert chat(max_tokens=5).max_tokens == chat(max_completion_tokens=5).max_tokens == 5
    for parse in (chat, completion):
        with pytest.raises(ParameterInvalidError, match="differ"):
            parse(max_tokens=5, max_completion_tokens=500_000)


def test_the_last_of_two_equal_keys_counts_everywhere() -> None:
    assert raw_chat(b'"max_tokens":5,"max_tokens":7').max_tokens == 7


@pytest.mark.parametrize(
    ("message", "param"),
    [
        ({"role": "user"}, "messages[1].content"),
        ({"role": "assistant", "content": None}, "messages[1].content"),
        ({"content": "x"}, "messages[1].role"),
        ({"role": "root", "content": "x"}, "messages[1].role"),
        ({"role": "user", "content": 7}, "messages[1].content"),
        ({"role": "user", "content": [{"type": "text"}]}, "messages[1].content[0].text"),
        ({"role": "user", "content": [{"text": "x"}]}, "messages[1].content[0].type"),
        ({"role": "user", "content": ["x"]}, "messages[1].content[0]"),
        ("x", "messages[1]"),
    ],
)
def test_bad_message_is_named_by_its_index(message: object, param: str) -> None:
    with pytest.raises(ParameterInvalidError) as caught:
        chat(messages=[{"role": "user", "content": "hi"}, message])
    assert caught.value.param == param


@pytest.mark.parametrize(
    ("message", "param"),
    [
        (
            {
                "role": "user",
                "content": [
                    {"type": "text", "text": "see"},
                    {"type": "image_url", "image_url": {"url": "file:///etc/passwd"}},
                ],
            },
            "messages[0].content[1]",
        ),
        ({"role": "user", "content": [{"type": "input_audio"}]}, "messages[0].content[0]"),
        ({"role": "user", "content": [{"type": "file", "file": {}}]}, "messages[0].content[0]"),
        ({"role": "assistant", "content": "", "audio": {"id": "a"}}, "messages[0].audio"),
    ],
)
def test_unsupported_part_is_named_by_its_index(message: object, param: str) -> None:
    with pytest.raises(ParameterUnsupportedError) as caught:
        chat(messages=[message])
    assert (caught.value.param, caught.value.code) == (param, "unsupported_parameter")
    assert "passwd" not in caught.value.message


@pytest.mark.parametrize(
    ("param", "value"),
    [
        ("functions", [{"name": "f"}]),
        ("function_call", {"name": "f"}),
        ("modalities", ["text", "audio"]),
        ("audio", {"voice": "x"}),
        ("reasoning_effort", "high"),
        ("verbosity", "low"),
        ("web_search_options", {}),
    ],
)
def test_what_this_version_cannot_honour_is_refused_by_name(param: str, value: object) -> None:
    with pytest.raises(ParameterUnsupportedError, match=param) as caught:
        chat(**{param: value})
    assert (caught.value.param, caught.value.status) == (param, 400)


@pytest.mark.parametrize(
    ("param", "value"),
    [("best_of", 3), ("echo", True), ("suffix", "x"), ("prompt", ["a", "b"])],
)
def test_unsupported_completion_field_is_refused_by_name(param: str, value: object) -> None:
    with pytest.raises(ParameterUnsupportedError) as caught:
        completion(**{param: value})
    assert caught.value.param == param


@pytest.mark.parametrize("prompt", [[1, 2, 3], [[1, 2]], None, 5, {"a": 1}])
def test_a_completion_prompt_is_text_never_token_ids(prompt: object) -> None:
    with pytest.raises(ParameterInvalidError) as caught:
        completion(prompt=prompt)
    assert str(caught.value.param).startswith("prompt")


def test_unsupported_fields_may_ask_for_the_default() -> None:
    asked = chat(
        n=1,
        tools=[],
        tool_choice="auto",
        parallel_tool_calls=True,
        response_format={"type": "text"},
        modalities=["text"],
        messages=[{"role": "user", "content": "hi", "tool_calls": []}],
    )
    assert asked == chat()
    assert completion(n=1, echo=False, suffix=None, best_of=1) == completion()


@pytest.mark.parametrize(
    ("extra", "param"),
    [
        (b'"temperature":NaN', "temperature"),
        (b'"top_p":Infinity', "top_p"),
        (b'"temperature":1e999', "temperature"),
        (b'"user":"\\ud800"', "user"),
        (b'"user":"\\udc00\\ud800"', "user"),
        (b'"user":"\xed\xa0\x80"', "user"),
        (b'"user":"\xff"', "user"),
        (b'"user":"a\x00"', "user"),
        (b'"logit_bias":{"1":NaN}', "logit_bias"),
        (b'"seed":' + b"9" * 5000, "seed"),
        (b'"tools":' + b"[" * 5000 + b"]" * 5000, "tools"),
        (b'"zzz":' + b'{"a":' * 5000 + b"1" + b"}" * 5000, "zzz"),
    ],
)
def test_malformed_json_is_refused_and_the_field_named(extra: bytes, param: str) -> None:
    with pytest.raises(ParameterInvalidError) as caught:
        raw_chat(extra)
    assert (caught.value.param, caught.value.status) == (param, 400)


@pytest.mark.parametrize(
    "content", [b'"\\ud83d"', b'"\\ud83d\\ud83d"', b'"\xc3\x28"', b"NaN", b"[" * 3000 + b"]" * 3000]
)
def test_malformed_content_is_refused_and_the_field_named(content: bytes) -> None:
    with pytest.raises(ParameterInvalidError) as caught:
        parse_chat(b'{"model":"m","messages":[{"role":"user","content":' + content + b"}]}", CONFIG)
    assert "content" in str(caught.value.param) or caught.value.param == "messages"


@pytest.mark.parametrize(
    "body",
    [b"", b"{", b"null", b"[]", b'"x"', b"\xef\xbb\xbf{}", b"{}{}", b"[" * 100_000, b"\xff"],
)
def test_what_is_no_json_object_is_refused(body: bytes) -> None:
    for parse in (parse_chat, parse_completion):
        with pytest.raises(RequestInvalidError) as caught:
            parse(body, CONFIG)
        assert caught.value.status == 400


def test_anything_after_the_object_is_refused() -> None:
    whole = b'{"model":"m","messages":[{"role":"user","content":"hi"}]}'
    assert parse_chat(whole + b"\r\n ", CONFIG)
    with pytest.raises(ParameterInvalidError, match="goes on after") as caught:
        parse_chat(whole + b'{"model":"other"}', CONFIG)
    assert caught.value.param is None


@pytest.mark.parametrize(
    ("limits", "fields", "param"),
    [
        ({"max_body_bytes": 20}, {}, None),
        ({"max_text_chars": 1}, {}, "messages"),
        ({"max_messages": 1}, {"messages": [{"role": "user", "content": ""}] * 2}, "messages"),
        (
            {"max_parts": 1},
            {"messages": [{"role": "user", "content": [{"type": "text", "text": ""}] * 2}]},
            "messages[0].content",
        ),
        ({"max_logit_bias_entries": 1}, {"logit_bias": {"1": 0, "2": 0}}, "logit_bias"),
    ],
)
def test_beyond_a_limit_is_413(
    limits: dict[str, Any], fields: dict[str, object], param: str | None
) -> None:
    with pytest.raises(RequestTooLargeError) as caught:
        chat(ParseConfig(**limits), **fields)
    assert (caught.value.status, caught.value.param) == (413, param)


def test_a_completion_prompt_is_bounded_too() -> None:
    with pytest.raises(RequestTooLargeError, match="more than 5"):
        completion(ParseConfig(max_text_chars=5), prompt="too long")


BOMBS = {
    "arrays": b'{"zzz":' + b"[" * (MEBIBYTE - 10),
    "objects": b'{"zzz":' + b'{"a":' * (MEBIBYTE // 5 - 10),
    "closed": b'{"tools":' + b"[" * 500_000 + b"]" * 500_000 + b"}",
    "messages": b'{"model":"m","messages":' + b"[" * (MEBIBYTE - 100),
    "strings_first": b'{"q":[' + b'"",' * 300_000 + b"[" * 100_000,
    "many_messages": b'{"model":"m","messages":[' + b'{"role":"user"},' * 60_000 + b"1]}",
    "many_biases": b'{"logit_bias":{' + b'"1":1,' * 160_000 + b'"1":1},"model":"m","messages":[1]}',
    "many_unknown": b"{" + b'"k":1,' * 160_000 + b'"k":1}',
    "many_tools": b'{"model":"m","tools":[' + b"{}," * 300_000 + b'{}],"messages":[]}',
    "many_calls": b'{"messages":[{"role":"assistant","tool_calls":[' + b"{}," * 300_000 + b"{}]}]}",
    "long_number": b'{"seed":' + b"9" * 1_000_000 + b"}",
}


@pytest.mark.parametrize("name", BOMBS)
def test_hostile_megabyte_fails_quickly(name: str) -> None:
    body = BOMBS[name]
    assert len(body) <= MEBIBYTE

    def parse() -> None:
        with pytest.raises(RequestInvalidError):
            parse_chat(body, CONFIG)

    # The event loop must never stand still for 50 ms.
    assert least_cpu_s(parse, 0.05) < 0.05


FIELDS = (
    "model messages prompt input temperature stop n seed logit_bias stream_options tools "
    "tool_choice response_format logprobs dimensions"
)
ODD_VALUES: tuple[Any, ...] = (
    *(None, True, False, -1, 0, 1, 0.5, 1e308, 2**70, "", "x", "\x00", "\u202e", [], {}),
    *(["x"], [[]], [{}], [None], {"a": 1}, {"1": 2}, {"1": None}, [{"role": "user"}]),
    [{"role": "user", "content": []}],
    [{"role": "user", "content": [{"type": "text", "text": None}]}],
)


@given(st.dictionaries(st.sampled_from(FIELDS.split()), st.sampled_from(ODD_VALUES)))
def test_any_json_is_parsed_or_refused(fields: dict[str, Any]) -> None:
    for parse in (chat, completion, embedding):
        with suppress(RequestInvalidError):
            assert parse(**fields).texts()


@given(st.binary(max_size=60))
def test_any_bytes_are_refused(body: bytes) -> None:
    with pytest.raises(RequestInvalidError):
        parse_chat(body, CONFIG)
