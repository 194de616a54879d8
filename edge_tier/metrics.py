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
_CACHE_HELP = {
    "hits": "Chunks that were there.",
    "hit_bytes": "Bytes of chunks that were there.",
    "misses": "Chunks that were not there.",
    "collapsed": "Misses that shared somebody else's fetch.",
    "fetched": "Chunks fetched from a source.",
    "fetched_bytes": "Bytes of chunks fetched from a source.",
    "mismatches": "Fetches that brought other bytes than asked for.",
    "failures": "Fetches that failed otherwise.",
    "ahead": "Chunks fetched before they were asked for.",
    "ahead_dropped": "Chunks announced that there was no room to fetch ahead.",
    "ahead_failures": "Fetches ahead that failed.",
    "manifest_hits": "Manifests that were there.",
    "manifest_misses": "Manifests that were not there.",
}
_STORE_HELP = {
    "chunks": "Chunks in the store.",
    "used_bytes": "Bytes that they take.",
    "pinned_bytes": "Bytes of those that are pinned.",
    "capacity_bytes": "Bytes that the store may take.",
    "stored": "Chunks stored.",
    "evicted": "Chunks evicted for others.",
    "refused": "Chunks not stored because pinned ones left no room.",
    "corrupt": "Stored chunks found rotten, and dropped.",
    "vanished": "Files that somebody else removed.",
    "store_errors": "Chunks that the disk did not take.",
    "read_errors": "Chunks that the disk did not give back.",
    "leftovers": "Unfinished files found at the start.",
}


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
            text = _CACHE_HELP[name]
            yield CounterMetricFamily(f"headwater_edge_cache_{name}", text, value=value)
        for name, value in asdict(self._store()).items():
            family = GaugeMetricFamily if name in _GAUGES else CounterMetricFamily
            yield family(f"headwater_edge_store_{name}", _STORE_HELP[name], value=value)
        for field, text in SOURCE_COUNTERS.items():
            figures = CounterMetricFamily(f"headwater_edge_source_{field}", text, labels=["source"])
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
