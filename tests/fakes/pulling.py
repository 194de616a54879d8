"""A pull in a process of its own, to be killed and measured: ``python -m tests.fakes.pulling``."""

from __future__ import annotations

import asyncio
import json
import os
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from gpu_worker.disk import ModelFolder
from gpu_worker.parallelism import ParallelismConfig
from gpu_worker.pull import PullConfig, pull
from tests.fakes.processes import peak_rss_bytes
from wire.http_source import HttpSource

PARALLEL = 4
"""Chunks under way at the same time."""


async def main(url: str, model: str, revision: str, folder: str) -> None:
    """Pull a revision and print what it took, as JSON."""
    with ThreadPoolExecutor(PARALLEL) as receivers, ThreadPoolExecutor(PARALLEL) as disk:
        source = HttpSource(url, receivers)
        config = PullConfig(parallelism=ParallelismConfig(start=PARALLEL, most=PARALLEL))
        report = await pull(model, revision, source, ModelFolder(Path(folder)), disk, config=config)
        await source.aclose()
    figures = {
        "resumed_bytes": report.resumed_bytes,
        "fetched_bytes": report.fetched_bytes,
        "peak_rss_bytes": peak_rss_bytes(os.getpid()),
        "steps_ms": report.steps_ms,
    }
    print(json.dumps(figures))


if __name__ == "__main__":
    asyncio.run(main(*sys.argv[1:]))
