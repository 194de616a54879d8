"""The gateway's metrics (Prometheus). Labels are bounded: no key, prompt or model from outside."""

from __future__ import annotations

from typing import TypeVar, cast

from prometheus_client import CollectorRegistry, Counter, Histogram
from prometheus_client.metrics import MetricWrapperBase

M = TypeVar("M", Counter, Histogram)

_TTFT_BUCKETS_S = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0)


class GatewayMetrics:
    """Counts what the gateway did."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self._children: dict[tuple[MetricWrapperBase, tuple[str, ...]], MetricWrapperBase] = {}
        self._answers = Counter(
            "headwater_gateway_answers",
            "Requests that a backend answered.",
            ["target", "outcome"],
            registry=registry,
        )
        self._refusals = Counter(
            "headwater_gateway_refusals", "Requests refused.", ["code"], registry=registry
        )
        self._tokens = Counter(
            "headwater_gateway_tokens", "Tokens charged.", ["target"], registry=registry
        )
        self._fallbacks = Counter(
            "headwater_gateway_fallbacks", "Backends passed over.", registry=registry
        )
        self._broken = Counter(
            "headwater_gateway_broken_streams", "Streams cut.", ["target"], registry=registry
        )
        self._ttft = Histogram(
            "headwater_gateway_ttft_seconds",
            "Time to first token.",
            ["target"],
            buckets=_TTFT_BUCKETS_S,
            registry=registry,
        )

    def _bound(self, metric: M, *labels: str) -> M:
        """A metric with its labels, looked up once: the library checks them anew every time."""
        found = self._children.get((metric, labels))
        if found is None:
            found = self._children[metric, labels] = metric.labels(*labels)
        return cast("M", found)

    def first_token(self, target: str, seconds: float) -> None:
        """A backend's first bytes arrived so long after the request."""
        self._bound(self._ttft, target).observe(seconds)

    def answered(self, target: str, outcome: str, tokens: int, fallbacks: int) -> None:
        """An answer ended: ``whole``, ``broken`` or ``failed``."""
        self._bound(self._answers, target, outcome).inc()
        self._bound(self._tokens, target).inc(tokens)
        self._fallbacks.inc(fallbacks)

    def broken(self, target: str) -> None:
        """A backend broke off after its first byte."""
        self._broken.labels(target).inc()

    def refused(self, code: str) -> None:
        """A request was refused; ``code`` is one of our own."""
        self._refusals.labels(code).inc()
