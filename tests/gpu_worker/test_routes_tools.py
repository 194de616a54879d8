"""The worker's API for tools, formats, several choices and embeddings, over a scripted engine."""

from __future__ import annotations

import json
from base64 import b64decode
from struct import unpack_from

import pytest

from gpu_worker.engine import CallPiece, Message, TokenEvent
from tests.fakes.engine import FakeEngine, finish, tokens
from tests.fakes.worker_api import ASK, CHAT, STREAM, StartApi
from wire.chat import FunctionCall, ToolCall

EMBEDDINGS = "/v1/embeddings"
TOOLS = [{"type": "function", "function": {"name": "f", "parameters": {"type": "object"}}}]
USER = {"role": "user", "content": "hi"}
CALL = {"id": "c1", "type": "function", "function": {"name": "f", "arguments": '{"a":1}'}}
CALLS: list[list[TokenEvent]] = [
    [CallPiece(0, "c1", "f", "")],
    [CallPiece(0, None, None, '{"a"')],
    [CallPiece(0, None, None, ":1}"), CallPiece(1, "c2", "g", "{}")],
    [finish("tool_calls")],
]


async def test_tools_and_formats_reach_the_engine_as_they_are(start_api: StartApi) -> None:
    engine = FakeEngine()
    engine.features |= {"tools"}
    body = {
        "messages": [USER, {"role": "assistant", "tool_calls": [CALL]}],
        "tools": TOOLS,
        "tool_choice": "required",
        "parallel_tool_calls": False,
    }
    worker = await start_api(engine)
    async with worker.post(CHAT, body) as answer:
        assert answer.status == 200
    form = {"type": "json_object"}
    async with worker.post(CHAT, {"messages": [USER], "response_format": form}) as answer:
        assert answer.status == 200
    first, second = engine.asked
    assert json.loads(first.tools) == TOOLS
    assert (first.tool_choice, first.parallel_tool_calls) == ('"required"', False)
    call = ToolCall("c1", FunctionCall("f", '{"a":1}'))
    assert first.prompt[1] == Message("assistant", "", (call,))
    assert json.loads(second.response_format) == form


@pytest.mark.parametrize(
    "body",
    [
        {**ASK, "tools": TOOLS},
        {**ASK, "response_format": {"type": "json_object"}},
        {"messages": [{"role": "assistant"}]},
        {"messages": [USER], "tools": [{"x": "y" * 300_000}]},
        {**ASK, "n": 0},
        {**ASK, "n": 1_000},
    ],
)
async def test_what_cannot_be_is_refused(start_api: StartApi, body: dict[str, object]) -> None:
    async with (await start_api(FakeEngine())).post(CHAT, body) as answer:
        assert answer.status == 400


@pytest.mark.parametrize(
    "fields", [{"tools": TOOLS}, {"response_format": {"type": "json_object"}, "stream": True}]
)
async def test_what_the_engine_would_drop_is_refused(
    start_api: StartApi, fields: dict[str, object]
) -> None:
    engine = FakeEngine()
    engine.features = frozenset()
    async with (await start_api(engine)).post(CHAT, {"messages": [USER], **fields}) as answer:
        assert answer.status == 400
        assert (await answer.json())["error"]["code"] == "unsupported_parameter"
    assert engine.asked == []


async def test_calls_are_answered_whole(start_api: StartApi) -> None:
    worker = await start_api(FakeEngine(CALLS))
    async with worker.openai() as client:
        answer = await client.chat.completions.create(
            model="chat-small", messages=[{"role": "user", "content": "hi"}]
        )
    choice = answer.choices[0]
    assert choice.finish_reason == "tool_calls"
    assert choice.message.content is None
    made = [
        (call.id, call.function.name, call.function.arguments)
        for call in choice.message.tool_calls or ()
        if call.type == "function"
    ]
    assert made == [("c1", "f", '{"a":1}'), ("c2", "g", "{}")]


async def test_calls_are_streamed(start_api: StartApi) -> None:
    data = await (await start_api(FakeEngine(CALLS))).events(STREAM)
    choices = [json.loads(item)["choices"][0] for item in data[:-1]]
    deltas = [c["delta"]["tool_calls"][0] for c in choices if "tool_calls" in c["delta"]]
    assert deltas[0] == {
        "index": 0,
        "id": "c1",
        "type": "function",
        "function": {"name": "f", "arguments": ""},
    }
    assert deltas[1] == {"index": 0, "function": {"arguments": '{"a"'}}
    assert deltas[3]["index"] == 1
    assert choices[-1]["finish_reason"] == "tool_calls"
    assert data[-1] == "[DONE]"


async def test_several_choices_are_answered_whole(start_api: StartApi) -> None:
    worker = await start_api(FakeEngine())
    async with worker.post(CHAT, {**ASK, "n": 3}) as answer:
        found = await answer.json()
    assert [choice["index"] for choice in found["choices"]] == [0, 1, 2]
    assert {choice["message"]["content"] for choice in found["choices"]} == {"Hello"}
    assert found["usage"] == {"prompt_tokens": 3, "completion_tokens": 6, "total_tokens": 9}


@pytest.mark.parametrize("batches", [None, [[*tokens("Hello")[0], finish()]]])
async def test_several_choices_are_streamed(
    start_api: StartApi, batches: list[list[TokenEvent]] | None
) -> None:
    engine = FakeEngine(batches)
    body = {**STREAM, "n": 2, "stream_options": {"include_usage": True}}
    data = await (await start_api(engine)).events(body)
    *chunks, usage = [json.loads(item) for item in data[:-1]]
    texts, reasons = {0: "", 1: ""}, {}
    for chunk in chunks:
        (choice,) = chunk["choices"]
        texts[choice["index"]] += choice["delta"].get("content", "")
        if choice["finish_reason"]:
            reasons[choice["index"]] = choice["finish_reason"]
    assert texts == {0: "Hello", 1: "Hello"}
    assert reasons == {0: "stop", 1: "stop"}
    assert usage["usage"]["completion_tokens"] == 4
    assert data[-1] == "[DONE]"


async def test_embeddings_come_as_numbers_or_base64(start_api: StartApi) -> None:
    engine = FakeEngine()
    engine.vectors = [[0.5, -1.0], [0.25, 2.0]]
    worker = await start_api(engine)
    async with worker.post(EMBEDDINGS, {"input": ["ab", "c"], "model": "chat-small"}) as answer:
        found = await answer.json()
    assert [entry["embedding"] for entry in found["data"]] == engine.vectors
    assert found["usage"] == {"prompt_tokens": 3, "total_tokens": 3}
    async with worker.openai() as client:  # asks for base64 and decodes it
        decoded = await client.embeddings.create(model="chat-small", input="x")
    assert decoded.data[1].embedding == [0.25, 2.0]
    async with worker.post(EMBEDDINGS, {"input": "x", "encoding_format": "base64"}) as answer:
        text = (await answer.json())["data"][0]["embedding"]
    assert unpack_from("<2f", b64decode(text)) == (0.5, -1.0)


@pytest.mark.parametrize(
    ("body", "status"),
    [
        ({"input": []}, 400),
        ({"input": ""}, 400),
        ({"input": [[1, 2]]}, 400),
        ({"input": "x", "dimensions": 3}, 400),
        ({"input": "x", "model": "other"}, 404),
        ({"input": "x"}, 400),
    ],
)
async def test_embeddings_are_refused_clearly(
    start_api: StartApi, body: dict[str, object], status: int
) -> None:
    async with (await start_api(FakeEngine())).post(EMBEDDINGS, body) as answer:
        assert answer.status == status
        assert (await answer.json())["error"]["message"]
