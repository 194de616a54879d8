"""gpu_worker.answers: slots, departures and engines under a running API, llama.cpp among them."""

from __future__ import annotations

import asyncio
import os
import signal
from collections.abc import Awaitable, Callable
from pathlib import Path

import pytest
from openai import APIStatusError

from gpu_worker.engines.llamacpp import LlamaCpp
from gpu_worker.serving import ServingConfig
from tests.fakes.engine import FakeEngine
from tests.fakes.processes import cpu_s_until_free
from tests.fakes.scripted_gguf import SCRIPT
from tests.fakes.waiting import until
from tests.fakes.worker_api import ASK, CHAT, STREAM, StartApi, content

StartLlama = Callable[..., Awaitable[LlamaCpp]]
LONG = {"prompt_token_ids": [1], "max_tokens": 4_000, "temperature": 0, "stream": True}


async def test_a_full_queue_refuses_with_retry_after(start_api: StartApi) -> None:
    engine = FakeEngine(capacity=1)
    engine.gate.clear()
    worker = await start_api(engine, serving_config=ServingConfig(queue_requests=0))
    running = asyncio.create_task(worker.events(STREAM))
    await engine.until_open(1)
    async with worker.post(CHAT, STREAM) as answer:
        assert answer.status == 503
        assert answer.headers["Retry-After"] == "1"
        assert (await answer.json())["error"]["code"] == "queue_full"
    engine.gate.set()
    assert (await running)[-1] == "[DONE]"


@pytest.mark.parametrize("stream", [False, True])
async def test_a_client_that_leaves_before_the_first_token_frees_its_slot(
    start_api: StartApi, stream: bool
) -> None:
    engine = FakeEngine()
    engine.gate.clear()
    worker = await start_api(engine)
    asking = asyncio.create_task(worker.post(CHAT, {**ASK, "stream": stream}).__aenter__())
    await engine.until_open(1)
    asking.cancel()
    async with asyncio.timeout(30):
        await engine.until_open(0)
    assert worker.serving.load().busy == 0


async def test_the_stock_client_is_served_by_llama(
    start_api: StartApi, start_llama: StartLlama
) -> None:
    worker = await start_api(await start_llama())
    async with worker.openai() as client:
        whole = await client.chat.completions.create(
            model="chat-small",
            messages=[{"role": "user", "content": "hi"}],
            max_tokens=len(SCRIPT.encode()),
            temperature=0,
        )
        assert whole.choices[0].message.content == SCRIPT
        stream = await client.chat.completions.create(
            model="chat-small",
            messages=[{"role": "user", "content": "hi"}],
            max_tokens=len(SCRIPT.encode()),
            temperature=0,
            stream=True,
            stream_options={"include_usage": True},
        )
        chunks = [chunk async for chunk in stream]
        text = "".join(c.choices[0].delta.content or "" for c in chunks if c.choices)
        assert text == SCRIPT
        assert chunks[-1].usage == whole.usage
        with pytest.raises(APIStatusError) as caught:
            await client.completions.create(model="chat-small", prompt="x" * 9_000)
        assert (caught.value.status_code, caught.value.code) == (400, "context_length_exceeded")


async def test_token_ids_answer_as_messages_do(
    start_api: StartApi, start_llama: StartLlama
) -> None:
    worker = await start_api(await start_llama())
    options = {"max_tokens": 30, "temperature": 0, "stream": True}
    messages = [{"role": "user", "content": "hé"}]
    question = {"content": "<|user|>hé<|assistant|>", "parse_special": True}
    async with worker.post("/tokenize", question) as answer:
        ids = (await answer.json())["tokens"]
    from_messages = await worker.events({"messages": messages, **options})
    from_ids = await worker.events({"prompt_token_ids": ids, **options})
    assert content(from_ids) == content(from_messages) != ""


async def test_a_killed_engine_ends_the_stream_with_an_error_and_serves_again(
    start_api: StartApi, start_llama: StartLlama
) -> None:
    engine = await start_llama()
    worker = await start_api(engine)
    async with worker.post(CHAT, LONG) as answer:
        await answer.content.readuntil(b"delta")
        assert engine.process.pid is not None
        os.kill(engine.process.pid, signal.SIGKILL)
        rest = (await answer.read()).decode()
    assert '"code":"engine_crashed"' in rest.splitlines()[-2]
    assert "[DONE]" not in rest
    async with worker.get("/healthz", "") as answer:
        assert answer.status == 200
    await until(lambda: worker.serving.state == "ready" and engine.process.restarts >= 1)
    assert (await worker.events({**LONG, "max_tokens": 5}))[-1] == "[DONE]"


async def test_a_client_that_leaves_frees_the_slot_in_llama(
    start_api: StartApi, start_llama: StartLlama
) -> None:
    engine = await start_llama()
    worker = await start_api(engine)
    async with worker.post(CHAT, LONG) as answer:
        await answer.content.readuntil(b"delta")
        assert (await engine.slots()).busy == 1
        answer.close()
    assert await cpu_s_until_free(engine, engine.process.pid) < 1.0, "it did all of its work"


async def test_a_flip_cuts_no_running_stream(
    start_api: StartApi, start_llama: StartLlama, scripted_model: Path
) -> None:
    old, new = await start_llama(), await start_llama(revision="b" * 64)
    worker = await start_api(old)
    body = {**LONG, "max_tokens": 400}
    assert old.process.pid is not None
    os.kill(old.process.pid, signal.SIGSTOP)  # so that none of them ends before the flip
    running = [asyncio.create_task(worker.events(body)) for _ in range(2)]
    await until(lambda: worker.serving.active(old) == 2)
    assert worker.serving.flip(new) is old
    async with worker.post(CHAT, {**LONG, "max_tokens": 5}) as answer:
        assert answer.headers["x-model-digest"] == "b" * 64
    os.kill(old.process.pid, signal.SIGCONT)
    assert await worker.serving.drain(old, deadline_s=30) == 0
    await old.aclose()
    for data in await asyncio.gather(*running):
        assert data[-1] == "[DONE]"
        assert content(data).startswith(SCRIPT)
    assert worker.serving.state == "ready"


async def test_streams_beyond_the_slots_wait_and_all_are_answered(
    start_api: StartApi, start_llama: StartLlama
) -> None:
    worker = await start_api(await start_llama(slots=2))
    body = {**LONG, "max_tokens": 100}
    answers = await asyncio.gather(*(worker.events(body) for _ in range(12)))
    assert {content(data) for data in answers} == {content(answers[0])}
    assert all(data[-1] == "[DONE]" for data in answers)


async def test_ids_made_for_another_revision_are_refused_with_the_one_that_serves(
    start_api: StartApi,
) -> None:
    worker = await start_api(FakeEngine(revision="b" * 64))
    async with worker.post(CHAT, {**ASK, "revision": "a" * 64}) as answer:
        assert answer.status == 409
        assert answer.headers["x-model-digest"] == "b" * 64
        assert (await answer.json())["error"]["code"] == "revision_changed"
    async with worker.post(CHAT, {**ASK, "revision": "b" * 64}) as answer:
        assert answer.status == 200
