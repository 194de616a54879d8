"""gpu_worker.routes over real HTTP, before an engine that answers from memory."""

from __future__ import annotations

import asyncio
import json
from typing import Any

import pytest

from gpu_worker.engine import (
    ContextLengthError,
    Message,
    Sampling,
    Token,
)
from gpu_worker.routes import RoutesConfig
from tests.fakes.engine import FakeEngine, finish
from tests.fakes.worker_api import ASK, CHAT, STREAM, StartApi, content
from wire.chat import TokenLogprob


async def test_a_chat_is_answered_as_one_json(start_api: StartApi) -> None:
    worker = await start_api(FakeEngine())
    async with worker.post(CHAT, ASK) as answer:
        body = await answer.json()
    assert body["object"] == "chat.completion"
    assert body["choices"][0]["message"] == {
        "role": "assistant",
        "content": "Hello",
        "refusal": None,
    }
    assert body["choices"][0]["finish_reason"] == "stop"
    assert body["usage"] == {"prompt_tokens": 3, "completion_tokens": 2, "total_tokens": 5}
    assert (body["model"], body["created"]) == ("chat-small", 1_700_000_000)


async def test_a_completion_streams_text(start_api: StartApi) -> None:
    worker = await start_api(FakeEngine())
    body = {"model": "chat-small", "prompt": "Once", "stream": True}
    data = await worker.events(body, "/v1/completions")
    assert content(data) == "Hello"
    assert json.loads(data[0])["object"] == "text_completion"
    async with worker.post("/v1/completions", {"prompt": [1, 2]}) as answer:
        assert (await answer.json())["choices"][0]["text"] == "Hello"


async def test_log_probabilities_reach_the_client(start_api: StartApi) -> None:
    logprobs = [TokenLogprob("Hi", -0.25, [72, 105])]
    worker = await start_api(FakeEngine([[Token("Hi", logprobs)], [finish()]]))
    data = await worker.events({**STREAM, "logprobs": True, "top_logprobs": 1})
    entry = json.loads(data[1])["choices"][0]["logprobs"]["content"][0]
    assert (entry["token"], entry["logprob"], entry["bytes"]) == ("Hi", -0.25, [72, 105])


async def test_every_answer_names_worker_and_revision(start_api: StartApi) -> None:
    worker = await start_api(FakeEngine(revision="b" * 64))
    for request in (
        worker.post(CHAT, ASK),
        worker.post(CHAT, STREAM),
        worker.post(CHAT, {}),
        worker.post("/tokenize", {"content": "x"}),
        worker.get("/v1/models"),
        worker.get("/healthz"),
        worker.get("/nowhere"),
    ):
        async with request as answer:
            assert answer.headers["x-headwater-worker"] == "gpu-7"
            assert answer.headers["x-model-digest"] == "b" * 64
            assert answer.headers["Cache-Control"] == "no-store"


async def test_models_and_tokenize(start_api: StartApi) -> None:
    worker = await start_api(FakeEngine())
    async with worker.get("/v1/models") as answer:
        assert [card["id"] for card in (await answer.json())["data"]] == ["chat-small"]
    async with worker.post("/tokenize", {"content": "ab", "add_special": True}) as answer:
        assert await answer.json() == {"tokens": [0, 97, 98]}


async def test_only_allow_listed_fields_reach_the_engine(start_api: StartApi) -> None:
    engine = FakeEngine()
    sampling = {
        "temperature": 0.5,
        "top_p": 0.9,
        "seed": -1,
        "stop": "END",
        "logit_bias": {"5": -9},
    }
    hostile = {"slot_id": 0, "n_discard": -1, "lora": [{"id": 0}], "grammar": "x"}
    body = {**ASK, **sampling, **hostile, "max_tokens": 7, "logprobs": True, "top_logprobs": 3}
    async with (await start_api(engine)).post(CHAT, body) as answer:
        assert answer.status == 200
    (asked,) = engine.asked
    assert (asked.prompt, asked.max_tokens) == ((1, 2, 3), 7)
    assert asked.sampling == Sampling(
        temperature=0.5,
        top_p=0.9,
        seed=2**32 - 1,
        stop=("END",),
        logit_bias=((5, -9.0),),
        logprobs=True,
        top_logprobs=3,
    )


async def test_messages_reach_the_engine_as_messages(start_api: StartApi) -> None:
    engine = FakeEngine()
    messages = [{"role": "system", "content": "Be brief."}, {"role": "user", "content": "Hi"}]
    async with (await start_api(engine)).post(CHAT, {"messages": messages, "stop": ["a", "b"]}):
        pass
    assert engine.asked[0].prompt == (Message("system", "Be brief."), Message("user", "Hi"))
    assert engine.asked[0].sampling.stop == ("a", "b")


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"nonsense",
        b"[" * 1_000_000,
        b'{"prompt_token_ids": [1], "temperature": NaN}',
        b'{"messages": [{"role": "user", "content": "\\ud800"}]}',
        {},
        {"messages": []},
        {"prompt_token_ids": []},
        {"prompt_token_ids": [-1]},
        {"prompt_token_ids": ["1"]},
        {**ASK, "messages": [{"role": "user", "content": "x"}]},
        {**ASK, "temperature": 3},
        {**ASK, "max_tokens": 0},
        {**ASK, "top_logprobs": 1},
        {**ASK, "logprobs": True, "top_logprobs": 21},
        {**ASK, "logit_bias": {"five": 1}},
        {**ASK, "stop": ["x"] * 17},
        {"messages": [{"role": "root", "content": "x"}]},
    ],
    ids=lambda body: repr(body)[:40],
)
async def test_a_request_that_does_not_fit_is_refused_in_the_clients_own_terms(
    start_api: StartApi, body: Any
) -> None:
    engine = FakeEngine()
    async with (await start_api(engine)).post(CHAT, body) as answer:
        error = (await answer.json())["error"]
    assert answer.status == 400
    assert (error["type"], error["code"]) == ("invalid_request_error", "request_invalid")
    assert engine.asked == []


async def test_a_body_over_the_limit_is_refused(start_api: StartApi) -> None:
    worker = await start_api(FakeEngine(), routes=RoutesConfig(body_bytes=1_000))
    async with worker.post(CHAT, b"x" * 5_000) as answer:
        assert answer.status == 413
        assert (await answer.json())["error"]["code"] == "too_large"


async def test_a_body_that_never_arrives_is_given_up(start_api: StartApi) -> None:
    worker = await start_api(FakeEngine(), routes=RoutesConfig(body_timeout_s=0.05))
    url = worker.server.make_url(CHAT)
    reader, writer = await asyncio.open_connection(url.host, url.port)
    writer.write(
        b"POST /v1/chat/completions HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer t0ken\r\n"
        b"Content-Length: 100\r\n\r\n{"
    )
    assert b" 400 " in await reader.readline()
    writer.close()


async def test_another_model_is_not_found(start_api: StartApi) -> None:
    worker = await start_api(FakeEngine())
    async with worker.post(CHAT, {**ASK, "model": "gpt-9"}) as answer:
        assert answer.status == 404
        assert "chat-small" in (await answer.json())["error"]["message"]


@pytest.mark.parametrize("path", [CHAT, "/v1/completions", "/tokenize"])
@pytest.mark.parametrize("token", ["", "wrong", "t0ke", "t0ken2", "é"])
async def test_without_a_token_of_ours_nothing_is_done(
    start_api: StartApi, path: str, token: str
) -> None:
    engine = FakeEngine()
    async with (await start_api(engine)).post(path, ASK, token) as answer:
        assert answer.status == 401
        assert answer.headers["WWW-Authenticate"] == "Bearer"
        assert token == "" or token not in await answer.text()
    assert engine.asked == []


async def test_a_second_token_is_accepted_during_a_rotation(start_api: StartApi) -> None:
    worker = await start_api(FakeEngine())
    async with worker.get("/v1/models", "next-token") as answer:
        assert answer.status == 200
    async with worker.get("/v1/models", "stale") as answer:
        assert answer.status == 401


async def test_a_worker_without_an_engine_is_alive_but_not_ready(start_api: StartApi) -> None:
    worker = await start_api(None)
    async with worker.get("/healthz", "") as answer:
        assert answer.status == 200
    for request in (worker.get("/readyz", ""), worker.get("/v1/models"), worker.post(CHAT, ASK)):
        async with request as answer:
            assert answer.status == 503
    worker.serving.flip(FakeEngine())
    async with worker.get("/readyz", "") as answer:
        assert answer.status == 200


async def test_metrics_count_answers_and_tokens(start_api: StartApi) -> None:
    engine = FakeEngine()
    worker = await start_api(engine)
    await worker.events(STREAM)
    engine.refusal = ContextLengthError("too long")
    async with worker.post(CHAT, ASK):
        pass
    async with worker.get("/metrics", "") as answer:
        text = await answer.text()
    for line in (
        'headwater_worker_requests_total{outcome="done"} 1.0',
        'headwater_worker_requests_total{outcome="context_length_exceeded"} 1.0',
        'headwater_worker_tokens_total{kind="completion"} 2.0',
        "headwater_worker_slots 4.0",
        "headwater_worker_busy 0.0",
        "headwater_worker_first_token_seconds_count 1.0",
    ):
        assert line in text
