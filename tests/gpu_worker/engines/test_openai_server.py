"""gpu_worker.engines.openai_server against the real llama.cpp's OpenAI API, another worker, and
servers that leave."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import signal
import sys
import time
from asyncio.subprocess import PIPE
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from typing import Any

import msgspec
import pytest

from gpu_worker.engine import (
    EngineCrashedError,
    EngineHungError,
    EngineRefusedError,
    EngineStartError,
    EngineUnavailableError,
    Generation,
    Message,
    ProbeFailedError,
    Sampling,
    TokensUnsupportedError,
    collect,
)
from gpu_worker.engines import llamacpp_process
from gpu_worker.engines.exchange import ExchangeConfig, call, encode_request
from gpu_worker.engines.openai_server import OpenAIConfig, OpenAIServer
from gpu_worker.engines.supervised import ChildConfig
from gpu_worker.faults import Tally
from gpu_worker.hang import HangConfig
from tests.fakes.clock import HeldClock
from tests.fakes.engine import FakeEngine
from tests.fakes.golden import expecting
from tests.fakes.processes import cpu_seconds
from tests.fakes.scripted_gguf import SCRIPT
from tests.fakes.waiting import until, until_async
from tests.fakes.worker_api import StartApi
from wire.errors import ConfigError

Connect = Callable[..., Awaitable[OpenAIServer]]
GREEDY = Sampling(temperature=0.0)
ROUND = len(SCRIPT.encode())
USER = (Message("user", "x"),)
QUICK = HangConfig(stall_s=0.4, silent_s=0.4, health_s=0.1)


def ask(prompt: Any = USER, tokens: int = ROUND) -> Generation:
    return Generation(prompt=prompt, max_tokens=tokens, sampling=GREEDY)


@pytest.fixture
async def connect(tmp_path: Path) -> AsyncIterator[Connect]:
    engines: list[OpenAIServer] = []

    async def build(
        url: str,
        key: str,
        hang: HangConfig | None = None,
        tally: Tally | None = None,
        clock: Callable[[], float] = time.monotonic,
        **changes: Any,
    ) -> OpenAIServer:
        file = tmp_path / "key"
        file.touch(mode=0o600)
        file.write_text(key)
        given = {"url": url, "key_file": file, "served_model": "chat-small", **changes}
        engine = OpenAIServer(
            model="chat",
            revision="a" * 64,
            config=ChildConfig(hang=hang or HangConfig()),
            openai=OpenAIConfig(**given),
            tally=tally,
            clock=clock,
        )
        engines.append(engine)
        await engine.start()
        return engine

    yield build
    await asyncio.gather(*(engine.aclose() for engine in engines))


class Llama:
    """A llama.cpp that is nobody's child for the engine: its URL, its key, its process."""

    key = "k3y"

    def __init__(self, process: asyncio.subprocess.Process, url: str) -> None:
        self.url = url
        self._process = process

    async def busy(self) -> int:
        request = encode_request("GET", "/slots", key=self.key)
        _, answer = await call(self.url, request, ExchangeConfig())
        return sum(slot["is_processing"] for slot in json.loads(answer))

    async def idle(self) -> bool:
        return await self.busy() == 0

    def cpu_s(self) -> float:
        return cpu_seconds(self._process.pid)

    def send(self, number: signal.Signals) -> None:
        self._process.send_signal(number)


StartServer = Callable[..., Awaitable[Llama]]


@pytest.fixture
async def start_server(scripted_model: Path) -> AsyncIterator[StartServer]:
    processes: list[asyncio.subprocess.Process] = []

    async def start(*, embeddings: bool = False) -> Llama:
        program = (sys.executable, "-P", llamacpp_process.__file__)
        process = await asyncio.create_subprocess_exec(*program, stdin=PIPE, stdout=PIPE)
        processes.append(process)
        assert process.stdin is not None
        assert process.stdout is not None
        settings = llamacpp_process.Settings(
            model_path=str(scripted_model),
            model_alias="chat-small",
            key=Llama.key,
            parent_pid=os.getpid(),
            slots=2,
            context_tokens=4_096,
            threads=1,
            gpu_layers=0,
            batch_tokens=512,
            prompt_cache_mib=0,
            cache_prompt=True,
            warmup=False,
            embeddings=embeddings,
            verbosity=0,
        )
        process.stdin.write(msgspec.json.encode(settings) + b"\n")
        return Llama(process, json.loads(await process.stdout.readline())["address"])

    yield start
    for process in processes:
        with contextlib.suppress(ProcessLookupError):
            process.kill()
        await process.communicate()


async def over(llama: Llama, connect: Connect, **changes: Any) -> OpenAIServer:
    return await connect(**{"url": llama.url, "key": llama.key, **changes})


async def test_it_answers_messages_and_text(start_server: StartServer, connect: Connect) -> None:
    engine = await over(await start_server(), connect, features=("logprobs", "tools"))
    assert engine.features == {"logprobs", "tools", "messages_only"}
    assert (await engine.probe()).text.startswith(SCRIPT[:4])
    assert (await engine.probe(expecting())).verdict is not None
    with pytest.raises(ProbeFailedError, match="1 of 1 texts differ"):
        await engine.probe(expecting("holo"))
    for prompt in (USER, "plain text"):
        text, finish = await collect(engine.stream(ask(prompt)))
        assert (text, finish.reason, finish.completion_tokens) == (SCRIPT, "length", ROUND)
        assert finish.prompt_tokens > 0
    assert (await engine.slots()).busy == 0


async def test_ids_are_refused_by_name(start_server: StartServer, connect: Connect) -> None:
    engine = await over(await start_server(), connect)
    with pytest.raises(TokensUnsupportedError):
        await collect(engine.stream(ask((1, 2))))
    with pytest.raises(TokensUnsupportedError):
        await engine.tokenize("x")
    with pytest.raises(EngineRefusedError, match=r"engine\.openai\.features"):
        await engine.embed(("x",))


async def test_it_gives_embeddings_where_the_server_does(
    start_server: StartServer, connect: Connect
) -> None:
    engine = await over(await start_server(embeddings=True), connect, features=("embeddings",))
    assert len((await engine.embed(("one", "two"))).vectors) == 2


async def test_an_abort_frees_the_servers_slot_at_once(
    start_server: StartServer, connect: Connect
) -> None:
    llama = await start_server()
    engine = await over(llama, connect)
    stream = engine.stream(ask(tokens=4_000))
    await anext(stream)
    assert ((await engine.slots()).busy, await llama.busy()) == (1, 1)
    await stream.aclose()
    began_s = llama.cpu_s()
    await until_async(llama.idle)
    assert llama.cpu_s() - began_s < 1.0, "it did all of its work"
    assert (await engine.slots()).busy == 0


async def test_a_server_that_freezes_is_given_up_until_it_answers_again(
    start_server: StartServer, connect: Connect
) -> None:
    llama, clock = await start_server(), HeldClock()
    engine = await over(llama, connect, hang=QUICK, clock=clock)
    stream = engine.stream(ask(tokens=4_000))
    await anext(stream)
    llama.send(signal.SIGSTOP)
    clock.run()
    with pytest.raises(EngineHungError):
        async for _ in stream:
            pass
    assert (engine.ready, engine.fault, engine.base_url) == (False, "hung", "")
    with pytest.raises(EngineUnavailableError) as caught:
        await collect(engine.stream(ask()))
    assert caught.value.headers == {"Retry-After": "1"}
    llama.send(signal.SIGCONT)
    await until(lambda: engine.ready)
    clock.hold()
    assert (await collect(engine.stream(ask())))[0] == SCRIPT


async def test_a_server_that_dies_is_named(start_server: StartServer, connect: Connect) -> None:
    llama, tally, clock = await start_server(), Tally(), HeldClock()
    engine = await over(llama, connect, hang=QUICK, tally=tally, clock=clock)
    stream = engine.stream(ask(tokens=4_000))
    await anext(stream)
    llama.send(signal.SIGKILL)
    with pytest.raises(EngineCrashedError, match="gone"):
        async for _ in stream:
            pass
    assert engine.fault == "crashed"
    assert not engine.dead.done()
    # However often it is looked for while it is away.
    clock.run()
    await until(lambda: engine.fault == "hung")
    assert tally.endings == {"crashed": 1}


async def test_another_worker_is_such_a_server(start_api: StartApi, connect: Connect) -> None:
    fake = FakeEngine()
    api = await start_api(fake)
    engine = await connect(str(api.server.make_url("/")).rstrip("/"), "t0ken")
    text, finish = await collect(engine.stream(ask()))
    assert (text, finish.reason, finish.prompt_tokens) == ("Hello", "stop", 3)
    assert fake.asked[0].prompt == (Message("user", "x"),)
    fake.gate.clear()
    fake.held_from = 1
    stream = engine.stream(ask())
    await anext(stream)
    await stream.aclose()
    await asyncio.wait_for(fake.until_open(0), 30)


@pytest.mark.parametrize(
    ("changes", "fault", "hint"),
    [
        ({"served_model": "other"}, "bad_file", "no model other; it has chat-small"),
        ({"url": "http://127.0.0.1:9", "start_timeout_s": 0.05}, "crashed", "engine.openai.url"),
    ],
)
async def test_a_server_or_model_that_is_not_there_is_a_clear_error(
    start_server: StartServer, connect: Connect, changes: dict[str, Any], fault: str, hint: str
) -> None:
    llama = await start_server()
    with pytest.raises(EngineStartError, match=hint) as caught:
        await over(llama, connect, **changes)
    assert caught.value.fault == fault


@pytest.mark.parametrize("url", ["", "localhost:11434", "file:///x", "http://"])
def test_what_is_no_url_is_a_configuration_error(url: str) -> None:
    with pytest.raises(ConfigError, match=r"engine\.openai\.url"):
        OpenAIConfig(url=url)


async def test_closing_ends_what_runs(start_server: StartServer, connect: Connect) -> None:
    llama = await start_server()
    engine = await over(llama, connect)
    stream = engine.stream(ask(tokens=4_000))
    await anext(stream)
    await engine.aclose()
    await engine.aclose()
    await until_async(llama.idle)
    assert await engine.dead == "closed"
