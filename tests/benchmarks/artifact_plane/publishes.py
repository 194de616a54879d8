"""Publishing: both hashes, and the command as a whole; CPU and memory."""

from __future__ import annotations

import asyncio
import sys
from pathlib import Path

from tests.benchmarks.artifact_plane.models import ModelSpec, write_model
from tests.benchmarks.artifact_plane.stage import Stage, timed
from tests.benchmarks.results import Row

_SCAN = """
import sys
from pathlib import Path
from origin.chunker import plan, scan
from wire.gguf import read_gguf
file = Path(sys.argv[1])
with file.open("rb") as stream:
    layout = read_gguf(stream, file.stat().st_size)
scan(file, plan(layout, layout.file_size), role="weights")
"""


async def measure(stage: Stage, folder: Path, size: int, rounds: int) -> list[Row]:
    """A file in the page cache, named and published."""
    scans, wholes, memory = [], [], []
    for number in range(rounds):
        spec = ModelSpec(size=size, seeds=dict.fromkeys(range(24), 100 + number))
        file = write_model(folder / "publish.gguf", spec)
        length = file.stat().st_size
        scan = await asyncio.to_thread(timed, [sys.executable, "-c", _SCAN, str(file)])
        _, whole = await asyncio.to_thread(stage.publish, file, f"bench-publish-{number}")
        file.unlink()
        scans.append(length / scan.cpu_s / 1e6)
        wholes.append(length / whole.cpu_s / 1e6)
        memory.append(max(scan.rss_bytes, whole.rss_bytes) / 2**20)
    return [
        Row(
            name=f"publish {size >> 20} MiB: cut and both hashes, per CPU-second",
            unit="MB",
            runs=scans,
            target=400.0,
        ),
        Row(name="the same: the whole command with its uploads", unit="MB", runs=wholes),
        Row(
            name="the same: peak memory",
            unit="MiB",
            runs=memory,
            target=200.0,
            higher_is_better=False,
        ),
    ]
