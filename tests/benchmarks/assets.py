"""``bench assets``: static files from an edge's warm cache, beside nginx with the same folder.

Requests per second of the server's CPU, so that the client and whatever else runs count little.
"""

from __future__ import annotations

import asyncio
import tempfile
import time
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from urllib.parse import urlsplit
from urllib.request import urlopen

import psutil

from infra.publishing import open_publisher
from tests.benchmarks.artifact_plane.stage import Stage, nginx, stage
from tests.benchmarks.results import Machine, Row, report
from tests.fakes.processes import cpu_seconds
from tests.fakes.sites import text, write_site

SITE = "bench-site"
SIZES = {"small.css": 4_000, "page.html": 20_000, "app.js": 200_000, "picture.png": 4_000_000}
CONNECTIONS = 8
_READ_BYTES = 1 << 20


async def ask(url: str, headers: Mapping[str, str], until: float) -> int:
    """Ask for one address over one connection until a time; how many whole answers came."""
    at = urlsplit(url)
    reader, writer = await asyncio.open_connection(at.hostname, at.port)
    lines = "".join(f"{name}: {value}\r\n" for name, value in headers.items())
    request = f"GET {at.path} HTTP/1.1\r\nHost: {at.netloc}\r\n{lines}\r\n".encode()
    answers = 0
    try:
        while time.monotonic() < until:
            writer.write(request)
            head = await reader.readuntil(b"\r\n\r\n")
            status = int(head.split(b" ", 2)[1])
            left = 0
            if status != 304:
                assert status == 200, head
                left = int(head.lower().partition(b"content-length: ")[2].partition(b"\r\n")[0])
            while left:
                left -= len(await reader.read(min(left, _READ_BYTES)))
            answers += 1
    finally:
        writer.close()
    return answers


async def rate(url: str, pid: int, seconds: float, headers: Mapping[str, str]) -> float:
    """Whole answers for each second of the server's CPU."""
    await ask(url, headers, time.monotonic() + seconds / 4)
    before = cpu_seconds(pid)
    until = time.monotonic() + seconds
    counts = await asyncio.gather(*(ask(url, headers, until) for _ in range(CONNECTIONS)))
    return sum(counts) / (cpu_seconds(pid) - before)


def etag_of(url: str) -> str:
    """What an address has now."""
    with urlopen(url) as answer:
        etag: str = answer.headers["ETag"]
        return etag


async def measure(rounds: int, seconds: float) -> list[Row]:
    """One figure a size, and one for a revalidation."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        site = write_site(folder / "www", {path: text("x", size) for path, size in SIZES.items()})
        async with stage(folder) as running, nginx(site, folder / "nginx") as peer:
            await asyncio.to_thread(_publish, running, site)
            edge = next(c.pid for c in running.local.children() if c.name == "edge")
            assert edge is not None
            return [
                row
                for path in SIZES
                for conditional in ((False, True) if path == "small.css" else (False,))
                for row in [
                    await _figure(running.edge, peer, edge, path, rounds, seconds, conditional)
                ]
            ]


async def _figure(
    edge: str, peer: str | None, pid: int, path: str, rounds: int, seconds: float, conditional: bool
) -> Row:
    ours, theirs = f"{edge}/assets/{SITE}/{path}", f"{peer}/{path}"
    runs, peer_runs = [], []
    for _ in range(rounds):
        runs.append(await rate(ours, pid, seconds, await _asked(ours, conditional)))
        if peer is not None:
            asked = await _asked(theirs, conditional)
            peer_runs.append(await rate(theirs, _pid_at(peer), seconds, asked))
    what = "revalidation (304)" if conditional else f"{SIZES[path]:,} B"
    return Row(
        name=what, unit="requests a CPU-second", runs=runs, peer="nginx", peer_runs=peer_runs
    )


async def _asked(url: str, conditional: bool) -> dict[str, str]:
    if not conditional:
        return {}
    return {"If-None-Match": await asyncio.to_thread(etag_of, url)}


def _pid_at(url: str) -> int:
    """The master process that listens there; other servers may come and go meanwhile."""
    port = urlsplit(url).port
    found = []
    for process in psutil.process_iter():
        with suppress(psutil.Error):
            listens = process.name() == "nginx" and any(
                at.laddr and at.laddr.port == port for at in process.net_connections("tcp")
            )
            if listens:
                found.append(process)
    return min(found, key=lambda process: process.create_time()).pid


def _publish(running: Stage, site: Path) -> None:
    """Publish, and wait until the edge has every file."""
    local = running.local
    with open_publisher(running.origin, local.admin_token, local.state.publisher_key) as desk:
        revision = desk.publish_static(site, SITE, "stable").revision
    until = time.monotonic() + 20
    for path in SIZES:
        while True:
            try:
                with urlopen(f"{running.edge}/assets/{SITE}/{path}") as answer:
                    if answer.headers["x-model-digest"] == revision and answer.read():
                        break
            except OSError:
                if time.monotonic() > until:
                    raise
                time.sleep(0.1)


def main(*, quick: bool = False) -> None:
    """Measure and report."""
    machine = Machine()
    rows = asyncio.run(measure(1 if quick else 5, 1.0 if quick else 3.0))
    print(report("assets", rows, machine))
