"""Metrics of an edge's artifact plane, read from its counters when they are asked for."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import asdict

from prometheus_client import CollectorRegistry, Counter
from prometheus_client.metrics_core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from edge_tier.cache.fill_config import CacheStats
from edge_tier.cache.store import StoreStats
from wire.sources.member import SOURCE_COUNTERS, SourceStats

_GAUGES = {"chunks", "used_bytes", "pinned_bytes", "capacity_bytes"}


class CacheCollector(Collector):
    """Cache, store and upstream sources as Prometheus metrics.

    Args:
        cache, store, sources: give the current figures.
        degraded: why something could not be stored; empty while all is well.
    """

    def __init__(
        self,
        cache: Callable[[], CacheStats],
        store: Callable[[], StoreStats],
        sources: Callable[[], tuple[SourceStats, ...]],
        *,
        degraded: Callable[[], str],
    ) -> None:
        self._cache = cache
        self._store = store
        self._sources = sources
        self._degraded = degraded

    def collect(self) -> Iterable[Metric]:
        """One family per figure."""
        yield GaugeMetricFamily(
            "headwater_edge_cache_degraded",
            "1 while something could not be stored.",
            value=float(bool(self._degraded())),
        )
        for name, value in asdict(self._cache()).items():
            yield CounterMetricFamily(f"headwater_edge_cache_{name}", name, value=value)
        for name, value in asdict(self._store()).items():
            family = GaugeMetricFamily if name in _GAUGES else CounterMetricFamily
            yield family(f"headwater_edge_store_{name}", name, value=value)
        for field in SOURCE_COUNTERS:
            figures = CounterMetricFamily(
                f"headwater_edge_source_{field}", field, labels=["source"]
            )
            for stats in self._sources():
                figures.add_metric([stats.name], getattr(stats, field))
            yield figures


class ServedBytes:
    """Counts what leaves the edge, by hit or forward."""

    def __init__(self, registry: CollectorRegistry) -> None:
        labels = ["kind", "cache"]
        self._bytes = Counter(
            "headwater_edge_served_bytes", "Bytes sent.", labels, registry=registry
        )
        self._answers = Counter(
            "headwater_edge_served", "Chunks and files sent.", labels, registry=registry
        )

    def served(self, kind: str, size: int, cache_status: str) -> None:
        """``cache_status`` as in RFC 9211; only its first word becomes a label."""
        cache = "hit" if cache_status.startswith("hit") else "fwd"
        self._bytes.labels(kind, cache).inc(size)
        self._answers.labels(kind, cache).inc()
