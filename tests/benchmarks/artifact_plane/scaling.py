"""Whether cost stays flat: time per byte against size, time per request against the index."""

from __future__ import annotations

import asyncio
import hashlib
import json
import random
import statistics
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from infra.local import Local
from tests.benchmarks.artifact_plane.models import ModelSpec, write_model
from tests.benchmarks.artifact_plane.stage import Stage
from tests.benchmarks.results import Row
from wire.chunk import ChunkId
from wire.http_client import BlockingClient
from wire.paths import chunk_path

FIGURE = Path("docs/figures/artifacts-scaling.svg")
ENTRIES = (1_000, 10_000, 100_000)
REQUESTS = 1_000


@dataclass(frozen=True, slots=True)
class Scaling:
    """Size in bytes → seconds per GB; chunks in the index → microseconds per request. Medians."""

    per_byte: dict[int, float]
    per_request: dict[int, float]


async def measure(stage: Stage, folder: Path, sizes: Sequence[int], rounds: int) -> list[Row]:
    """Measure both and draw them."""
    per_byte, per_request = {}, {}
    for size in sizes:
        per_byte[size] = await asyncio.to_thread(_seconds_per_gb, stage, folder, size, rounds)
    for entries in ENTRIES:
        with tempfile.TemporaryDirectory() as name:
            per_request[entries] = await _request_us(Path(name), entries, rounds)
    scaling = Scaling(
        {size: statistics.median(runs) for size, runs in per_byte.items()},
        {entries: statistics.median(runs) for entries, runs in per_request.items()},
    )
    draw(scaling, FIGURE)
    return [
        *(
            Row(name=f"pull of {size >> 20} MiB, warm edge, tmpfs", unit="s/GB", runs=runs)
            for size, runs in per_byte.items()
        ),
        *(
            Row(name=f"a chunk's request, {entries:,} in the index", unit="µs", runs=runs)
            for entries, runs in per_request.items()
        ),
        Row(
            name="dearest by cheapest request over the sizes of the index",
            unit="×",
            runs=[max(scaling.per_request.values()) / min(scaling.per_request.values())],
            target=1.3,
            higher_is_better=False,
        ),
        Row(
            name="dearest by cheapest byte from 1 GiB on",
            unit="×",
            runs=[_spread([s for size, s in scaling.per_byte.items() if size >= 2**30])],
            target=1.3,
            higher_is_better=False,
        ),
    ]


def _spread(values: Sequence[float]) -> float:
    return max(values) / min(values) if values else 1.0


def _seconds_per_gb(stage: Stage, folder: Path, size: int, rounds: int) -> list[float]:
    model = f"bench-size-{size >> 20}"
    file = write_model(folder / "size.gguf", ModelSpec(size=size, vocabulary=1_000))
    length = file.stat().st_size
    stage.publish(file, model)
    file.unlink()
    runs = []
    for _ in range(rounds + 1):  # the first fills the edge's cache
        with tempfile.TemporaryDirectory(dir="/dev/shm") as name:
            run = stage.pull(model, Path(name))
        runs.append(json.loads(run.output)["seconds"] / length * 1e9)
    return runs[1:]


async def _request_us(folder: Path, entries: int, rounds: int) -> list[float]:
    async with Local(folder / "state") as local:
        await asyncio.to_thread(_populate, local.state.tier("edge") / "cache" / "chunks", entries)
        for tier in ("origin", "edge"):
            url = await local.start(tier)
            await local.ready(tier)
        return await asyncio.to_thread(_ask, url, entries, rounds)


def _id(number: int) -> ChunkId:
    return ChunkId(hashlib.sha256(str(number).encode()).hexdigest())


def _populate(root: Path, entries: int) -> None:
    """Files that look like chunks; who asks for them here does not verify."""
    for shard in range(256):
        (root / "chunks" / f"{shard:02x}").mkdir(parents=True, exist_ok=True)
    for number in range(entries):
        chunk = _id(number)
        (root / "chunks" / chunk[:2] / chunk).write_bytes(b"chunk")


def _ask(url: str, entries: int, rounds: int) -> list[float]:
    client = BlockingClient(url)
    picked = random.Random(1).sample(range(entries), REQUESTS)
    targets = [chunk_path(_id(number)) for number in picked]
    runs = []
    for _ in range(rounds + 1):
        started = time.perf_counter()
        for target in targets:
            assert client.get(target, limit_bytes=100).status == 200
        runs.append((time.perf_counter() - started) / len(targets) * 1e6)
    client.close()
    return runs[1:]


def draw(scaling: Scaling, file: Path) -> None:
    """Both curves as SVG; the same figures give the same bytes."""
    import matplotlib as mpl  # heavy, and only drawn here
    from matplotlib.figure import Figure

    file.parent.mkdir(parents=True, exist_ok=True)
    with mpl.rc_context({"svg.hashsalt": "headwater", "font.size": 9}):
        figure = Figure(figsize=(8, 3), layout="constrained")
        left, right = figure.subplots(1, 2)
        left.plot([size / 2**30 for size in scaling.per_byte], list(scaling.per_byte.values()))
        left.set(xlabel="model, GiB", ylabel="s per GB", title="Pull from a warm edge")
        right.plot(list(scaling.per_request), list(scaling.per_request.values()))
        right.set(xlabel="chunks in the index", ylabel="µs", title="A request for a chunk")
        for axes in (left, right):
            xs, ys = axes.lines[0].get_data()
            axes.set_xscale("log")
            axes.set_xticks(xs, [f"{x:.2g}" if x < 100 else f"{x:,.0f}" for x in xs], minor=False)
            axes.set_xticks([], minor=True)
            axes.set_ylim(0, 1.2 * max(ys))
            axes.lines[0].set(marker="o", color="#1b6ca8")
            axes.grid(alpha=0.3)
        figure.savefig(file, format="svg", metadata={"Date": None})
