"""gpu_worker.streaming: how an answer begins and ends, over real HTTP."""

from __future__ import annotations

import json
from typing import Any

import pytest

from gpu_worker.answers import AnswersConfig
from gpu_worker.engine import (
    ContextLengthError,
    EngineBrokenError,
    EngineUnavailableError,
    Token,
    TokenEvent,
)
from gpu_worker.routes import RoutesConfig
from tests.fakes.engine import FakeEngine, finish, tokens
from tests.fakes.worker_api import ASK, CHAT, STREAM, StartApi, content
from wire.sse import SSEDecoder


async def test_a_stream_begins_with_a_role_and_ends_with_done(start_api: StartApi) -> None:
    worker = await start_api(FakeEngine())
    data = await worker.events(STREAM)
    chunks = [json.loads(item) for item in data[:-1]]
    assert data[-1] == "[DONE]"
    assert chunks[0]["choices"][0]["delta"] == {"role": "assistant", "content": ""}
    assert content(data) == "Hello"
    assert chunks[-1]["choices"][0]["finish_reason"] == "stop"
    assert len({chunk["id"] for chunk in chunks}) == 1
    assert not any("usage" in chunk for chunk in chunks)


async def test_usage_comes_when_it_is_asked_for(start_api: StartApi) -> None:
    worker = await start_api(FakeEngine())
    data = await worker.events({**STREAM, "stream_options": {"include_usage": True}})
    last = json.loads(data[-2])
    assert last["choices"] == []
    assert last["usage"] == {"prompt_tokens": 3, "completion_tokens": 2, "total_tokens": 5}


async def test_tokens_that_come_together_are_written_together(start_api: StartApi) -> None:
    engine = FakeEngine([[Token("a"), Token("b")], [Token("c"), finish()]])
    data = await (await start_api(engine)).events(STREAM)
    assert content(data) == "abc"
    assert data[-1] == "[DONE]"


async def test_an_answer_of_no_tokens_is_whole(start_api: StartApi) -> None:
    worker = await start_api(FakeEngine([[finish("length", completion=0)]]))
    data = await worker.events(STREAM)
    assert content(data) == ""
    assert data[-1] == "[DONE]"


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize(
    ("refusal", "status", "code"),
    [
        (ContextLengthError("5000 > 2048"), 400, "context_length_exceeded"),
        (EngineUnavailableError("restarting"), 503, "engine_unavailable"),
        (EngineBrokenError("crashed"), 502, "engine_broken"),
    ],
)
async def test_an_engine_that_refuses_gives_a_plain_error(
    start_api: StartApi, stream: bool, refusal: Any, status: int, code: str
) -> None:
    engine = FakeEngine()
    engine.refusal = refusal
    async with (await start_api(engine)).post(CHAT, {**ASK, "stream": stream}) as answer:
        assert answer.status == status
        assert (await answer.json())["error"]["code"] == code
    assert engine.open == 0


async def test_an_engine_that_breaks_gives_an_error_event_and_no_done(start_api: StartApi) -> None:
    engine = FakeEngine(tokens("Hel", "lo"))
    engine.breaks_with = EngineBrokenError("the engine died")
    worker = await start_api(engine)
    data = await worker.events({**STREAM, "stream_options": {"include_usage": True}})
    assert content(data[:-1]) == "Hello"
    assert json.loads(data[-1])["error"]["code"] == "engine_broken"
    assert "[DONE]" not in data
    assert engine.open == worker.serving.load().busy == 0


async def test_half_an_answer_is_no_answer(start_api: StartApi) -> None:
    engine = FakeEngine(tokens("Hel"))
    async with (await start_api(engine)).post(CHAT, ASK) as answer:
        assert answer.status == 502
        assert "Hel" not in await answer.text()


@pytest.mark.parametrize("batches", [tokens("Hel"), []], ids=["cut", "empty"])
async def test_a_stream_that_ends_without_a_finish_is_not_done(
    start_api: StartApi, batches: list[list[TokenEvent]]
) -> None:
    async with (await start_api(FakeEngine(batches))).post(CHAT, STREAM) as answer:
        text = await answer.text()
    assert answer.status == (200 if batches else 502)
    assert '"engine_broken"' in text
    assert "[DONE]" not in text


async def test_the_connection_is_kept_alive_while_the_first_token_is_awaited(
    start_api: StartApi,
) -> None:
    engine = FakeEngine()
    engine.gate.clear()
    config = RoutesConfig(answers=AnswersConfig(ping_interval_s=0.02))
    worker = await start_api(engine, routes=config)
    async with worker.post(CHAT, STREAM) as answer:
        assert answer.status == 200
        assert await answer.content.readuntil(b"\n\n") == b": ping\n\n"
        assert await answer.content.readuntil(b"\n\n") == b": ping\n\n"
        engine.gate.set()
        data = [event.data for event in SSEDecoder().feed(await answer.read())]
    assert content(data) == "Hello"
    assert data[-1] == "[DONE]"


async def test_a_refusal_after_a_keep_alive_is_an_event(start_api: StartApi) -> None:
    engine = FakeEngine([])
    engine.breaks_with = EngineUnavailableError("it died while it read the prompt")
    engine.gate.clear()
    config = RoutesConfig(answers=AnswersConfig(ping_interval_s=0.01))
    async with (await start_api(engine, routes=config)).post(CHAT, STREAM) as answer:
        await answer.content.readuntil(b"\n\n")
        engine.gate.set()
        rest = SSEDecoder().feed(await answer.read())
    assert json.loads(rest[-1].data)["error"]["code"] == "engine_unavailable"
