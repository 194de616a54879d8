"""``bench remote_write``: ten minutes without a receiver, in seconds, and what is lost of them.

A registry of 1,000 series is looked at 40 times while a real Prometheus is down, at stamps that are
15 s apart; then it is started again and asked what it has.
"""

from __future__ import annotations

import asyncio
import shutil
import tempfile
import time
from pathlib import Path

import psutil
from prometheus_client import CollectorRegistry, Counter

from tests.benchmarks.results import Machine, Row, report
from tests.fakes.processes import peak_rss_bytes
from tests.fakes.prometheus import Prometheus
from wire.telemetry.buffer import Buffer
from wire.telemetry.config import TelemetryConfig
from wire.telemetry.http_remote_write import HttpReceiver
from wire.telemetry.pipeline import RemoteWrite
from wire.telemetry.samples import Sampler
from wire.telemetry.spool import Spool

INTERVAL_S = 15.0
OUTAGE_S = 600.0
SERIES = 1_000
_TIER = '{tier="bench"}'
_MIB = 2**20


class Stage:
    """Remote write with a clock of its own, so that ten minutes pass as fast as they can."""

    def __init__(self, prometheus: Prometheus, folder: Path, config: TelemetryConfig) -> None:
        self.wall_s = time.time() - 2 * OUTAGE_S
        registry = CollectorRegistry()
        counter = Counter("bench", "A figure.", ["part", "node"], registry=registry)
        self._parts = [counter.labels(f"part-{n % 20}", f"node-{n:04d}") for n in range(SERIES)]
        self.buffer = Buffer(
            lambda: Spool(
                folder, most_bytes=config.spool_bytes, segment_bytes=config.segment_bytes
            ),
            config.memory_bytes,
        )
        labels = {"tier": "bench", "region": "eu-central", "instance": "edge-1.example:7401"}
        sampler = Sampler(registry, labels, max_series=config.max_series)
        receiver = HttpReceiver(prometheus.write_url, prometheus.write_url)
        self.remote = RemoteWrite(config, sampler, self.buffer, receiver, wall=lambda: self.wall_s)

    async def look(self) -> None:
        """One scrape, 15 s after the one before."""
        for number, part in enumerate(self._parts):
            part.inc(number % 7)
        self.wall_s += INTERVAL_S
        await self.remote.scrape()

    async def ship(self) -> None:
        while await self.remote.ship():
            pass


async def outage(folder: Path, looks: int) -> dict[str, float]:
    """One outage. Figures by name."""
    process, config = psutil.Process(), TelemetryConfig(remote_write_url="http://unused/")
    with Prometheus(folder / "prometheus") as prometheus:
        stage = Stage(prometheus, folder / "spool", config)
        await stage.look()
        await stage.ship()
        prometheus.kill()
        _measure_peak_anew()
        before, cpu = process.memory_info().rss, sum(process.cpu_times()[:2])
        for _ in range(looks):
            await stage.look()
            await stage.remote.ship()
        spooled = stage.buffer.figures()
        look_cpu_s = (sum(process.cpu_times()[:2]) - cpu) / looks
        prometheus.start()
        began = time.perf_counter()
        await stage.ship()
        drained_s = time.perf_counter() - began
        grown = peak_rss_bytes(process.pid) - before
        have = prometheus.count(_TIER)
        await stage.remote.aclose()
    return {
        "lost": (looks + 1) * SERIES - have,
        "grown_mib": grown / _MIB,
        "look_cpu_ms": 1e3 * look_cpu_s,
        "drained_s": drained_s,
        "bytes_per_sample": spooled.disk_bytes / spooled.pending,
    }


def _measure_peak_anew() -> None:
    """Of the resident memory (proc(5), ``clear_refs``)."""
    Path("/proc/self/clear_refs").write_text("5")


async def _run(rounds: int, looks: int) -> list[Row]:
    runs = []
    for _ in range(rounds):
        folder = Path(tempfile.mkdtemp(prefix="headwater-bench-", dir="/var/tmp"))
        try:
            runs.append(await outage(folder, looks))
        finally:
            await asyncio.to_thread(shutil.rmtree, folder, ignore_errors=True)

    def row(name: str, unit: str, key: str, target: float | None = None) -> Row:
        values = [run[key] for run in runs]
        return Row(name=name, unit=unit, runs=values, target=target, higher_is_better=False)

    what = (
        f"outage of {looks * INTERVAL_S / 60:.0f} min, {SERIES:,} series every {INTERVAL_S:.0f} s"
    )
    return [
        row(f"{what}: samples lost", "", "lost", 0.0),
        row("the same: peak memory over that before", "MiB", "grown_mib", 16.0),
        row("the same: CPU of a look, the failed try included", "ms", "look_cpu_ms"),
        row("the same: until the receiver has all", "s", "drained_s"),
        row("the same: on disk", "B/sample", "bytes_per_sample"),
    ]


def main(*, quick: bool = False) -> None:
    """Measure and report."""
    machine, started = Machine(), time.monotonic()
    rows = asyncio.run(_run(1 if quick else 3, 10 if quick else int(OUTAGE_S / INTERVAL_S)))
    print(f"{report('remote_write', rows, machine)}, {time.monotonic() - started:.0f} s")
