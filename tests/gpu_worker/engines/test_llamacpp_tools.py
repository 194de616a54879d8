"""Tools, structured output and embeddings with the real llama.cpp."""

from __future__ import annotations

import json
import math
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest

from gpu_worker.engine import (
    CallPiece,
    ContextLengthError,
    EngineRefusedError,
    Finish,
    Generation,
    Message,
    Sampling,
    Token,
    TokenEvent,
)
from gpu_worker.engines.llamacpp import LlamaCpp
from tests.fakes.scripted_gguf import write_scripted_gguf
from tests.fakes.tiny_gguf import write_tiny_gguf
from tests.fakes.tool_template import CALL_MARK, TOOL_TEMPLATE
from wire.chat import FunctionCall, ToolCall

StartLlama = Callable[..., Awaitable[LlamaCpp]]
SCHEMA = {
    "type": "object",
    "properties": {"city": {"enum": ["Oslo", "Rome"]}, "days": {"type": "boolean"}},
    "required": ["city", "days"],
    "additionalProperties": False,
}
TOOLS = [
    {"type": "function", "function": {"name": name, "parameters": SCHEMA}}
    for name in ("weather", "news")
]
NAMED = '{"type":"function","function":{"name":"news"}}'
FORMAT = {"type": "json_schema", "json_schema": {"name": "x", "schema": SCHEMA}}


def asking(content: str = "hi", **fields: Any) -> Generation:
    sampling = Sampling(temperature=0.0)
    prompt = (Message("user", content),)
    return Generation(prompt=prompt, max_tokens=200, sampling=sampling, **fields)


async def events_of(engine: LlamaCpp, request: Generation) -> tuple[list[TokenEvent], Finish]:
    stream = engine.stream(request)
    try:
        *events, last = [event async for batch in stream for event in batch]
    finally:
        await stream.aclose()
    assert isinstance(last, Finish)
    return events, last


def calls_in(events: list[TokenEvent]) -> dict[int, tuple[str, str]]:
    """Name and arguments of every call."""
    calls: dict[int, tuple[str, str]] = {}
    for event in events:
        if isinstance(event, CallPiece):
            name, arguments = calls.get(event.index, (event.name or "", ""))
            calls[event.index] = (name, arguments + event.arguments)
    return calls


def assert_fits_schema(text: str) -> None:
    found = json.loads(text)
    assert found.keys() == {"city", "days"}
    assert found["city"] in {"Oslo", "Rome"}
    assert isinstance(found["days"], bool)


def calling(folder: Path, *, ends: bool) -> Path:
    return write_scripted_gguf(folder / "c.gguf", CALL_MARK, template=TOOL_TEMPLATE, ends=ends)


@pytest.fixture
async def caller(start_llama: StartLlama, tmp_path: Path) -> LlamaCpp:
    """A model that begins every answer with a call, and whose template knows tools."""
    return await start_llama(calling(tmp_path, ends=True))


async def test_only_a_template_that_shows_tools_makes_the_feature(
    caller: LlamaCpp, start_llama: StartLlama
) -> None:
    assert caller.features == {"logprobs", "token_ids", "json_schema", "tools"}
    assert (await start_llama()).features == {"logprobs", "token_ids", "json_schema"}


async def test_a_schema_is_kept_even_by_random_weights(
    start_llama: StartLlama, tmp_path: Path
) -> None:
    engine = await start_llama(write_tiny_gguf(tmp_path / "tiny.gguf"))
    events, last = await events_of(engine, asking(response_format=json.dumps(FORMAT)))
    assert last.reason == "stop"
    assert_fits_schema("".join(event.text for event in events if isinstance(event, Token)))


async def test_a_call_is_made_and_ends_the_answer(caller: LlamaCpp) -> None:
    events, last = await events_of(
        caller,
        asking(tools=json.dumps(TOOLS), tool_choice='"required"'),
    )
    ((name, arguments),) = calls_in(events).values()
    assert name in {"weather", "news"}
    assert_fits_schema(arguments)
    assert last.reason == "tool_calls"
    first = next(event for event in events if isinstance(event, CallPiece))
    assert first.id


@pytest.mark.parametrize(("parallel", "some"), [(None, 3), (False, 1)])
async def test_calls_come_one_at_a_time_where_that_is_asked_for(
    start_llama: StartLlama, tmp_path: Path, parallel: bool | None, some: int
) -> None:
    """By a model that would call without end."""
    engine = await start_llama(calling(tmp_path, ends=False))
    request = asking(tools=json.dumps(TOOLS), parallel_tool_calls=parallel)
    events, _ = await events_of(engine, request)
    calls = calls_in(events)
    assert len(calls) >= some if parallel is None else len(calls) == some
    assert_fits_schema(calls[0][1])


@pytest.mark.parametrize(
    ("tools", "choice", "name"), [(TOOLS, NAMED, "news"), (TOOLS[:1], '"required"', "weather")]
)
async def test_the_function_that_must_be_called_is_called(
    start_llama: StartLlama, tmp_path: Path, tools: list[Any], choice: str, name: str
) -> None:
    """By a model that would never call anything of itself."""
    engine = await start_llama(write_tiny_gguf(tmp_path / "t.gguf", chat_template=TOOL_TEMPLATE))
    events, last = await events_of(engine, asking(tools=json.dumps(tools), tool_choice=choice))
    assert [event for event in events if not isinstance(event, CallPiece)] == []
    ((called, arguments),) = calls_in(events).values()
    assert called == name
    assert_fits_schema(arguments)
    assert last.reason == "tool_calls"


async def test_no_tool_is_called_where_none_is_allowed(caller: LlamaCpp) -> None:
    events, _ = await events_of(caller, asking(tools=json.dumps(TOOLS), tool_choice='"none"'))
    assert calls_in(events) == {}


async def test_calls_and_their_answers_are_rendered(caller: LlamaCpp) -> None:
    call = ToolCall("c1", FunctionCall("news", '{"city": "Oslo", "days": true}'))
    turns = (
        Message("user", "hi"),
        Message("assistant", "", (call,)),
        Message("tool", "rain", (), "c1"),
    )
    sampling = Sampling(temperature=0.0)
    _, whole = await events_of(caller, Generation(prompt=turns, max_tokens=2, sampling=sampling))
    _, less = await events_of(caller, Generation(prompt=turns[:1], max_tokens=2, sampling=sampling))
    assert whole.prompt_tokens > less.prompt_tokens + len('"arguments": {"city": "Oslo"')


@pytest.mark.parametrize(
    "fields",
    [
        {"tools": json.dumps(TOOLS), "response_format": json.dumps(FORMAT)},
        {"tools": json.dumps(TOOLS), "tool_choice": NAMED.replace("news", "other")},
        {"tools": "[{}]"},
        {"tools": json.dumps(TOOLS), "tool_choice": '{"type":"function"}'},
    ],
)
async def test_what_makes_no_sense_is_refused(
    start_llama: StartLlama, fields: dict[str, str]
) -> None:
    engine = await start_llama()
    with pytest.raises(EngineRefusedError):
        await events_of(engine, asking(**fields))


async def test_embeddings_are_unit_vectors_and_answers_go_on(
    start_llama: StartLlama, tmp_path: Path
) -> None:
    engine = await start_llama(write_tiny_gguf(tmp_path / "t.gguf"), embeddings=True)
    assert "embeddings" in engine.features
    found = await engine.embed(("good day", "a<|im_end|>b", "good day"))
    assert found.vectors[0] == pytest.approx(found.vectors[2], abs=1e-4)
    assert found.vectors[0] != pytest.approx(found.vectors[1], abs=1e-2)
    assert all(math.hypot(*vector) == pytest.approx(1, abs=1e-3) for vector in found.vectors)
    as_text = await engine.tokenize("a<|im_end|>b", add_special=True)
    alone = await engine.embed(("a<|im_end|>b",))
    assert alone.prompt_tokens == len(as_text)
    _, last = await events_of(engine, asking())
    assert last.completion_tokens > 0


async def test_embeddings_are_refused_where_there_are_none(start_llama: StartLlama) -> None:
    engine = await start_llama()
    with pytest.raises(EngineRefusedError, match="no embeddings"):
        await engine.embed(("x",))


async def test_a_text_too_long_to_embed_is_refused(start_llama: StartLlama) -> None:
    engine = await start_llama(embeddings=True)
    with pytest.raises(ContextLengthError, match="at most 512"):
        await engine.embed(("x" * 600,))
