from __future__ import annotations

from prometheus_client import CollectorRegistry, generate_latest

from edge_tier.cache.fill_config import CacheStats
from edge_tier.cache.store import StoreStats
from edge_tier.metrics import CacheCollector, ServedBytes
from wire.sources.member import SourceStats


def test_the_counters_of_the_cache_are_shown_as_they_are_now() -> None:
    registry = CollectorRegistry()
    stats = [CacheStats()]
    registry.register(
        CacheCollector(
            lambda: stats[0],
            lambda: StoreStats(chunks=3, used_bytes=4096, corrupt=1),
            lambda: (SourceStats("origin-1", chunks=2, bytes=99, mismatches=1),),
            degraded=lambda: "cannot store chunks: No space left on device",
        )
    )
    stats[0] = CacheStats(hits=5, misses=2)
    shown = generate_latest(registry).decode()
    for line in (
        "headwater_edge_cache_hits_total 5.0",
        "headwater_edge_cache_misses_total 2.0",
        "headwater_edge_store_chunks 3.0",
        "headwater_edge_cache_degraded 1.0",
        "headwater_edge_store_corrupt_total 1.0",
        'headwater_edge_source_bytes_total{source="origin-1"} 99.0',
        'headwater_edge_source_mismatches_total{source="origin-1"} 1.0',
    ):
        assert line in shown


def test_what_leaves_is_counted_by_hit_or_forward() -> None:
    registry = CollectorRegistry()
    served = ServedBytes(registry)
    served.served("chunk", 10, "hit; detail=verified")
    served.served("chunk", 5, "fwd=uri-miss; stored")
    shown = generate_latest(registry).decode()
    assert 'headwater_edge_served_bytes_total{cache="hit",kind="chunk"} 10.0' in shown
    assert 'headwater_edge_served_bytes_total{cache="fwd",kind="chunk"} 5.0' in shown
