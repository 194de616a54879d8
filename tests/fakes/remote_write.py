"""Remote write in a test's hands: its clocks, its registry, its receiver."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from pathlib import Path

from prometheus_client import CollectorRegistry, Counter
from prometheus_client.metrics_core import GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from tests.fakes.clock import ManualClock
from tests.fakes.receivers import MemoryReceiver
from wire.telemetry.buffer import Buffer
from wire.telemetry.config import TelemetryConfig
from wire.telemetry.pipeline import RemoteWrite
from wire.telemetry.samples import Sampler
from wire.telemetry.self_metrics import TelemetryCollector
from wire.telemetry.spool import Spool

SERIES = 50


class Rig:
    """Remote write of a registry in which ``tick`` counts its scrapes."""

    def __init__(
        self,
        folder: Path,
        receiver: MemoryReceiver,
        *,
        interval_s: float = 15.0,
        cap: int = 1 << 24,
        clock: Callable[[], float] | None = None,
    ) -> None:
        self.wall = ManualClock(1_700_000_000.0)
        self.hand = ManualClock(0.0)
        self.clock = clock or self.hand
        self.receiver = receiver
        self.registry = CollectorRegistry()
        self.registry.register(_Ticks())
        wide = Counter("wide", "", ["n"], registry=self.registry)
        for number in range(SERIES):
            wide.labels(str(number)).inc(number)
        config = TelemetryConfig(
            interval_s=interval_s, batch_samples=20, backoff_s=0.01, max_backoff_s=0.02
        )
        self.buffer = Buffer(
            lambda: Spool(folder, most_bytes=cap, segment_bytes=1_000, fsync="never"), 1 << 20
        )
        sampler = Sampler(self.registry, {"tier": "test"}, max_series=1_000)
        self.remote = RemoteWrite(
            config, sampler, self.buffer, receiver, clock=self.clock, wall=self.wall
        )
        self.registry.register(
            TelemetryCollector(self.remote, self.buffer, clock=self.clock, wall=self.wall)
        )

    async def scrape(self, times: int = 1) -> None:
        for _ in range(times):
            self.wall.advance(15)
            self.hand.advance(15)
            await self.remote.scrape()

    async def ship_all(self) -> None:
        while await self.remote.ship():
            pass

    def sample(self, name: str, **labels: str) -> float | None:
        return self.registry.get_sample_value(f"headwater_telemetry_{name}", labels)


class _Ticks(Collector):
    def __init__(self) -> None:
        self.number = 0

    def collect(self) -> Iterable[Metric]:
        self.number += 1
        yield GaugeMetricFamily("tick", "", value=self.number)

    def describe(self) -> Iterable[Metric]:
        return []
