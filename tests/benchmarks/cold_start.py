"""``bench cold_start``: from nothing on the disk to a model's first token.

A worker's process starts, pulls a generated model that llama.cpp really loads from a warm edge on
loopback, verifies, loads and answers. The peer is what people script today, with the same engine
and the same parameters: curl, (sha256sum,) load, first token.
"""

from __future__ import annotations

import asyncio
import shutil
import tempfile
import time
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path
from urllib.parse import urlsplit

from infra.timeline import read_waterfalls
from infra.timeline_svg import timeline_svg
from tests.benchmarks.artifact_plane.stage import Stage, stage
from tests.benchmarks.results import Machine, Row, report
from tests.benchmarks.warm_start.links import link
from tests.benchmarks.warm_start.loading import measure as measure_loading
from tests.benchmarks.warm_start.model import write_loadable
from tests.benchmarks.warm_start.script import Script, script
from tests.benchmarks.warm_start.worker import Boot, boot

MODEL = "bench-cold"
SIZE = 2_600_000_000
NEAR_S, FAR_S = 0.05, 0.5
FIGURE = Path("docs/figures/cold-start.svg")
"""The last boot beside the warm edge, as a timeline."""


def measure(running: Stage, folder: Path, size: int, rounds: int) -> list[Row]:
    """All rows about one large file."""
    file = write_loadable(folder / "cold.gguf", size)
    size = file.stat().st_size
    revision, _ = running.publish(file, MODEL)
    url = running.file_url(revision, file.name)
    rows = measure_loading(file, rounds)
    file.unlink()
    ours: list[Boot] = []
    theirs: list[Script] = []
    for number in range(rounds + 1):
        other = script(url, folder / "curl.gguf")
        (folder / "curl.gguf").unlink()
        one = _boot(running, folder, revision, running.edge)
        if number:  # the first round warms the edge's cache, and everybody's programs
            ours.append(one)
            theirs.append(other)
    _draw(ours[-1])
    return _beside(size, ours, theirs) + _far(running, folder, revision, rounds) + rows


def _beside(size: int, ours: Sequence[Boot], theirs: Sequence[Script]) -> list[Row]:
    what = f"cold start of {size / 1e9:.2f} GB from a warm edge, to the first token"
    first = [boot.first_token_s for boot in ours]
    return [
        Row(
            name=what,
            unit="s",
            runs=first,
            peer="curl + load",
            peer_runs=[run.unverified_s for run in theirs],
            target=1.1,
            higher_is_better=False,
        ),
        Row(
            name=what,
            unit="s",
            runs=first,
            peer="curl + sha256sum + load",
            peer_runs=[run.verified_s for run in theirs],
            target=1 / 3,
            higher_is_better=False,
        ),
        Row(
            name="the same, until the whole probe is answered and it serves",
            unit="s",
            runs=[boot.ready_s for boot in ours],
        ),
        Row(
            name="the same, CPU of worker and engine",
            unit="CPU-s",
            runs=[boot.cpu_s for boot in ours],
            peer="curl + sha256sum + load",
            peer_runs=[run.cpu_s + run.sha256_cpu_s for run in theirs],
            higher_is_better=False,
        ),
    ]


def _far(running: Stage, folder: Path, revision: str, rounds: int) -> list[Row]:
    """A source at 50 ms alone, and with an origin at 500 ms beside it."""
    with ExitStack() as links:
        near = links.enter_context(link(urlsplit(running.edge).netloc, NEAR_S))
        far = links.enter_context(link(urlsplit(running.origin).netloc, FAR_S))
        both: list[float] = []
        alone: list[float] = []
        for _ in range(rounds):
            both.append(_boot(running, folder, revision, near, far).first_token_s)
            alone.append(_boot(running, folder, revision, near).first_token_s)
    return [
        Row(
            name="the same over 50 ms, with an origin at 500 ms behind",
            unit="s",
            runs=both,
            peer="the source at 50 ms alone",
            peer_runs=alone,
            target=1.2,
            higher_is_better=False,
        )
    ]


def _boot(running: Stage, folder: Path, revision: str, *sources: str) -> Boot:
    return boot(running.local.state, folder / "worker", MODEL, revision, sources)


def _draw(last: Boot) -> None:
    FIGURE.parent.mkdir(parents=True, exist_ok=True)
    FIGURE.write_text(timeline_svg(read_waterfalls({"waterfalls": [last.waterfall]})))


async def _run(size: int, rounds: int) -> list[Row]:
    folder = Path(tempfile.mkdtemp(prefix="headwater-bench-", dir="/var/tmp"))
    try:
        async with stage(folder) as running:
            return await asyncio.to_thread(measure, running, folder, size, rounds)
    finally:
        await asyncio.to_thread(shutil.rmtree, folder, ignore_errors=True)


def main(*, quick: bool = False) -> None:
    """Measure and report."""
    machine, started = Machine(), time.monotonic()
    rows = asyncio.run(_run(SIZE // 8 if quick else SIZE, 1 if quick else 5))
    print(f"{report('cold_start', rows, machine)}, {time.monotonic() - started:.0f} s")
