"""What a worker's sources gave, for Prometheus: read from their own counters when scraped."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

from prometheus_client import CollectorRegistry
from prometheus_client.core import CounterMetricFamily
from prometheus_client.registry import Collector

from wire.sources.member import SOURCE_COUNTERS, SourceStats


class SourceMetrics(Collector):
    """``headwater_worker_source_{bytes,chunks,…}_total`` by source."""

    def __init__(
        self, registry: CollectorRegistry, stats: Callable[[], Sequence[SourceStats]]
    ) -> None:
        self._stats = stats
        registry.register(self)

    def collect(self) -> Iterator[CounterMetricFamily]:
        stats = self._stats()
        for figure, help_text in SOURCE_COUNTERS.items():
            name = f"headwater_worker_source_{figure}"
            family = CounterMetricFamily(name, help_text, labels=["source"])
            for source in stats:
                family.add_metric([source.name], getattr(source, figure))
            yield family
