"""How much an edge carries just now, for whoever decides how many edges and workers there are.

Read from what is there anyway when somebody asks, so a request pays nothing for it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

from prometheus_client import CollectorRegistry
from prometheus_client.core import GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from wire.workers import WorkerReport


class LoadMetrics(Collector):
    """Gauges of the prompt plane.

    Args:
        workers: those that this edge hears, one report for each of their models.
        streams: requests that are being answered now.
        limits_degraded: whether limits are this edge's own lease, because Redis is away.
        passed_over: workers, one for each of their models, whose breaker is not closed.
    """

    def __init__(
        self,
        registry: CollectorRegistry,
        workers: Callable[[], Sequence[WorkerReport]],
        streams: Callable[[], int],
        limits_degraded: Callable[[], bool] = lambda: False,
        passed_over: Callable[[], int] = int,
    ) -> None:
        self._workers = workers
        self._streams = streams
        self._limits_degraded = limits_degraded
        self._passed_over = passed_over
        registry.register(self)

    def collect(self) -> Iterator[Metric]:
        """The figures of now. Edges that hear the same workers tell the same of them: take the
        largest over the edges of a region, not the sum."""
        reports = self._workers()
        serving = [report for report in reports if report.state in ("ready", "asleep")]
        yield GaugeMetricFamily(
            "headwater_gateway_streams",
            "Requests that this edge is answering now.",
            value=self._streams(),
        )
        yield GaugeMetricFamily(
            "headwater_gateway_workers",
            "Workers that this edge hears and that serve a model.",
            value=len({report.worker for report in serving}),
        )
        yield GaugeMetricFamily(
            "headwater_gateway_workers_queue",
            "Requests that wait for a slot, at all workers that this edge hears.",
            value=sum(report.queue for report in reports),
        )
        yield GaugeMetricFamily(
            "headwater_gateway_workers_slots",
            "Requests that these workers can run at once.",
            value=sum(report.slots for report in serving),
        )
        yield GaugeMetricFamily(
            "headwater_gateway_limits_degraded",
            "1 while Redis is away and each edge gives out its lease of the limits.",
            value=float(self._limits_degraded()),
        )
        yield GaugeMetricFamily(
            "headwater_gateway_breakers_open",
            "Workers, one for each of their models, whose breaker is not closed.",
            value=self._passed_over(),
        )
