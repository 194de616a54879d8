"""A verified pull beside what people use today, process by process; and one stream beside nginx."""

from __future__ import annotations

import asyncio
import json
import shutil
import tempfile
import time
from collections import defaultdict
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

from blake3 import blake3

from tests.benchmarks.artifact_plane.models import ModelSpec, write_model
from tests.benchmarks.artifact_plane.stage import Run, Stage, installed, nginx, timed
from tests.benchmarks.results import Row

MODEL = "bench-pull"
CORES = 2


@dataclass(frozen=True, slots=True)
class Served:
    """A file at the edge, warm, and the same file at nginx."""

    stage: Stage
    file: Path
    size: int
    edge_url: str
    nginx_url: str | None


async def measure(stage: Stage, folder: Path, size: int, rounds: int) -> list[Row]:
    """All rows about one large file."""
    root = folder / "www"
    root.mkdir()
    file = write_model(root / "bench.gguf", ModelSpec(size=size))
    revision, _ = await asyncio.to_thread(stage.publish, file, MODEL)
    async with nginx(root, folder / "nginx") as url:
        served = Served(
            stage,
            file,
            file.stat().st_size,
            stage.file_url(revision, file.name),
            url and f"{url}/{file.name}",
        )
        return await asyncio.to_thread(_rows, served, folder, rounds)


def _rows(served: Served, folder: Path, rounds: int) -> list[Row]:
    _curl(served.edge_url, Path("/dev/null"))  # fills the edge's cache
    rows = []
    with tempfile.TemporaryDirectory(dir="/dev/shm") as memory:
        rows += _pulls(served, Path(memory), "tmpfs", rounds)
    disk = folder / "target"
    disk.mkdir()
    rows += _pulls(served, disk, "disk", rounds)
    return rows + _streams(served, rounds)


def _pulls(served: Served, target: Path, where: str, rounds: int) -> list[Row]:
    """Everybody in turn, into an empty folder each."""
    commands: dict[str, Callable[[Path], Run]] = {
        "headwater": lambda to: served.stage.pull(MODEL, to),
        "hf": lambda to: _hf(served, to),
    }
    if served.nginx_url is not None:
        commands["curl"] = lambda to: _curl(served.nginx_url or "", to)
        commands["aria2"] = lambda to: _aria2(served.nginx_url or "", to)
    needed = {"hf": "hf", "curl": "curl", "aria2": "aria2c"}
    runs: dict[str, list[Run]] = defaultdict(list)
    for number in range(rounds + 1):
        for name, command in commands.items():
            if name != "headwater" and installed(needed[name]) is None:
                continue
            to = target / "run"
            to.mkdir()
            run = command(to)
            shutil.rmtree(to)
            if number:  # the first round warms everybody's page cache
                runs[name].append(run)

    def rate(name: str) -> list[float]:
        return [served.size / run.wall_s / 1e9 for run in runs[name]]

    ours = rate("headwater")
    inside = [served.size / json.loads(run.output)["seconds"] / 1e9 for run in runs["headwater"]]
    what = f"verified pull of {served.size >> 20} MiB to {where}"
    peers = {"curl": 1.0, "hf": 2.0, "aria2": 1.0}
    titles = {"curl": "curl from nginx", "hf": "hf download", "aria2": "aria2 -x8 from nginx"}
    rows = [
        Row(
            name=what,
            unit="GB/s",
            runs=ours,
            peer=titles[name],
            peer_runs=rate(name),
            target=target_ratio,
        )
        for name, target_ratio in peers.items()
    ]
    rows.append(
        Row(
            name=f"{what}, without the start of Python",
            unit="GB/s",
            runs=inside,
            peer=titles["curl"],
            peer_runs=rate("curl"),
            target=1.0,
        )
    )
    rows.append(
        Row(
            name=f"CPU of the pull to {where}",
            unit="CPU-s",
            runs=[run.cpu_s for run in runs["headwater"]],
            peer=titles["curl"],
            peer_runs=[run.cpu_s for run in runs["curl"]],
            higher_is_better=False,
        )
    )
    hash_s = _hash_seconds(served.size)
    rows.append(
        Row(
            name=f"hashing, share of the wall of the pull to {where} ({CORES} cores)",
            unit="%",
            runs=[100 * hash_s / CORES / run.wall_s for run in runs["headwater"]],
            target=5.0,
            higher_is_better=False,
        )
    )
    return rows


def _hash_seconds(size: int) -> float:
    """CPU-seconds of BLAKE3 over so many bytes, in buffers of a chunk."""
    buffer = bytearray(8 << 20)
    blake3(buffer).digest()
    started = time.process_time()
    for _ in range(32):
        blake3(buffer).digest()
    return (time.process_time() - started) / (32 * len(buffer)) * size


def _curl(url: str, to: Path) -> Run:
    target = to / "file" if to.is_dir() else to
    return timed(["curl", "-sf", "-o", str(target), url])


def _aria2(url: str, to: Path) -> Run:
    options = ["-x8", "-s8", "-k1M", "-q", "--file-allocation=none", "--summary-interval=0"]
    return timed(["aria2c", *options, "-d", str(to), "-o", "file", url])


def _hf(served: Served, to: Path) -> Run:
    program = installed("hf")
    assert program is not None
    name = f"headwater/{MODEL}"
    environ = {
        "HF_ENDPOINT": served.stage.edge,
        "HF_HOME": str(to / "home"),
        "HF_HUB_DISABLE_XET": "1",
        "HF_HUB_DISABLE_TELEMETRY": "1",
        "HF_HUB_DISABLE_PROGRESS_BARS": "1",
    }
    argv = [program, "download", name, served.file.name, "--local-dir", str(to / "out")]
    return timed(argv, environ)


def _streams(served: Served, rounds: int) -> list[Row]:
    """Clients that throw the bytes away, so that only the server is measured."""
    ours: dict[int, list[float]] = defaultdict(list)
    theirs: dict[int, list[float]] = defaultdict(list)
    for _ in range(rounds):
        for clients in (1, 2, 4):
            ours[clients].append(_together(served.edge_url, clients, served.size))
            if served.nginx_url is not None:
                theirs[clients].append(_together(served.nginx_url, clients, served.size))
    alone = Row(
        name="one stream from the edge's cache",
        unit="GB/s",
        runs=ours[1],
        peer="nginx, sendfile",
        peer_runs=theirs[1],
        target=1.0,
    )
    return [
        alone,
        *(
            Row(
                name=f"{clients} streams at once, their sum",
                unit="GB/s",
                runs=ours[clients],
                peer="one stream",
                peer_runs=ours[1],
                target=1.0,
            )
            for clients in (2, 4)
        ),
        *(
            Row(
                name=f"{clients} streams at once, their sum, beside nginx",
                unit="GB/s",
                runs=ours[clients],
                peer="nginx, sendfile",
                peer_runs=theirs[clients],
            )
            for clients in (2, 4)
        ),
    ]


def _together(url: str, clients: int, size: int) -> float:
    started = time.perf_counter()
    with ThreadPoolExecutor(clients) as pool:
        list(pool.map(lambda _: _curl(url, Path("/dev/null")), range(clients)))
    return clients * size / (time.perf_counter() - started) / 1e9
