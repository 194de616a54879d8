"""How old the keys are that tokens are checked with, and whether newer ones can be had."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator

from prometheus_client import CollectorRegistry
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from edge_tier.gateway.jwks import KeyHealth


class KeyMetrics(Collector):
    """Read when they are asked for. Where no tokens are accepted the families are empty.

    Args:
        health: by issuer, of which there are as many as the configuration names.
    """

    def __init__(
        self, registry: CollectorRegistry, health: Callable[[], dict[str, KeyHealth]]
    ) -> None:
        self._health = health
        registry.register(self)

    def collect(self) -> Iterator[Metric]:
        """The figures of now."""
        keys = _gauge("keys", "Keys in force; 0: no token can be checked.")
        age = _gauge(
            "age_seconds",
            "Since the keys were last fetched well; of a file, since it has been unusable, or 0.",
        )
        refresh = _gauge(
            "refresh_seconds", "How often they are fetched; 0: a file, read when it changes."
        )
        limit = _gauge(
            "max_stale_seconds", "At which age the keys are given up; a file's never are."
        )
        reads = CounterMetricFamily(
            "headwater_gateway_jwks_reads",
            "Times that the keys were fetched or read: ok, failed.",
            labels=["issuer", "outcome"],
        )
        for issuer, now in self._health().items():
            keys.add_metric([issuer], now.keys)
            age.add_metric([issuer], now.age_s)
            refresh.add_metric([issuer], now.refresh_s)
            if not math.isinf(now.max_stale_s):
                limit.add_metric([issuer], now.max_stale_s)
            reads.add_metric([issuer, "ok"], now.read)
            reads.add_metric([issuer, "failed"], now.failed)
        yield from (keys, age, refresh, limit, reads)


def _gauge(name: str, text: str) -> GaugeMetricFamily:
    return GaugeMetricFamily(f"headwater_gateway_jwks_{name}", text, labels=["issuer"])
