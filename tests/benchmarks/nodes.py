"""``bench nodes``: how soon 200 nodes know of a roll, by the real trust client and event stream.

All nodes and the origin share this machine's cores, so what is measured is bounded from below by
the CPU that 200 verifications take here; of a fleet, each node has a processor of its own.
"""

from __future__ import annotations

import asyncio
import json
import statistics
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import urlsplit
from urllib.request import urlopen

import psutil

from infra.publishing import open_origin, open_publisher
from origin.offer import from_disk
from tests.benchmarks.fleet_scale.simulated import CHANNEL, MODEL
from tests.benchmarks.fleet_scale.wall import FrozenMirror, Wall
from tests.benchmarks.results import Machine, Row, report
from tests.fakes.origins import RunningOrigin, running_origin
from tests.fakes.processes import cpu_seconds
from wire.paths import TRUST_BUNDLE

NODES = 200
DEMO_MODELS = Path("infra/demo_models")
FILES = ("edge-small-r1.gguf", "edge-small-r2.gguf")
_SETTLE_S = 30.0
_HEAL_S = 30.0
_MIRROR_S = 6.0
_SILENCE_S = 30.0
"""Long enough for every node to have come to its longest pause between two tries."""


@dataclass(slots=True)
class Fleet:
    """What the nodes told."""

    newest: dict[int, tuple[int, float]] = field(default_factory=dict)
    """Node → sequence and when it was verified."""
    older: int = 0
    changed: asyncio.Event = field(default_factory=asyncio.Event)

    async def read(self, stream: asyncio.StreamReader) -> None:
        async for line in stream:
            told = json.loads(line)
            self.newest[told["node"]] = told["sequence"], told["at"]
            self.older += told["older"]
            self.changed.set()

    async def at(self, sequence: int, nodes: Sequence[int], within_s: float) -> list[float]:
        """When each of these nodes verified that pointer. Raises ``TimeoutError``."""
        async with asyncio.timeout(within_s):
            while any(self.newest.get(n, (0, 0.0))[0] != sequence for n in nodes):
                self.changed.clear()
                await self.changed.wait()
        return [self.newest[node][1] for node in nodes]


@asynccontextmanager
async def simulated(
    fleet: Fleet, origin: RunningOrigin, folder: Path, first: int, count: int, url: str
) -> AsyncIterator[int]:
    """A process of nodes; gives its id."""
    root = folder / "root.json"
    root.write_bytes(origin.home.root)
    module = "tests.benchmarks.fleet_scale.simulated"
    argv = [sys.executable, "-m", module, str(root), str(folder), str(first), str(count), url]
    process = await asyncio.create_subprocess_exec(*argv, stdout=asyncio.subprocess.PIPE)
    assert process.stdout is not None
    reading = asyncio.create_task(fleet.read(process.stdout), name=f"nodes from {first}")
    try:
        yield process.pid
    finally:
        process.kill()
        await process.wait()
        await reading


def measure(rounds: int, nodes: int) -> list[Row]:
    """A fleet behind one origin."""
    with tempfile.TemporaryDirectory(dir=_memory()) as name:
        folder = Path(name)
        with running_origin(folder / "origin") as origin:
            revisions = _publish(origin)
            return asyncio.run(_with_fleet(origin, folder, revisions, rounds, nodes))


async def _with_fleet(
    origin: RunningOrigin, folder: Path, revisions: tuple[str, str], rounds: int, nodes: int
) -> list[Row]:
    """Rolls, then a partition with an attacker behind it."""
    fleet, half = Fleet(), nodes // 2
    near, far = range(half), range(half, nodes)
    async with AsyncExitStack() as stack:
        wall = Wall(urlsplit(origin.url).port or 0)
        await wall.open()
        stack.push_async_callback(wall.cut)
        for first, url in ((0, origin.url), (half, f"http://127.0.0.1:{wall.port}")):
            await stack.enter_async_context(simulated(fleet, origin, folder, first, half, url))
        roll = _Rolls(origin, revisions)
        await fleet.at(roll.sequence, range(nodes), _SETTLE_S)
        await asyncio.sleep(1.0)  # every event stream stands
        rows = await _announced(fleet, origin, roll, rounds, nodes)
        rows += await _partitioned(fleet, roll, wall, near, far)
        rows.append(_row("nodes that ever accepted an older pointer", "", [fleet.older], 0))
        return rows


class _Rolls:
    """Moves the channel there and back."""

    def __init__(self, origin: RunningOrigin, revisions: tuple[str, str]) -> None:
        self.origin = origin
        self.sequence = 1
        self._revisions = revisions

    async def __call__(self) -> float:
        """When the roll was asked for."""
        revision = self._revisions[self.sequence % 2]
        self.sequence += 1
        began = time.monotonic()

        def move() -> None:
            with open_origin(self.origin.url, self.origin.home.token) as admin:
                admin.roll(MODEL, CHANNEL, revision)

        await asyncio.to_thread(move)
        return began


async def _announced(
    fleet: Fleet, origin: RunningOrigin, roll: _Rolls, rounds: int, nodes: int
) -> list[Row]:
    pid = _listener(origin.url)
    p50, p99, cpu, sent = [], [], [], []
    for _ in range(rounds):
        cpu_before, sent_before = cpu_seconds(pid), _on_loopback()
        began = await roll()
        took = sorted(at - began for at in await fleet.at(roll.sequence, range(nodes), _SETTLE_S))
        p50.append(1e3 * statistics.median(took))
        p99.append(1e3 * took[int(0.99 * (len(took) - 1))])
        await asyncio.sleep(0.5)
        cpu.append(1e3 * (cpu_seconds(pid) - cpu_before) / nodes)
        sent.append((_on_loopback() - sent_before) / nodes)
    return [
        _row(f"announce → verified pointer, {nodes} nodes, p50", "ms", p50, 150),
        _row(f"announce → verified pointer, {nodes} nodes, p99", "ms", p99, 1_000),
        _row("the same: CPU of the origin for each node", "ms", cpu, None),
        _row("the same: bytes over the network for each node", "B", sent, None),
    ]


async def _partitioned(
    fleet: Fleet, roll: _Rolls, wall: Wall, near: Sequence[int], far: Sequence[int]
) -> list[Row]:
    """Half of the nodes are cut off, meet somebody who has only an older bundle, then nobody."""
    old = await asyncio.to_thread(_bundle, roll.origin.url)
    await roll()
    await fleet.at(roll.sequence, (*near, *far), _SETTLE_S)
    known = roll.sequence
    await wall.cut()
    mirror = FrozenMirror(old)
    stop: Callable[[], object] = await mirror.start(wall.port)
    began = time.monotonic()
    while time.monotonic() - began < _MIRROR_S:
        mirror.call()
        await asyncio.sleep(0.5)
    await roll()
    await fleet.at(roll.sequence, near, _SETTLE_S)
    behind = sum(fleet.newest[node][0] == known for node in far)
    stopped = stop()
    if isinstance(stopped, Awaitable):
        await stopped
    await asyncio.sleep(_SILENCE_S)
    await wall.open()
    healed = time.monotonic()
    took = [at - healed for at in await fleet.at(roll.sequence, far, _HEAL_S)]
    return [
        _row("cut off: nodes that kept the newest they had", "", [behind / len(far)], 1.0, up=True),
        _row("cut off: old bundles offered to them", "", [mirror.asked], None),
        _row("healed → all consistent", "s", [max(took)], 10),
    ]


def _row(
    name: str, unit: str, runs: Sequence[float], target: float | None, *, up: bool = False
) -> Row:
    return Row(name=name, unit=unit, runs=runs, target=target, higher_is_better=up)


def _publish(origin: RunningOrigin) -> tuple[str, str]:
    """Two revisions; the channel points at the first."""
    key = origin.home.config.keys_dir / "publisher.key"
    with open_publisher(origin.url, origin.home.token, key) as desk:
        made = [
            desk.publish(from_disk(DEMO_MODELS / file), MODEL, channel)
            for file, channel in zip(FILES, (CHANNEL, "next"), strict=True)
        ]
    return made[0].revision, made[1].revision


def _bundle(url: str) -> bytes:
    with urlopen(url + TRUST_BUNDLE) as answer:
        data: bytes = answer.read()
        return data


def _listener(url: str) -> int:
    """The process that listens at a URL."""
    port = urlsplit(url).port
    for found in psutil.net_connections("tcp"):
        if found.status == "LISTEN" and found.pid and found.laddr and found.laddr.port == port:
            return int(found.pid)
    raise LookupError(f"nobody listens at {url}")


def _on_loopback() -> int:
    """Bytes over the loopback device so far, with all headers; nothing else of note runs on it."""
    return int(psutil.net_io_counters(pernic=True)["lo"].bytes_sent)


def _memory() -> Path | None:
    """200 disks are simulated too: in memory, where 200 flushes are not one disk's."""
    shared = Path("/dev/shm")
    return shared if shared.is_dir() else None


def main(*, quick: bool = False) -> None:
    """Measure and report."""
    machine, started = Machine(), time.monotonic()
    rows = measure(2 if quick else 7, 40 if quick else NODES)
    print(f"{report('nodes', rows, machine)}, {time.monotonic() - started:.0f} s")
