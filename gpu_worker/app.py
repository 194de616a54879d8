"""Builds a worker from its configuration."""

from __future__ import annotations

import asyncio

from aiohttp import web
from prometheus_client import CollectorRegistry

from gpu_worker.config import WorkerConfig
from gpu_worker.engine import Engine
from gpu_worker.engines.make import make_engine as make_any_engine
from gpu_worker.memory import free_memory_bytes
from gpu_worker.order import EngineOrder
from gpu_worker.prepare import EngineFactory
from gpu_worker.roll import FreeMemory
from gpu_worker.routes import ERROR_BODIES
from gpu_worker.worker import MakeEngine, Worker
from wire.http_errors import error_middleware
from wire.http_server import read_token
from wire.trust_client import open_trust

__all__ = ["WORKER", "Worker", "build_app"]

WORKER = web.AppKey("worker", Worker)


async def build_app(
    config: WorkerConfig,
    *,
    make_engine: EngineFactory | None = None,
    free_memory: FreeMemory = free_memory_bytes,
) -> web.Application:
    """A worker ready to be served; it boots its model in the background.

    Args:
        make_engine: as ``gpu_worker.engines.make`` where none is given.

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
        make_engine=_for_any(make_engine) if make_engine is not None else _by_the_files,
        free_memory=free_memory,
    )
    worker.add_to(app, registry)
    app[WORKER] = worker
    return app


def _for_any(make_engine: EngineFactory) -> MakeEngine:
    return lambda _config, order: make_engine(order)


def _by_the_files(config: WorkerConfig, order: EngineOrder) -> Engine:
    return make_any_engine(config.engine, config.supervisor, order)
