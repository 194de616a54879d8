"""The health of keys as figures, and nothing where there are no keys."""

from __future__ import annotations

from prometheus_client import CollectorRegistry

from edge_tier.gateway.jwks import KeyHealth
from edge_tier.gateway.jwks_metrics import KeyMetrics

PREFIX = "headwater_gateway_jwks_"


def test_each_issuer_has_its_figures() -> None:
    registry = CollectorRegistry()
    url = KeyHealth(keys=2, age_s=70, read=5, failed=3, refresh_s=300, max_stale_s=86_400)
    health = {"https://id": url, "file": KeyHealth(keys=1, age_s=0, read=1, failed=0)}
    KeyMetrics(registry, lambda: health)

    def told(name: str, issuer: str = "https://id", **labels: str) -> float | None:
        return registry.get_sample_value(PREFIX + name, {"issuer": issuer, **labels})

    assert (told("keys"), told("age_seconds"), told("refresh_seconds")) == (2, 70, 300)
    assert (told("max_stale_seconds"), told("max_stale_seconds", "file")) == (86_400, None)
    assert told("reads_total", outcome="ok") == 5
    assert told("reads_total", outcome="failed") == 3
    assert told("reads_total", "file", outcome="failed") == 0


def test_without_tokens_the_families_are_empty() -> None:
    registry = CollectorRegistry()
    KeyMetrics(registry, dict)
    assert [len(family.samples) for family in registry.collect()] == [0] * 5
