"""The worker's program: its parts are built, served, and released at the end."""

from __future__ import annotations

import time

import uvloop

from gpu_worker.app import WORKER, build_app
from gpu_worker.config import WorkerConfig
from gpu_worker.waterfalls import process_age_s
from wire.http_server import serve
from wire.process import run_tier


async def run(config: WorkerConfig) -> None:
    """Serve a worker until it is told to stop."""
    age_s = process_age_s()
    app = await build_app(config, started_s=age_s and time.perf_counter() - age_s)

    async def on_bound(url: str) -> None:
        app[WORKER].bound(url)

    await serve(
        app,
        host=config.host,
        port=config.port,
        ready_file=config.ready_file,
        drain_s=config.drain_s,
        drain_delay_s=config.drain_delay_s,
        on_bound=on_bound,
    )


def run_worker(argv: list[str] | None = None) -> int:
    """Exit status 0 after a clean stop, 2 for a configuration that cannot be used."""
    return run_tier("worker", WorkerConfig, run, argv, uvloop.new_event_loop)
