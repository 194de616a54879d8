"""What an edit costs: the bytes that a worker with the old revision fetches for the new one."""

from __future__ import annotations

import asyncio
import tempfile
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

from gpu_worker.disk import ModelFolder
from gpu_worker.pull import PullReport, pull
from tests.benchmarks.artifact_plane.models import ModelSpec, write_model
from tests.benchmarks.artifact_plane.stage import Stage
from tests.benchmarks.results import Row
from wire.http_source import HttpSource

MODEL = "bench-delta"
LOOKING = ("manifest", "open", "resume", "find")
"""Steps of a pull before anything is copied or fetched."""


async def measure(stage: Stage, folder: Path, size: int, rounds: int) -> list[Row]:
    """Edits of one file of ``size`` bytes."""
    base = ModelSpec(size=size)
    edits = {
        "template": replace(base, template="{# another, and longer #}" + base.template),
        "layers": replace(base, seeds={3: 1, 17: 1}),
    }
    first = await _published(stage, folder, base)
    revisions = {name: await _published(stage, folder, spec) for name, spec in edits.items()}
    reports: dict[str, list[PullReport]] = {name: [] for name in edits}
    for _ in range(rounds):
        for name, revision in revisions.items():
            reports[name].append(await _edited(stage, first, revision))
    metadata, tuned = reports["template"], reports["layers"]
    own = 2 * base.layer_bytes
    return [
        Row(
            name=f"metadata-only edit of {size >> 20} MiB: refetched",
            unit="%",
            runs=[100 * report.fetched_bytes / report.size for report in metadata],
            target=0.1,
            higher_is_better=False,
        ),
        Row(
            name="the same: what to fetch is found after",
            unit="s",
            runs=[sum(report.steps_ms[step] for step in LOOKING) / 1e3 for report in metadata],
            target=1.0,
            higher_is_better=False,
        ),
        Row(
            name="the same: the whole pull, with the copy of the rest",
            unit="s",
            runs=[sum(report.steps_ms.values()) / 1e3 for report in metadata],
        ),
        Row(
            name="fine-tune of 2 of 24 layers: fetched by its own bytes",
            unit="×",
            runs=[report.fetched_bytes / own for report in tuned],
            target=1.01,
            higher_is_better=False,
        ),
    ]


async def _published(stage: Stage, folder: Path, spec: ModelSpec) -> str:
    file = write_model(folder / "delta.gguf", spec)
    revision, _ = await asyncio.to_thread(stage.publish, file, MODEL)
    file.unlink()
    return revision


async def _edited(stage: Stage, first: str, second: str) -> PullReport:
    with (
        tempfile.TemporaryDirectory(dir="/dev/shm") as name,
        ThreadPoolExecutor(8) as receivers,
        ThreadPoolExecutor(8) as disk,
    ):
        source = HttpSource(stage.edge, receivers)
        folder = ModelFolder(Path(name))
        await pull(MODEL, first, source, folder, disk)
        report = await pull(MODEL, second, source, folder, disk)
        await source.aclose()
        return report
