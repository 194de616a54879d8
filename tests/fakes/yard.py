"""A worker on loopback: an edge that it pulls from and tells of itself, and fake engines."""

from __future__ import annotations

from collections.abc import AsyncIterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import replace
from typing import Any

from aiohttp import web
from aiohttp.test_utils import TestServer

from gpu_worker.app import WORKER, Worker, build_app
from gpu_worker.config import WorkerConfig
from gpu_worker.fit_needs import FitConfig
from gpu_worker.order import EngineOrder
from gpu_worker.prepare import EngineFactory
from tests.fakes.quick_disk import quick_folder
from tests.fakes.revisions import Revision, SignedSource
from tests.fakes.rolling import Faults, RollingEngine
from tests.fakes.waiting import until
from wire.events import EventLog
from wire.files import write_atomically
from wire.http_errors import error_middleware
from wire.http_events import EventHub
from wire.http_routes import ArtifactRoutes
from wire.http_server import json_answer
from wire.paths import HEARTBEAT
from wire.workers import Command, HeartbeatAnswer, WorkerReport, decode_heartbeat


class Edge:
    """What a worker sees of an edge: artifacts, events, and somebody who takes heartbeats."""

    def __init__(self, executor: ThreadPoolExecutor) -> None:
        self.source = SignedSource()
        self.hub = EventHub(EventLog("edge"))
        self.reports: list[WorkerReport] = []
        self.commands: tuple[Command, ...] = ()
        """In every answer to a heartbeat."""
        self.app = web.Application(middlewares=[error_middleware()])
        ArtifactRoutes(server=self.source, executor=executor).add_to(self.app)
        self.hub.add_to(self.app)
        self.app.router.add_post(HEARTBEAT, self._take)

    async def _take(self, request: web.Request) -> web.Response:
        self.reports += decode_heartbeat(await request.read())
        return json_answer(HeartbeatAnswer(commands=self.commands))

    def last(self, model: str = "chat") -> WorkerReport:
        """The last heartbeat of a model."""
        return next(report for report in reversed(self.reports) if report.model == model)

    def states(self) -> list[str]:
        """The states that were reported, each once where it repeats."""
        seen = [report.state for report in self.reports]
        return [state for i, state in enumerate(seen) if i == 0 or seen[i - 1] != state]


class Yard:
    """An edge, and workers of it that load fake engines."""

    def __init__(self, edge: Edge, config: WorkerConfig) -> None:
        self.edge = edge
        self.config = config
        self.engines: list[RollingEngine] = []
        self.faults: dict[str, Faults] = {}

    def make_engine(self, order: EngineOrder) -> RollingEngine:
        faults = self.faults.get(order.revision, Faults())
        self.engines.append(RollingEngine(order, faults))
        return self.engines[-1]

    @asynccontextmanager
    async def worker(
        self, make_engine: EngineFactory | None = None, **changes: Any
    ) -> AsyncIterator[tuple[Worker, TestServer]]:
        """A running worker that is told where it listens."""
        config = replace(self.config, **changes)
        app = await build_app(config, make_engine=make_engine or self.make_engine)
        async with AsyncExitStack() as stack:
            server = TestServer(app)
            await stack.enter_async_context(server)
            app[WORKER].bound(str(server.make_url("")))
            yield app[WORKER], server

    async def until_ready(self, worker: Worker, revision: Revision) -> None:
        await until(lambda: worker.roller.revision == revision.id)
        assert worker.serving.state == "ready"


@asynccontextmanager
async def a_yard() -> AsyncIterator[Yard]:
    """An edge that runs, and the configuration of a worker of it."""
    with ThreadPoolExecutor(8) as executor:
        edge = Edge(executor)
        async with TestServer(edge.app) as server:
            url = str(server.make_url("")).rstrip("/")
            with quick_folder() as folder:
                write_atomically(folder / "token", b"t0ken")
                write_atomically(folder / "root.json", edge.source.root)
                config = WorkerConfig(
                    model="chat",
                    port=0,
                    sources=(url,),
                    heartbeat_to=(url,),
                    trust_root=folder / "root.json",
                    trust_dir=folder / "trust",
                    models_dir=folder / "models",
                    token_file=folder / "token",
                    ready_file=folder / "ready.json",
                    fit=FitConfig(hardware="h100"),
                    revalidate_s=1_000,
                    drain_s=60,
                )
                yield Yard(edge, config)
