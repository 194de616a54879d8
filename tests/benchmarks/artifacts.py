"""``bench artifacts``: the figures of the artifact plane, with its peers in the same run."""

from __future__ import annotations

import asyncio
import tempfile
import time
from pathlib import Path

from tests.benchmarks.artifact_plane import (
    deltas,
    fanout,
    flips,
    publishes,
    pulls,
    scaling,
)
from tests.benchmarks.artifact_plane.stage import stage
from tests.benchmarks.results import Machine, Row, report

GIB = 2**30


async def measure(rounds: int, size: int) -> list[Row]:
    """Every figure; what must be quiet comes first."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        async with stage(folder) as running:
            rows = await pulls.measure(running, folder, size, rounds)
            rows += await fanout.measure(running, folder, rounds)
            rows += await deltas.measure(running, folder, size, min(rounds, 3))
            rows += await publishes.measure(running, folder, size, rounds)
            sizes = (GIB // 10, size // 2, 2 * size)
            rows += await scaling.measure(running, folder, sizes, min(rounds, 3))
    return rows + await flips.measure(200)


def main(*, quick: bool = False) -> None:
    """Measure and report."""
    machine, started = Machine(), time.monotonic()
    rows = asyncio.run(measure(1 if quick else 5, GIB // 8 if quick else 2 * GIB))
    print(f"{report('artifacts', rows, machine)}, {time.monotonic() - started:.0f} s")
