from __future__ import annotations

from prometheus_client import CollectorRegistry, generate_latest

from edge_tier.gateway.metrics import GatewayMetrics


def test_what_is_told_is_shown() -> None:
    registry = CollectorRegistry()
    metrics = GatewayMetrics(registry)
    metrics.first_token("worker", 0.02)
    metrics.answered("worker", "whole", 12, 1)
    metrics.broken("cloud")
    metrics.refused("rate_limit_exceeded")
    shown = generate_latest(registry).decode()
    for line in (
        'headwater_gateway_answers_total{outcome="whole",target="worker"} 1.0',
        'headwater_gateway_tokens_total{target="worker"} 12.0',
        "headwater_gateway_fallbacks_total 1.0",
        'headwater_gateway_broken_streams_total{target="cloud"} 1.0',
        'headwater_gateway_refusals_total{code="rate_limit_exceeded"} 1.0',
        'headwater_gateway_ttft_seconds_bucket{le="0.025",target="worker"} 1.0',
    ):
        assert line in shown
