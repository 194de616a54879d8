"""Builds a worker from its configuration."""

from __future__ import annotations

import asyncio

import structlog
from aiohttp import web
from prometheus_client import CollectorRegistry

from gpu_worker.config import WorkerConfig
from gpu_worker.disk import ModelFolder
from gpu_worker.engine import Engine
from gpu_worker.engines import make as engines
from gpu_worker.hardware import Hardware
from gpu_worker.judge import hardware_for
from gpu_worker.memory import free_memory_bytes
from gpu_worker.memory_folder import memory_folder, open_memory_folder
from gpu_worker.order import EngineOrder
from gpu_worker.prepare import EngineFactory
from gpu_worker.roll import FreeMemory
from gpu_worker.routes import ERROR_BODIES
from gpu_worker.standby import Standby
from gpu_worker.worker import MakeEngine, Worker, name_of
from wire.http_errors import error_middleware
from wire.http_server import read_token
from wire.telemetry.http_telemetry import add_telemetry, add_traces
from wire.trust_client import open_trust

_log = structlog.get_logger("worker")

__all__ = ["WORKER", "Worker", "build_app"]

WORKER = web.AppKey("worker", Worker)


async def build_app(
    config: WorkerConfig,
    *,
    make_engine: EngineFactory | None = None,
    free_memory: FreeMemory = free_memory_bytes,
    hardware: Hardware | None = None,
    started_s: float | None = None,
) -> web.Application:
    """A worker ready to be served; it boots its models in the background.

    Args:
        make_engine: as ``gpu_worker.engines.make`` where none is given.
        hardware: what a model must fit; what the configuration says, or this machine, where none is
            given.
        started_s: on ``time.perf_counter``, when the process began, for the boot's waterfall.

    Raises:
        ConfigError: a file or URL cannot be used; says which and what to do.
    """
    token = await asyncio.to_thread(read_token, config.token_file)
    pull_token = None
    if config.pull_token_file is not None:
        pull_token = await asyncio.to_thread(read_token, config.pull_token_file)
    trust = await asyncio.to_thread(open_trust, config.trust_dir, config.trust_root)
    if hardware is None:
        hardware = await asyncio.to_thread(hardware_for, config.fit)
        _log.info("hardware", found=hardware)
    folder = None
    if config.weights_in_memory:
        root = memory_folder(config, name_of(config))
        await asyncio.to_thread(open_memory_folder, root)
        folder = ModelFolder(root, room=free_memory)
    standby = None
    if make_engine is None:
        standby = engines.make_standby(config.engine, config.supervisor)
    registry = CollectorRegistry()
    app = web.Application(middlewares=[error_middleware(ERROR_BODIES)], client_max_size=0)
    worker = Worker(
        config,
        token,
        trust,
        pull_token=pull_token,
        make_engine=_for_any(make_engine) if make_engine is not None else _by_the_files(standby),
        free_memory=free_memory,
        hardware=hardware,
        folder=folder,
        standby=standby,
        started_s=started_s,
    )
    # Whoever has the worker's token is an edge, and says which trace a request belongs to.
    traces = add_traces(app, config.telemetry.traces, tier="worker", trust=True)
    worker.add_to(app, registry, traces)
    add_telemetry(app, registry, config.telemetry, tier="worker", port=config.port)
    app[WORKER] = worker
    return app


def _for_any(make_engine: EngineFactory) -> MakeEngine:
    return lambda _config, order: make_engine(order)


def _by_the_files(standby: Standby | None) -> MakeEngine:
    def make(config: WorkerConfig, order: EngineOrder) -> Engine:
        return engines.make_engine(config.engine, config.supervisor, order, standby=standby)

    return make
