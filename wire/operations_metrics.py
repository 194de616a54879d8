"""What every tier tells of itself: its version, whether it is ready, what time it thinks it is, and
what its process takes."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from importlib import metadata

from prometheus_client import CollectorRegistry, ProcessCollector
from prometheus_client.core import GaugeMetricFamily
from prometheus_client.metrics_core import Metric
from prometheus_client.registry import Collector


class OperationsMetrics(Collector):
    """Read when they are asked for.

    Args:
        ready: why the process is not ready; None where it is.
        degraded: what does not work although it serves; empty while all is well.
        wall: seconds since 1970.
    """

    def __init__(
        self,
        registry: CollectorRegistry,
        ready: Callable[[], str | None],
        degraded: Callable[[], str] | None = None,
        wall: Callable[[], float] = time.time,
    ) -> None:
        self._ready = ready
        self._degraded = degraded
        self._wall = wall
        self._version = _version()
        registry.register(self)
        ProcessCollector(registry=registry)

    def collect(self) -> Iterator[Metric]:
        """One family for each."""
        build = GaugeMetricFamily(
            "headwater_build_info", "1, with the version that runs.", labels=["version"]
        )
        build.add_metric([self._version], 1.0)
        yield build
        yield GaugeMetricFamily(
            "headwater_ready",
            "1 where /readyz says yes.",
            value=float(self._ready() is None),
        )
        yield GaugeMetricFamily(
            "headwater_degraded",
            "1 where something does not work although the process serves; /readyz says what.",
            value=float(bool(self._degraded and self._degraded())),
        )
        yield GaugeMetricFamily(
            "headwater_clock_timestamp_seconds",
            "What time the machine thinks it is, in seconds since 1970.",
            value=self._wall(),
        )


def _version() -> str:
    try:
        return metadata.version("headwater")
    except metadata.PackageNotFoundError:
        return "unknown"
