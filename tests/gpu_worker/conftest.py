"""Models and engines for the worker's tests: the real llama.cpp, on models of a known answer."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import aiohttp
import pytest
from aiohttp import web
from aiohttp.test_utils import TestServer
from prometheus_client import CollectorRegistry

from gpu_worker.answers import AnswersConfig
from gpu_worker.engine import Engine
from gpu_worker.engines.llama_server import LlamaServer, LlamaServerConfig
from gpu_worker.engines.llamacpp import LlamaCpp
from gpu_worker.engines.native import LlamaCppConfig, NativeEngine
from gpu_worker.routes import ERROR_BODIES, RoutesConfig, WorkerRoutes
from gpu_worker.serving import Serving, ServingConfig
from gpu_worker.supervisor import Launch, SupervisorConfig
from tests.fakes.programs import WHY_NO_LLAMA_SERVER, real_llama_server
from tests.fakes.scripted_gguf import write_scripted_gguf
from tests.fakes.worker_api import StartApi, WorkerApi
from wire.http_errors import error_middleware
from wire.telemetry.spans import Traces

StartLlama = Callable[..., Awaitable[LlamaCpp]]
StartChild = Callable[..., Awaitable[NativeEngine]]
FAST_RESTART = SupervisorConfig(ready_timeout_s=45, backoff_initial_s=0.01, backoff_max_s=0.05)


PATIENT_S = 30.0
"""Longer than a machine stands still."""
PATIENT_ROUTES = RoutesConfig(answers=AnswersConfig(ping_interval_s=60.0))
"""Before a refusal comes no keep-alive, which would make an event of it."""


@pytest.fixture(scope="session")
def scripted_model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model that repeats its script without end."""
    return write_scripted_gguf(tmp_path_factory.mktemp("models") / "scripted.gguf")


@pytest.fixture
async def start_llama(scripted_model: Path) -> AsyncIterator[StartLlama]:
    """Start llama.cpp on a model (the scripted one where none is given); closed afterwards."""
    engines: list[LlamaCpp] = []

    async def start(
        path: Path | None = None,
        *,
        revision: str = "a" * 64,
        slots: int = 2,
        context: int = 4_096,
        embeddings: bool = False,
    ) -> LlamaCpp:
        config = LlamaCppConfig(
            slots=slots,
            context_tokens=context,
            threads=1,
            warmup=False,
            embeddings=embeddings,
            verdict_s=PATIENT_S,
        )
        engine = LlamaCpp(
            path or scripted_model,
            model="chat-small",
            revision=revision,
            config=config,
            supervisor=FAST_RESTART,
        )
        engines.append(engine)
        await engine.start()
        return engine

    yield start
    await asyncio.gather(*(engine.aclose() for engine in engines))


@pytest.fixture
async def start_child(scripted_model: Path) -> AsyncIterator[StartChild]:
    """Start an engine over llama.cpp's native API by the name of its kind; closed afterwards.
    Skips where its program is not installed."""
    engines: list[NativeEngine] = []

    async def start(
        kind: str,
        path: Path | None = None,
        *,
        wrapper: tuple[str, ...] = (),
        supervisor: SupervisorConfig = FAST_RESTART,
        clock: Callable[[], float] = time.monotonic,
        **changes: Any,
    ) -> NativeEngine:
        engine = build_child(kind, path or scripted_model, supervisor, clock, **changes)
        if wrapper:
            engine.process.launch = wrapped(engine.process.launch, wrapper)
        engines.append(engine)
        await engine.start()
        return engine

    yield start
    await asyncio.gather(*(engine.aclose() for engine in engines))


def build_child(
    kind: str,
    path: Path,
    supervisor: SupervisorConfig,
    clock: Callable[[], float],
    **changes: Any,
) -> NativeEngine:
    given = {"slots": 2, "threads": 1, "warmup": False, "verdict_s": PATIENT_S, **changes}
    config = LlamaCppConfig(**given)
    who: dict[str, Any] = {"model": "chat-small", "revision": "a" * 64, "clock": clock}
    if kind == "llamacpp":
        return LlamaCpp(path, **who, config=config, supervisor=supervisor)
    program = real_llama_server()
    if program is None:
        pytest.skip(WHY_NO_LLAMA_SERVER)
    server = LlamaServerConfig(program=program)
    return LlamaServer(path, **who, config=config, server=server, supervisor=supervisor)


def wrapped(launch: Callable[[], Launch], wrapper: tuple[str, ...]) -> Callable[[], Launch]:
    """The same children, run by another program (``prlimit``)."""

    def launch_wrapped() -> Launch:
        told = launch()
        return replace(told, argv=(*wrapper, *told.argv))

    return launch_wrapped


@pytest.fixture
async def start_api() -> AsyncIterator[StartApi]:
    """Start a worker's API before an engine; None starts it without one."""
    servers: list[TestServer] = []
    sessions: list[aiohttp.ClientSession] = []

    async def build(
        engine: Engine | None,
        *,
        routes: RoutesConfig | None = None,
        serving_config: ServingConfig | None = None,
        traces: Traces | None = None,
    ) -> WorkerApi:
        serving = Serving(serving_config)
        if engine is not None:
            serving.flip(engine)
        app = web.Application(middlewares=[error_middleware(ERROR_BODIES)])
        WorkerRoutes(
            {"chat-small": serving},
            worker="gpu-7",
            tokens=("t0ken", "next-token"),
            registry=CollectorRegistry(),
            config=routes or PATIENT_ROUTES,
            traces=traces,
            wall=lambda: 1_700_000_000.5,
        ).add_to(app)
        server = TestServer(app)
        await server.start_server()
        servers.append(server)
        sessions.append(aiohttp.ClientSession())
        return WorkerApi(serving, server, sessions[-1])

    yield build
    for session in sessions:
        await session.close()
    for server in servers:
        await server.close()
