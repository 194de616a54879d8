"""What remote write says of itself; on ``/metrics``, and among what it sends."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable

from prometheus_client.metrics_core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from wire.telemetry.buffer import Buffer
from wire.telemetry.pipeline import RemoteWrite

_PREFIX = "headwater_telemetry"


class TelemetryCollector(Collector):
    """Args:
    clock: that of ``remote``, monotonic seconds.
    wall: Unix seconds.
    """

    def __init__(
        self,
        remote: RemoteWrite,
        buffer: Buffer,
        *,
        clock: Callable[[], float] = time.monotonic,
        wall: Callable[[], float] = time.time,
    ) -> None:
        self._remote = remote
        self._buffer = buffer
        self._clock = clock
        self._wall = wall

    def collect(self) -> Iterable[Metric]:
        """One family per figure."""
        figures, wall = self._buffer.figures(), self._wall()
        samples = CounterMetricFamily(
            f"{_PREFIX}_samples",
            "Samples by what became of them, over restarts: sent, rejected by the receiver, or "
            "dropped for want of room.",
            labels=["outcome"],
        )
        for outcome in ("sent", "rejected", "dropped"):
            samples.add_metric([outcome], getattr(figures.counts, outcome))
        yield samples
        oldest_s = max(0.0, wall - figures.oldest_ms / 1000) if figures.oldest_ms else 0.0
        last_s = self._remote.shipper.last_success_s
        success = wall - (self._clock() - last_s) if last_s is not None else 0.0
        yield CounterMetricFamily(
            f"{_PREFIX}_clock_corrections",
            "Scrapes at which the clock was not after the scrape before.",
            value=self._remote.stamps.corrected,
        )
        for name, text, value in (
            ("pending_samples", "Samples that wait to be sent.", figures.pending),
            ("spool_bytes", "Bytes of the spool on disk.", figures.disk_bytes),
            ("memory_bytes", "Bytes that wait in memory, for the disk.", figures.memory_bytes),
            ("oldest_seconds", "Age of the oldest sample that waits.", oldest_s),
            ("last_success_timestamp_seconds", "When a batch was last taken; 0: never.", success),
            ("spool_degraded", "1 while the disk takes nothing.", float(bool(figures.problem))),
        ):
            yield GaugeMetricFamily(f"{_PREFIX}_{name}", text, value=value)
