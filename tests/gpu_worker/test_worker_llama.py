"""Two models with the real llama.cpp, and memory for one: who is idle sleeps, no stream is cut."""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator
from contextlib import suppress
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import aiohttp
import psutil
import pytest
from yarl import URL

from gpu_worker.config import ModelConfig
from gpu_worker.engines.config import EngineConfig
from gpu_worker.engines.make import make_engine as make_any_engine
from gpu_worker.fit_needs import FitConfig
from tests.fakes.processes import holds_model
from tests.fakes.revisions import Revision, make_revision
from tests.fakes.scripted_gguf import SCRIPT, write_scripted_gguf
from tests.fakes.several import TOKEN, needs_bytes
from tests.fakes.waiting import until
from tests.fakes.worker_api import CHAT, content
from tests.fakes.yard import Yard, a_yard
from wire.sse import SSEDecoder

SCRIPTS = {"first": SCRIPT, "second": "abcdefg"}
LONG = 3_500
"""Tokens of a stream that outlives what happens meanwhile."""


def revision_of(path: Path, name: str) -> Revision:
    data = path.read_bytes()
    pieces = [data[at : at + 512 * 1024] for at in range(0, len(data), 512 * 1024)]
    return make_revision({"m.gguf": pieces}, model=name)


@pytest.fixture
async def yard(tmp_path: Path) -> AsyncIterator[Yard]:
    async with a_yard() as made:
        config = replace(
            made.config,
            fit=FitConfig(use_gpu="no"),
            engine=EngineConfig(slots=2, context_tokens=4_096, threads=1, warmup=False),
        )
        size = 0
        for name, script in SCRIPTS.items():
            file = write_scripted_gguf(tmp_path / f"{name}.gguf", script)
            size = max(size, needs_bytes(file.read_bytes(), config))
            made.edge.source.publish(revision_of(file, name))
        made.config = replace(
            config,
            models=(ModelConfig(model="first"), ModelConfig(model="second")),
            # A share of it stays free in the fit, but two would be far over it.
            memory_budget_bytes=int(size * 1.3),
            room_wait_s=0.05,
        )
        yield made


def engines() -> list[psutil.Process]:
    """All llama.cpp below this process that hold a model; one may stand by without any."""
    found = []
    for child in psutil.Process(os.getpid()).children():
        with suppress(psutil.NoSuchProcess):  # it ended meanwhile
            if holds_model(child) and "llamacpp_process" in " ".join(child.cmdline()):
                found.append(child)
    return found


class Asked:
    """A stream, read to its end in the background."""

    def __init__(self, http: aiohttp.ClientSession, url: URL, model: str, tokens: int) -> None:
        self.begun = asyncio.Event()
        self._post = partial(
            http.post,
            url,
            json={
                "model": model,
                "messages": [{"role": "user", "content": "go"}],
                "max_tokens": tokens,
                "temperature": 0,
                "stream": True,
            },
            headers=TOKEN,
        )
        self.task = asyncio.create_task(self._read())

    async def _read(self) -> tuple[int, list[str]]:
        decoder, events = SSEDecoder(), list[Any]()
        async with self._post() as answer:
            async for piece in answer.content.iter_any():
                events += [event.data for event in decoder.feed(piece)]
                self.begun.set()
            return answer.status, events


async def test_the_idle_one_makes_room_and_a_stream_is_never_cut(yard: Yard) -> None:
    make_engine = partial(make_any_engine, yard.config.engine, yard.config.supervisor)
    async with yard.worker(make_engine) as (worker, server), aiohttp.ClientSession() as http:
        url = server.make_url(CHAT)

        def states() -> list[str]:
            return [resident.serving.state for resident in worker.residents]

        await until(lambda: sorted(states()) == ["asleep", "ready"])
        awake = worker.residents[states().index("ready")].name
        sleeping = next(name for name in SCRIPTS if name != awake)
        (engine,) = engines()

        stream = Asked(http, url, awake, LONG)
        await stream.begun.wait()
        engine.suspend()  # so that it does not come to its end meanwhile
        status, _ = await Asked(http, url, sleeping, 8).task
        assert (status, stream.task.done()) == (503, False)
        engine.resume()
        status, events = await stream.task
        assert (status, events[-1]) == (200, "[DONE]")
        assert set(content(events)) == set(SCRIPTS[awake])

        status, events = await Asked(http, url, sleeping, 3 * len(SCRIPTS[sleeping].encode())).task
        assert (status, events[-1]) == (200, "[DONE]")
        assert set(content(events)) == set(SCRIPTS[sleeping])
        await until(lambda: len(engines()) == 1)
        assert worker.keeper.used_bytes() <= yard.config.memory_budget_bytes
        assert worker.keeper.used_bytes(awake) == 0
    assert engines() == []
