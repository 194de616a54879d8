"""What backends are asked: nothing but what the parser took, and only what they can do."""

from __future__ import annotations

import json
from typing import Any

import msgspec
import pytest

from edge_tier.gateway.bodies import by_ids, by_text, required_features, unsupported
from edge_tier.gateway.request import Message, Prompt, Sampling, ToolCall

USER = Message("user", "hi")
TOOLS = '[{"type":"function","function":{"name":"f","parameters":{}}}]'
FORMAT = '{"type":"json_object"}'


def chat(*turns: Message, **fields: Any) -> Prompt:
    return Prompt(kind="chat", model="auto", messages=turns or (USER,), **fields)


def encoded(body: dict[str, Any]) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(msgspec.json.encode(body))
    return found


@pytest.mark.parametrize(
    ("prompt", "features"),
    [
        (chat(), set()),
        (Prompt(kind="completion", model="m", text="x"), set()),
        (chat(n=2), {"n"}),
        (chat(sampling=Sampling(logprobs=True)), {"logprobs"}),
        (chat(n=2, sampling=Sampling(logprobs=True)), {"n", "logprobs"}),
        (chat(tools=TOOLS), {"tools"}),
        (chat(tools=TOOLS, n=3), {"tools", "n"}),
        (chat(response_format=FORMAT), {"json_schema"}),
        (chat(tools=TOOLS, tool_choice='"none"', response_format=FORMAT), {"tools", "json_schema"}),
        (
            chat(tools=TOOLS, response_format=FORMAT),
            {"tools", "json_schema", "tools_with_json_schema"},
        ),
        (chat(USER, Message("tool", "42", (), "c1")), {"tools"}),
        (chat(Message("assistant", "", (ToolCall("c", "f", "{}"),))), {"tools"}),
        (Prompt(kind="embedding", model="m", inputs=("x",)), {"embeddings"}),
        (
            Prompt(kind="embedding", model="m", inputs=("x",), dimensions=8),
            {"embeddings", "dimensions"},
        ),
    ],
)
def test_what_a_request_needs(prompt: Prompt, features: set[str]) -> None:
    assert required_features(prompt) == features


@pytest.mark.parametrize(
    ("missing", "param"),
    [
        ({"tools"}, "tools"),
        ({"json_schema"}, "response_format"),
        ({"tools_with_json_schema"}, "response_format"),
        ({"n"}, "n"),
        ({"logprobs", "n"}, "n"),
        ({"embeddings"}, "input"),
        ({"dimensions"}, "dimensions"),
    ],
)
def test_a_refusal_names_the_parameter(missing: set[str], param: str) -> None:
    error = unsupported("chat-small", frozenset(missing))
    assert (error.status, error.code, error.param) == (400, "unsupported_parameter", param)
    assert "chat-small" in error.message


def test_ids_are_sent_with_their_revision() -> None:
    prompt = chat(n=2, stream=True, sampling=Sampling(seed=1), user="u")
    body = by_ids(prompt, "m", (1, 2), max_tokens=5, revision="r", logprobs_first=8)
    assert encoded(body) == {
        "model": "m",
        "prompt_token_ids": [1, 2],
        "revision": "r",
        "logprobs_first": 8,
        "max_tokens": 5,
        "n": 2,
        "seed": 1,
        "stream": True,
        "stream_options": {"include_usage": True},
    }


def test_a_completion_is_asked_in_the_older_way() -> None:
    sampling = Sampling(logprobs=True, top_logprobs=3)
    prompt = Prompt(kind="completion", model="m", text="x", sampling=sampling)
    by_id = by_ids(prompt, "m", (1,), max_tokens=5, revision="r")
    assert (by_id["prompt"], by_id["logprobs"]) == ((1,), 3)
    as_text = encoded(by_text(prompt, "m", max_tokens=5))
    assert as_text == {
        "model": "m",
        "prompt": "x",
        "logprobs": 3,
        "max_tokens": 5,
        "stream": False,
    }


def test_tools_calls_and_formats_are_sent_as_they_were_checked() -> None:
    prompt = chat(
        USER,
        Message("assistant", "", (ToolCall("c1", "f", '{"a":1}'),)),
        Message("tool", "42", (), "c1"),
        tools=TOOLS,
        tool_choice='"none"',
        parallel_tool_calls=False,
        response_format=FORMAT,
    )
    assert encoded(by_text(prompt, "m", max_tokens=5)) == {
        "model": "m",
        "max_tokens": 5,
        "stream": False,
        "messages": [
            {"role": "user", "content": "hi"},
            {
                "role": "assistant",
                "content": "",
                "tool_calls": [
                    {
                        "id": "c1",
                        "type": "function",
                        "function": {"name": "f", "arguments": '{"a":1}'},
                    }
                ],
            },
            {"role": "tool", "content": "42", "tool_call_id": "c1"},
        ],
        "tools": json.loads(TOOLS),
        "tool_choice": "none",
        "parallel_tool_calls": False,
        "response_format": {"type": "json_object"},
    }


def test_texts_to_embed_are_sent_as_text() -> None:
    prompt = Prompt(kind="embedding", model="auto", inputs=("a", "b"), user="u")
    body = encoded(by_text(prompt, "m", max_tokens=0))
    assert body == {"model": "m", "input": ["a", "b"], "encoding_format": "float"}
    sized = msgspec.structs.replace(prompt, dimensions=3, encoding_format="base64")
    body = encoded(by_text(sized, "m", max_tokens=0))
    assert (body["dimensions"], body["encoding_format"]) == (3, "base64")
