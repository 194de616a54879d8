from __future__ import annotations

from prometheus_client import CollectorRegistry, generate_latest

from gpu_worker.source_metrics import SourceMetrics
from wire.sources.member import SourceStats


def test_every_source_is_counted_as_it_counts_itself() -> None:
    registry = CollectorRegistry()
    stats = [SourceStats("edge:1", chunks=3, bytes=300, mismatches=1, failures=2)]
    SourceMetrics(registry, lambda: stats)
    stats.append(SourceStats("edge:2"))
    lines = set(generate_latest(registry).decode().splitlines())
    assert {
        'headwater_worker_source_bytes_total{source="edge:1"} 300.0',
        'headwater_worker_source_chunks_total{source="edge:1"} 3.0',
        'headwater_worker_source_mismatches_total{source="edge:1"} 1.0',
        'headwater_worker_source_failures_total{source="edge:1"} 2.0',
        'headwater_worker_source_mismatches_total{source="edge:2"} 0.0',
    } <= lines
