"""A worker's parts, and how they begin and end together."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from os import getpid

import msgspec
from aiohttp import web
from prometheus_client import CollectorRegistry

from gpu_worker.boot_metrics import BootMetrics
from gpu_worker.budget import budget_of, within
from gpu_worker.commands import Orderly
from gpu_worker.config import WorkerConfig, all_models
from gpu_worker.disk import ModelFolder
from gpu_worker.engine import Engine
from gpu_worker.hardware import UNBOUNDED, Hardware
from gpu_worker.heartbeat import Heartbeat
from gpu_worker.keeper import Keeper
from gpu_worker.memory_folder import memory_folder, remove_memory_folder
from gpu_worker.order import EngineOrder
from gpu_worker.reports import Identity, report_of
from gpu_worker.resident import Household, Resident
from gpu_worker.resident_metrics import ResidentMetrics
from gpu_worker.roll import FreeMemory, Roller
from gpu_worker.routes import WorkerRoutes
from gpu_worker.serving import Serving
from gpu_worker.source_metrics import SourceMetrics
from gpu_worker.standby import Standby
from wire.disk_metrics import DiskMetrics
from wire.errors import ConfigError
from wire.events import Event
from wire.http_events import follow
from wire.http_server import LIFE, background, guard, json_answer, require_token
from wire.http_source import HttpSource
from wire.paths import ADMIN
from wire.sources.nearest import Nearest
from wire.telemetry.spans import Traces
from wire.trust_client import TrustClient
from wire.trust_metrics import TrustMetrics, trust_status
from wire.trust_store import TrustStore
from wire.workers import HeartbeatAnswer, NodeName, WorkerReport

MakeEngine = Callable[[WorkerConfig, EngineOrder], Engine]
"""The configuration of one model, and what is ordered of it → an engine, not started."""


def name_of(config: WorkerConfig) -> str:
    """The worker's stable name in the fleet.

    Raises:
        ConfigError: the configured one cannot be one.
    """
    name = config.name or f"{socket.gethostname()}-{config.port or getpid()}"
    try:
        return msgspec.convert(name, NodeName)
    except msgspec.ValidationError as error:
        raise ConfigError(
            f"[worker] name {name!r}: a name starts with a letter or digit and holds only "
            "letters, digits and ._:@- (at most 128)"
        ) from error


class Worker:
    """A worker's parts, and the routes over them.

    Raises:
        ConfigError: a URL or a model cannot be used; says which and what to do.
    """

    def __init__(
        self,
        config: WorkerConfig,
        token: str,
        trust: TrustStore,
        *,
        pull_token: str | None = None,
        make_engine: MakeEngine,
        free_memory: FreeMemory,
        hardware: Hardware = UNBOUNDED,
        folder: ModelFolder | None = None,
        standby: Standby | None = None,
        started_s: float | None = None,
    ) -> None:
        models = all_models(config)
        self._config = config
        self._folder = folder or ModelFolder(config.models_dir)
        self._standby = standby
        self._token = token
        self._trust = trust
        self.identity = Identity(name_of(config))
        threads = config.receive_threads * max(1, len(config.sources))
        self._receivers = ThreadPoolExecutor(threads, thread_name_prefix="receive")
        self._disk = ThreadPoolExecutor(config.receive_threads, thread_name_prefix="disk")
        members = [
            HttpSource(url, self._receivers, token=pull_token or token, config=config.client)
            for url in config.sources
        ]
        self._source = Nearest(members, config=config.nearest)
        budget_bytes = budget_of(config, len(models), hardware, free_memory())
        self.keeper = Keeper(budget_bytes)
        house = Household(
            name=self.identity.name,
            source=self._source,
            disk=self._disk,
            trust=TrustClient(self._source, trust, members),
            keeper=self.keeper,
            free_memory=free_memory,
            folder=self._folder,
            hardware=within(hardware, budget_bytes),
            on_pull=standby.prepare if standby is not None else lambda: None,
            started_s=started_s,
        )
        self._heartbeat = Heartbeat(
            config.heartbeat_to,
            token,
            self._reports,
            interval_s=config.heartbeat_s,
            answered=self._answered,
        )
        self.residents: list[Resident] = []
        for model in models:
            own = config.of(model)
            make, poke = partial(make_engine, own), self._heartbeat.poke
            self.residents.append(Resident(model, own, house, make, on_change=poke))
        self._orderly = Orderly(self.identity.name, self.residents, on_change=self._heartbeat.poke)
        self._bound = asyncio.Event()
        self._stopping = False
        self._tasks: list[asyncio.Task[None]] = []
        """What must end before the models do."""

    @property
    def roller(self) -> Roller:
        """Of the first model."""
        return self.residents[0].roller

    @property
    def serving(self) -> Serving:
        """Of the first model."""
        return self.residents[0].serving

    def add_to(
        self, app: web.Application, registry: CollectorRegistry, traces: Traces | None = None
    ) -> None:
        """Register routes and background work; everything is released with the application."""
        WorkerRoutes(
            {resident.name: resident.serving for resident in self.residents},
            worker=self.identity.name,
            tokens=(self._token,),
            registry=registry,
            traces=traces,
        ).add_to(app)
        app[LIFE].on_stopping.append(self._leave)
        SourceMetrics(registry, self._source.stats)
        TrustMetrics(registry, lambda: self._trust.view)
        BootMetrics(registry, lambda: [r.roller.waterfalls for r in self.residents])
        DiskMetrics(registry, {"models": self._folder.root})
        ResidentMetrics(registry, self.residents, self.keeper)
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
        for resident in self.residents:
            resident.roller.waterfalls.listens()
        self._bound.set()

    def report(self, index: int = 0) -> WorkerReport:
        """The heartbeat of a model, by its place in the configuration."""
        return report_of(
            self.residents[index],
            self.identity,
            self._trust.view,
            stopping=self._stopping,
            done=self._orderly.done,
        )

    def reports(self) -> tuple[WorkerReport, ...]:
        """The heartbeats of all models."""
        return tuple(self.report(index) for index in range(len(self.residents)))

    def _reports(self) -> WorkerReport | tuple[WorkerReport, ...]:
        """As they are sent: edges of before know one report only."""
        reports = self.reports()
        return reports if len(reports) > 1 else reports[0]

    async def _begin(self, _app: web.Application) -> None:
        if self._standby is not None:
            self._standby.prepare()  # while the trust metadata are fetched
        for resident in self.residents:
            await asyncio.to_thread(self._folder.recover, resident.name)
            resident.begin()
        for name, work in (("commands", self._orderly.run()), ("keeper", self.keeper.run())):
            self._tasks.append(asyncio.create_task(guard(name, work), name=name))

    async def _beat(self) -> None:
        await self._bound.wait()
        await self._heartbeat.run()

    def _answered(self, _edge: str, answer: HeartbeatAnswer) -> None:
        if not self._stopping:
            self._orderly.take(answer.commands)

    async def _follow(self, url: str) -> None:
        async def on_event(_event: Event) -> None:
            for resident in self.residents:
                resident.look()

        await follow(url, on_event, config=self._config.events)

    async def _status(self, request: web.Request) -> web.Response:
        """Reports and waterfalls; of the first model also under the names that a worker with one
        model has always had."""
        require_token(request, self._token)
        reports = self.reports()
        waterfalls = {r.name: list(r.roller.waterfalls) for r in self.residents}
        body = {
            "report": reports[0],
            "waterfalls": waterfalls[reports[0].model],
            "reports": reports,
            "waterfalls_by_model": waterfalls,
            "memory": self._memory(self.residents),
            "sources": self._source.stats(),
            "trust": trust_status(self._trust.view),
        }
        return json_answer(body)

    def _memory(self, residents: Sequence[Resident]) -> dict[str, object]:
        """In bytes; the budget is null where none is kept."""
        return {
            "budget": self.keeper.budget_bytes,
            "used": {r.name: self.keeper.used_bytes(r.name) for r in residents},
        }

    def _leave(self) -> None:
        """Told to stop: edges are to send nothing new, while what comes is still answered."""
        self._stopping = True
        self._heartbeat.poke()

    async def _say_goodbye(self, _app: web.Application) -> None:
        """Not ready first: edges must route around before streams are made to end. A roll that is
        under way is given up, lest it make the worker ready again."""
        self._stopping = True
        await self._stop()
        if self._bound.is_set():
            await self._heartbeat.send()
        await asyncio.gather(*[resident.aclose() for resident in self.residents])

    async def _stop(self) -> None:
        """Begin nothing any more: neither a command nor a load."""
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        await asyncio.gather(*[resident.stop("stopping") for resident in self.residents])

    async def _release(self, _app: web.Application) -> None:
        await self._stop()
        await asyncio.gather(*[resident.aclose() for resident in self.residents])
        if self._standby is not None:
            await self._standby.aclose()
        await self._heartbeat.aclose()
        await self._source.aclose()
        for pool in (self._receivers, self._disk):
            pool.shutdown(wait=False, cancel_futures=True)
        if self._config.weights_in_memory:
            folder = memory_folder(self._config, self.identity.name)
            await asyncio.to_thread(remove_memory_folder, folder)
