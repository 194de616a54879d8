"""Fifty workers that boot at once behind one cold edge."""

from __future__ import annotations

import asyncio
import statistics
import tempfile
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from gpu_worker.disk import ModelFolder
from gpu_worker.pull import pull
from infra.edge_admin import TierAdmin, total
from tests.benchmarks.artifact_plane.models import ModelSpec, write_model
from tests.benchmarks.artifact_plane.stage import Stage
from tests.benchmarks.results import Row
from wire.http_source import HttpSource

WORKERS = 50


async def measure(stage: Stage, folder: Path, rounds: int) -> list[Row]:
    """Another model each round, so that the edge is cold each time."""
    bytes_ratio: list[float] = []
    spread: list[float] = []
    for number in range(rounds):
        spec = ModelSpec(
            size=32 << 20, vocabulary=1_000, seeds=dict.fromkeys(range(24), number + 1)
        )
        file = write_model(folder / f"fan{number}.gguf", spec)
        model = f"bench-fan-{number}"
        revision, _ = await asyncio.to_thread(stage.publish, file, model)
        before = await asyncio.to_thread(_origin_bytes, stage)
        times = await _all_at_once(stage, model, revision)
        sent = await asyncio.to_thread(_origin_bytes, stage) - before
        bytes_ratio.append(sent / file.stat().st_size)
        spread.append(max(times) / statistics.median(times))
    return [
        Row(
            name=f"{WORKERS} cold workers: origin bytes by the artifact's",
            unit="×",
            runs=bytes_ratio,
            target=1.05,
            higher_is_better=False,
        ),
        Row(
            name=f"{WORKERS} cold workers: slowest by median",
            unit="×",
            runs=spread,
            target=1.8,
            higher_is_better=False,
        ),
    ]


async def _all_at_once(stage: Stage, model: str, revision: str) -> Sequence[float]:
    with (
        tempfile.TemporaryDirectory(dir="/dev/shm") as name,
        ThreadPoolExecutor(2 * WORKERS) as receivers,
        ThreadPoolExecutor(8) as disk,
    ):
        started = time.perf_counter()

        async def one(number: int) -> float:
            source = HttpSource(stage.edge, receivers)
            to = ModelFolder(Path(name) / str(number))
            await pull(model, revision, source, to, disk)
            await source.aclose()
            return time.perf_counter() - started

        return await asyncio.gather(*(one(number) for number in range(WORKERS)))


def _origin_bytes(stage: Stage) -> float:
    with TierAdmin(stage.origin) as origin:
        return total(origin.metrics(), "headwater_origin_served_bytes_total")
