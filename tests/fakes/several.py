"""A worker with two small models, ``a`` and ``b``, and a client of it."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from io import BytesIO
from typing import Any

import aiohttp
from aiohttp.test_utils import TestServer
from yarl import URL

from gpu_worker.config import ModelConfig, WorkerConfig
from gpu_worker.fit_needs import FitConfig
from gpu_worker.judge import Judge, ask_of, hardware_for
from gpu_worker.worker import Worker
from tests.fakes.rolling import RollingEngine, model
from tests.fakes.waiting import until
from tests.fakes.worker_api import CHAT
from tests.fakes.yard import Yard, a_yard
from wire.gguf import read_gguf

A1, A2, B1, B2 = model(1, "a"), model(2, "a"), model(1, "b"), model(2, "b")
TOKEN = {"Authorization": "Bearer t0ken"}


def needs_bytes(gguf: bytes, config: WorkerConfig) -> int:
    """What an engine of this model takes, as boot reckons it."""
    judge = Judge(hardware=hardware_for(config.fit), ask=ask_of(config.engine), config=config.fit)
    row = judge.row("", [read_gguf(BytesIO(gguf), len(gguf))])
    return row.gpu_bytes or row.ram_bytes


FIT = FitConfig(hardware="h100")
ENGINE_BYTES = needs_bytes(A1.files["model.gguf"], WorkerConfig(fit=FIT))
ONE_MODEL, TWO_MODELS = int(1.5 * ENGINE_BYTES), int(2.5 * ENGINE_BYTES)
"""Budgets that hold so many engines, and no more; the fit leaves a share of them free."""
BOTH = (ModelConfig(model="a"), ModelConfig(model="b"))


@asynccontextmanager
async def two_models() -> AsyncIterator[Yard]:
    """A yard whose edge has both models, and memory for one of them."""
    async with a_yard() as made:
        made.config = replace(
            made.config,
            name="gpu-1",
            models=BOTH,
            fit=FIT,
            memory_budget_bytes=ONE_MODEL,
            room_wait_s=60.0,
            heartbeat_s=0.05,
        )
        made.edge.source.publish(A1)
        made.edge.source.publish(B1)
        yield made


class Client:
    """Asks a worker."""

    def __init__(self, worker: Worker, server: TestServer, http: aiohttp.ClientSession) -> None:
        self.worker = worker
        self._url = server.make_url("")
        self._http = http

    def state(self, name: str) -> str:
        return self.worker.residents[["a", "b"].index(name)].serving.state

    async def until_states(self, a: str, b: str) -> None:
        await until(lambda: (self.state("a"), self.state("b")) == (a, b))

    async def ask(self, name: str, *, stream: bool = True) -> tuple[int, str, str]:
        """Status, text, and the revision that answered."""
        body = {"model": name, "prompt_token_ids": [1], "stream": stream}
        async with self._http.post(self._url.join(URL(CHAT)), json=body, headers=TOKEN) as answer:
            text = await answer.text()
            return answer.status, text, answer.headers.get("x-model-digest", "")

    async def whole(self, name: str) -> str:
        """The revision that gave a whole answer."""
        status, text, digest = await self.ask(name)
        assert status == 200, text
        assert text.rstrip().endswith("data: [DONE]")
        return digest

    async def post(self, path: str, body: Any) -> tuple[int, Any, Any]:
        async with self._http.post(self._url.join(URL(path)), json=body, headers=TOKEN) as answer:
            return answer.status, await answer.json(), answer.headers

    async def get(self, path: str) -> tuple[int, Any]:
        async with self._http.get(self._url.join(URL(path)), headers=TOKEN) as answer:
            return answer.status, await answer.text()


class Run:
    """A worker that runs, and a client of it."""

    def __init__(self, yard: Yard, **changes: Any) -> None:
        self._running = yard.worker(**changes)
        self._http = aiohttp.ClientSession()

    async def __aenter__(self) -> Client:
        worker, server = await self._running.__aenter__()
        return Client(worker, server, self._http)

    async def __aexit__(self, *error: Any) -> None:
        await self._http.close()
        await self._running.__aexit__(*error)


def held(engine: RollingEngine) -> None:
    """Its streams stop after their first batch."""
    engine.held_from = 1
    engine.gate.clear()


async def settled(client: Client) -> str:
    """Wait until one model is in memory and the other sleeps; the name of the first."""
    names = {("ready", "asleep"): "a", ("asleep", "ready"): "b"}
    await until(lambda: (client.state("a"), client.state("b")) in names)
    return names[client.state("a"), client.state("b")]


def other(name: str) -> str:
    return "b" if name == "a" else "a"
