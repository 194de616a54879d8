"""``bench pull``: a verified pull of 2 GiB from an edge's cache, against curl without any check.

Whole processes, from start to exit, to memory (``/dev/shm``) so that the disk is not what is
measured; curl gets the same file from the same edge. Runs are interleaved. CPU is the puller's own.
"""

from __future__ import annotations

import asyncio
import resource
import shutil
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

from infra.local import Local
from origin.publish import OriginAdmin
from tests.benchmarks.results import Machine, Row, report
from tests.fakes.publishing import publish_unseen
from tests.fakes.tiny_gguf import write_sparse_gguf

SIZE = 2 * 1024**3
MODEL = "bench"


@dataclass(frozen=True, slots=True)
class Run:
    """One process: wall and CPU seconds."""

    wall_s: float
    cpu_s: float


def timed(argv: list[str]) -> Run:
    """Run a command to its end. Raises ``CalledProcessError``."""
    before, start = resource.getrusage(resource.RUSAGE_CHILDREN), time.perf_counter()
    subprocess.run(argv, check=True, stdout=subprocess.DEVNULL)
    wall, after = time.perf_counter() - start, resource.getrusage(resource.RUSAGE_CHILDREN)
    cpu = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    return Run(wall, cpu)


async def measure(rounds: int, size: int) -> list[Row]:
    """Publish, warm the cache, then pull and curl in turn."""
    with tempfile.TemporaryDirectory() as name, tempfile.TemporaryDirectory(dir="/dev/shm") as out:
        folder, target = Path(name), Path(out)
        file = write_sparse_gguf(folder / "bench.gguf", size)
        async with Local(folder / "state") as local:
            await local.start("origin")
            await local.ready("origin")
            published = await asyncio.to_thread(_publish, local, file)
            edge = await local.start("edge")
            await local.ready("edge")
            pull = [
                *(sys.executable, "-m", "infra.cli", "pull", MODEL, "--json", "--from", edge),
                *("--trust-root", str(local.state.trust_root), "--to", str(target / "pull")),
            ]
            url = f"{edge}/artifacts/files/{published}/{file.name}"
            curl = ["curl", "-sf", "-o", str(target / "curl"), url]
            return await asyncio.to_thread(_interleaved, pull, curl, target, rounds, size)


def _publish(local: Local, file: Path) -> str:
    """A model of this size has no tokenizer, so it is published without an edge bundle."""
    origin = OriginAdmin(local.urls.origin, local.admin_token)
    try:
        return publish_unseen(
            file,
            MODEL,
            origin,
            key_file=local.state.publisher_key,
            store=local.state.origin_store,
        )
    finally:
        origin.close()


def _interleaved(
    pull: list[str], curl: list[str], target: Path, rounds: int, size: int
) -> list[Row]:
    pulls: list[Run] = []
    curls: list[Run] = []
    for number in range(rounds + 1):
        one = timed(pull)
        shutil.rmtree(target / "pull")
        other = timed(curl)
        (target / "curl").unlink()
        if number:  # the first round fills the cache
            pulls.append(one)
            curls.append(other)
    return [
        Row(
            name=f"verified pull of {size >> 20} MiB",
            unit="GB/s",
            runs=[size / run.wall_s / 1e9 for run in pulls],
            peer="curl, unverified",
            peer_runs=[size / run.wall_s / 1e9 for run in curls],
            target=1.0,
        ),
        Row(
            name="CPU of the pull",
            unit="CPU-s",
            runs=[run.cpu_s for run in pulls],
            peer="curl, unverified",
            peer_runs=[run.cpu_s for run in curls],
            higher_is_better=False,
        ),
    ]


def main(*, quick: bool = False) -> None:
    """Measure and report."""
    machine, started = Machine(), time.monotonic()
    rows = asyncio.run(measure(1 if quick else 5, SIZE // 8 if quick else SIZE))
    print(f"{report('pull', rows, machine)}, {time.monotonic() - started:.0f} s")
