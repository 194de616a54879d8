"""Builds a worker from its configuration."""

from __future__ import annotations

import asyncio
import contextlib
import socket
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from os import getpid
from pathlib import Path

import structlog
from aiohttp import web
from prometheus_client import CollectorRegistry

from gpu_worker.config import WorkerConfig
from gpu_worker.engine import Engine
from gpu_worker.engines.llamacpp import LlamaCpp
from gpu_worker.heartbeat import Heartbeat
from gpu_worker.memory import free_memory_bytes
from gpu_worker.prepare import EngineFactory, Preparation
from gpu_worker.roll import FreeMemory, Roller
from gpu_worker.routes import ERROR_BODIES, WorkerRoutes
from gpu_worker.serving import Serving, ServingConfig
from gpu_worker.source_metrics import SourceMetrics
from wire.events import Event
from wire.http_errors import error_middleware
from wire.http_events import follow
from wire.http_server import background, guard, json_answer, read_token, require_token
from wire.http_source import HttpSource
from wire.paths import ADMIN
from wire.sources.nearest import Nearest
from wire.trust_client import TrustClient, open_trust
from wire.trust_metrics import TrustMetrics, trust_status
from wire.trust_store import TrustStore
from wire.workers import WorkerReport

_log = structlog.get_logger("worker")


@dataclass(slots=True)
class Identity:
    """Who this worker is to others; the URL is known once the socket is bound."""

    name: str
    url: str = ""


class Worker:
    """A worker's parts, and the routes over them."""

    def __init__(
        self,
        config: WorkerConfig,
        token: str,
        trust: TrustStore,
        *,
        pull_token: str | None = None,
        make_engine: EngineFactory,
        free_memory: FreeMemory,
    ) -> None:
        self._config = config
        self._token = token
        self._trust = trust
        self.identity = Identity(config.name or f"{socket.gethostname()}-{config.port or getpid()}")
        self.serving = Serving(ServingConfig(queue_requests=config.max_queue))
        threads = config.receive_threads * max(1, len(config.sources))
        self._receivers = ThreadPoolExecutor(threads, thread_name_prefix="receive")
        self._disk = ThreadPoolExecutor(config.receive_threads, thread_name_prefix="disk")
        members = [
            HttpSource(url, self._receivers, token=pull_token or token, config=config.client)
            for url in config.sources
        ]
        self._source = Nearest(members, config=config.nearest)
        self._heartbeat = Heartbeat(
            config.heartbeat_to, token, self.report, interval_s=config.heartbeat_s
        )
        self.roller = Roller(
            config,
            self.serving,
            Preparation(config, self._source, self._disk, make_engine),
            TrustClient(self._source, trust, members),
            free_memory=free_memory,
            on_change=self._heartbeat.poke,
            name=self.identity.name,
        )
        self._news = asyncio.Event()
        self._bound = asyncio.Event()
        self._looking: asyncio.Task[None] | None = None
        self._stopping = False

    def add_to(self, app: web.Application, registry: CollectorRegistry) -> None:
        """Register routes and background work; everything is released with the application."""
        WorkerRoutes(
            self.serving, worker=self.identity.name, tokens=(self._token,), registry=registry
        ).add_to(app)
        SourceMetrics(registry, self._source.stats)
        TrustMetrics(registry, lambda: self._trust.view)
        app.router.add_get(f"{ADMIN}/status", self._status)
        app.on_startup.append(self._begin)
        for url in self._config.sources:
            app.cleanup_ctx.append(background(f"follow-{url}", partial(self._follow, url)))
        app.cleanup_ctx.append(background("heartbeat", self._beat))
        app.on_shutdown.append(self._say_goodbye)
        app.on_cleanup.append(self._release)

    def bound(self, url: str) -> None:
        """The socket listens at ``url``: from now on edges are told of this worker."""
        self.identity.url = self._config.advertise_url or url
        self._bound.set()

    def report(self) -> WorkerReport:
        """The heartbeat."""
        load = self.serving.load()
        engine = self.serving.engine
        # Several choices are the worker's own doing.
        features = engine.features | {"n"} if engine is not None else frozenset[str]()
        boot = self.roller.waterfalls[0].steps_ms if self.roller.waterfalls else {}
        return WorkerReport(
            worker=self.identity.name,
            url=self.identity.url,
            model=self._config.model,
            channel=self._config.channel,
            revision=self.roller.revision,
            # To the end, also once the engine is closed: that is no failure.
            state="draining" if self._stopping else self.serving.state,
            slots=load.slots,
            busy=load.busy,
            queue=load.queue,
            ttl_s=self._config.heartbeat_ttl_s,
            reason=(self.roller.reason or self.serving.reason)[:500],
            features=features,
            boot=boot,
            target=self.roller.target,
            phase=self.roller.phase,
            missing_bytes=self.roller.missing_bytes,
            fault=self.roller.fault,
            refused=self.roller.refused,
            canary=self.roller.canary,
        )

    async def _begin(self, _app: web.Application) -> None:
        self._looking = asyncio.create_task(guard("look", self._look_always()), name="look")

    async def _look_always(self) -> None:
        """Look at the channel at the start, at every event, and now and then without one."""
        while True:
            self._news.clear()
            try:
                await self.roller.look()
            except Exception:  # noqa: BLE001 - logged, and the next look follows
                # Whatever is wrong with one look, a worker must not stop following its channel.
                _log.exception("look failed")
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(self._wait_s()):
                    await self._news.wait()

    def _wait_s(self) -> float:
        """A worker that serves nothing yet looks often, at first; others can wait for news."""
        if self.roller.revision:
            return self._config.revalidate_s
        return min(0.25 * 2.0 ** min(self.roller.failures, 16), self._config.revalidate_s)

    async def _beat(self) -> None:
        await self._bound.wait()
        await self._heartbeat.run()

    async def _follow(self, url: str) -> None:
        async def on_event(_event: Event) -> None:
            self._news.set()
            self.roller.poke()

        await follow(url, on_event, config=self._config.events)

    async def _status(self, request: web.Request) -> web.Response:
        """Waterfalls and the current report."""
        require_token(request, self._token)
        body = {
            "report": self.report(),
            "waterfalls": self.roller.waterfalls,
            "sources": self._source.stats(),
            "trust": trust_status(self._trust.view),
        }
        return json_answer(body)

    async def _say_goodbye(self, _app: web.Application) -> None:
        """Not ready first: edges must route around before streams are made to end. A roll that is
        under way is given up, lest it make the worker ready again."""
        self._stopping = True
        self.serving.pause("stopping")
        await self._stop_looking()
        if self._bound.is_set():
            await self._heartbeat.send()
        await self.roller.aclose()

    async def _stop_looking(self) -> None:
        if self._looking is not None:
            self._looking.cancel()
            await asyncio.gather(self._looking, return_exceptions=True)

    async def _release(self, _app: web.Application) -> None:
        await self._stop_looking()
        await self.roller.aclose()
        await self._heartbeat.aclose()
        await self._source.aclose()
        for pool in (self._receivers, self._disk):
            pool.shutdown(wait=False, cancel_futures=True)


WORKER = web.AppKey("worker", Worker)


async def build_app(
    config: WorkerConfig,
    *,
    make_engine: EngineFactory | None = None,
    free_memory: FreeMemory = free_memory_bytes,
) -> web.Application:
    """A worker ready to be served; it boots its model in the background.

    Args:
        make_engine: llama.cpp where none is given.

    Raises:
        ConfigError: a file or URL cannot be used; says which and what to do.
    """
    token = await asyncio.to_thread(read_token, config.token_file)
    pull_token = None
    if config.pull_token_file is not None:
        pull_token = await asyncio.to_thread(read_token, config.pull_token_file)
    trust = await asyncio.to_thread(open_trust, config.trust_dir, config.trust_root)
    registry = CollectorRegistry()
    app = web.Application(middlewares=[error_middleware(ERROR_BODIES)], client_max_size=0)
    worker = Worker(
        config,
        token,
        trust,
        pull_token=pull_token,
        make_engine=make_engine or partial(llama_cpp, config),
        free_memory=free_memory,
    )
    worker.add_to(app, registry)
    app[WORKER] = worker
    return app


def llama_cpp(config: WorkerConfig, path: Path, model: str, revision: str) -> Engine:
    """The engine by default: llama.cpp in a process of its own."""
    return LlamaCpp(
        path, model=model, revision=revision, config=config.engine, supervisor=config.supervisor
    )
