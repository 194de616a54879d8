"""``bench rolls``: a worker that serves is moved to another revision, alone and under load."""

from __future__ import annotations

import asyncio
import os
import shutil
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from infra.publishing import open_origin
from infra.timeline import read_waterfalls
from infra.timeline_svg import timeline_svg
from tests.benchmarks.artifact_plane.stage import Stage, stage
from tests.benchmarks.fleet_scale import under_load
from tests.benchmarks.results import Machine, Row, report
from tests.benchmarks.warm_start.model import write_loadable
from tests.benchmarks.warm_start.worker import worker
from tests.fakes.tiny_gguf import CHATML
from wire.paths import DEFAULT_CHANNEL

MODEL = "bench-roll"
SIZE = 2_600_000_000
FIGURE = Path("docs/figures/roll.svg")
"""The last metadata-only roll, as a timeline."""
_NEXT = "next"
_QUIET_S = 2.0
"""Between two rolls: the old engine has ended and its files are gone."""


@dataclass(frozen=True, slots=True)
class Rolled:
    """One roll: from asking for it to serving, and the worker's own account."""

    seconds: float
    waterfall: dict[str, Any]

    @property
    def moved(self) -> float:
        """Bytes that sources gave, by the model's."""
        return float(sum(self.waterfall["by_source"].values()) / self.waterfall["size"])


def metadata_only(running: Stage, folder: Path, size: int, rounds: int) -> list[Row]:
    """Another chat template in the same weights, again and again."""
    revisions, size = _published(running, folder / "roll.gguf", size, rounds)
    first, *others = revisions
    state, done = running.local.state, []
    with worker(state, folder / "worker", MODEL, [running.edge]) as (serving, _):
        serving.wait(first)
        for revision in others:
            os.sync()  # else the roll waits for what others left to write
            time.sleep(_QUIET_S)
            started = time.perf_counter()
            with open_origin(running.origin, running.local.admin_token) as origin:
                origin.roll(MODEL, DEFAULT_CHANNEL, revision)
            waterfall = serving.wait(revision)
            done.append(Rolled(time.perf_counter() - started, waterfall))
    _draw(done[-1])
    return [
        Row(
            name=f"metadata-only roll of {size / 1e9:.2f} GB, from asking for it to serving",
            unit="s",
            runs=[roll.seconds for roll in done],
            target=2.0,
            higher_is_better=False,
        ),
        Row(
            name="the same: bytes that sources gave",
            unit="%",
            runs=[100 * roll.moved for roll in done],
            target=0.1,
            higher_is_better=False,
        ),
    ]


def _published(running: Stage, file: Path, size: int, edits: int) -> tuple[list[str], int]:
    """The first revision on the default channel and its edits on another; and the file's size.
    All before the first roll: a publisher does its work on another machine."""
    file = write_loadable(file, size)
    size = file.stat().st_size
    revisions = [running.publish(file, MODEL)[0]]
    for number in range(edits):
        write_loadable(file, size, template=f"{{# edit {number} #}}{CHATML}")
        revisions.append(running.publish(file, MODEL, _NEXT)[0])
    file.unlink()
    return revisions, size


def _draw(last: Rolled) -> None:
    FIGURE.parent.mkdir(parents=True, exist_ok=True)
    FIGURE.write_text(timeline_svg(read_waterfalls({"waterfalls": [last.waterfall]})))


async def _run(size: int, rounds: int) -> list[Row]:
    folder = Path(tempfile.mkdtemp(prefix="headwater-bench-", dir="/var/tmp"))
    try:
        async with stage(folder / "stage") as running:
            rows = await asyncio.to_thread(metadata_only, running, folder, size, rounds)
        return rows + await under_load.measure(folder / "load", rounds)
    finally:
        await asyncio.to_thread(shutil.rmtree, folder, ignore_errors=True)


def main(*, quick: bool = False) -> None:
    """Measure and report."""
    machine, started = Machine(), time.monotonic()
    rows = asyncio.run(_run(SIZE // 8 if quick else SIZE, 1 if quick else 5))
    print(f"{report('rolls', rows, machine)}, {time.monotonic() - started:.0f} s")
