from __future__ import annotations

import msgspec
from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.parser import text_string_to_metric_families

from edge_tier.gateway.metrics import GatewayMetrics
from wire.fleet import MAX_ROUTES, PromptFigures


def shown(registry: CollectorRegistry) -> dict[str, float]:
    """Samples by name and labels, as a scraper reads them."""
    families = text_string_to_metric_families(generate_latest(registry).decode())
    return {
        sample.name + str(sorted(sample.labels.items())): sample.value
        for family in families
        for sample in family.samples
    }


def test_what_is_told_is_shown() -> None:
    registry = CollectorRegistry()
    metrics = GatewayMetrics(registry)
    metrics.first_token("worker", 0.02)
    metrics.answered(
        operation="chat",
        target="worker",
        outcome="whole",
        why="named",
        usage=(10, 2),
        seconds=0.3,
        after_first_s=0.1,
    )
    metrics.passed_over(1, hedged=True)
    metrics.broken("cloud")
    metrics.refused("rate_limit_exceeded")
    metrics.found({("email", "flag"): 2})
    metrics.hybrid("gate", "passed")
    samples = shown(registry)
    expected = {
        "headwater_gateway_answers_total[('outcome', 'whole'), ('target', 'worker')]": 1,
        "headwater_gateway_tokens_total[('target', 'worker')]": 12,
        "headwater_gateway_fallbacks_total[]": 1,
        "headwater_gateway_hedges_total[]": 1,
        "headwater_gateway_broken_streams_total[('target', 'cloud')]": 1,
        "headwater_gateway_refusals_total[('code', 'rate_limit_exceeded')]": 1,
        "headwater_gateway_findings_total[('action', 'flag'), ('kind', 'email')]": 2,
        "headwater_gateway_hybrid_total[('mode', 'gate'), ('outcome', 'passed')]": 1,
        "gen_ai_server_time_to_first_token_seconds_bucket[('le', '0.01'), ('target', 'worker')]": 0,
        "gen_ai_server_time_to_first_token_seconds_bucket[('le', '0.02'), ('target', 'worker')]": 1,
        "gen_ai_server_time_to_first_token_seconds_sum[('target', 'worker')]": 0.02,
        "gen_ai_server_time_per_output_token_seconds_sum[('target', 'worker')]": 0.1,
        "gen_ai_client_token_usage_sum[('gen_ai_token_type', 'input'), ('target', 'worker')]": 10,
    }
    assert {name: samples.get(name) for name in expected} == expected


def test_the_gateways_own_time_leaves_out_how_long_the_body_took_to_come() -> None:
    registry = CollectorRegistry()
    metrics = GatewayMetrics(registry)
    metrics.admitted([("auth", 0.1), ("read", 900.0), ("parse", 0.2)])
    samples = shown(registry)
    assert round(samples["headwater_gateway_overhead_seconds_sum[]"], 9) == 0.0003
    assert samples["headwater_gateway_stage_seconds_count[('stage', 'parse')]"] == 1
    assert samples["headwater_gateway_stage_seconds_sum[('stage', 'read')]"] == 0.9


def test_a_histogram_counts_every_value_once_and_in_every_bucket_above_it() -> None:
    registry = CollectorRegistry()
    metrics = GatewayMetrics(registry)
    for seconds in (0.0, 0.001, 9.9, 1e9):
        metrics.first_token("cloud", seconds)
    samples = shown(registry)
    name = "gen_ai_server_time_to_first_token_seconds_bucket[('le', '{}'), ('target', 'cloud')]"
    assert [samples[name.format(le)] for le in ("0.001", "0.005", "10.0", "+Inf")] == [2, 2, 3, 4]


def test_nothing_told_is_nothing_shown_but_plain_counters() -> None:
    registry = CollectorRegistry()
    GatewayMetrics(registry)
    assert shown(registry) == {
        "headwater_gateway_fallbacks_total[]": 0,
        "headwater_gateway_hedges_total[]": 0,
    }


def ended(
    metrics: GatewayMetrics, outcome: str, why: str = "named", target: str = "worker"
) -> None:
    metrics.answered(
        operation="chat",
        target=target,
        outcome=outcome,
        why=why,
        usage=(1, 1),
        seconds=0.1,
        after_first_s=0.0,
    )


def test_the_origin_is_told_how_requests_went_and_how_many_are_under_way() -> None:
    metrics = GatewayMetrics(CollectorRegistry())
    assert metrics.figures() == PromptFigures()
    for _ in range(6):
        metrics.admitted([("auth", 0.04), ("read", 90.0), ("parse", 300.0)])
    for outcome in ("whole", "whole", "broken", "failed", "gone"):
        ended(metrics, outcome)
    metrics.refused("rate_limit_exceeded")
    metrics.first_token("worker", 0.03)
    metrics.first_token("cloud", 60.0)
    told = metrics.figures()
    assert (told.answered, told.failed, told.gone, told.refused) == (2, 2, 1, 1)
    assert told.streams == 1
    assert {place for place, count in enumerate(told.first_token) if count} == {4, 16}
    assert [stage.name for stage in told.stages] == ["auth", "read", "parse"]
    auth, read, parse = (stage.counts for stage in told.stages)
    assert (auth[0], read[11], parse[12]) == (6, 6, 6)
    assert [round(stage.total_ms, 6) for stage in told.stages] == [0.24, 540.0, 1_800.0]
    assert msgspec.json.decode(msgspec.json.encode(told), type=PromptFigures) == told


def test_where_requests_went_and_why_is_counted() -> None:
    registry = CollectorRegistry()
    metrics = GatewayMetrics(registry)
    for why in ("complexity", "named", "complexity"):
        ended(metrics, "whole", why)
    ended(metrics, "failed", "row night", target="none")
    routes = [(r.target, r.reason, r.count) for r in metrics.figures().routes]
    assert routes == [
        ("worker", "complexity", 2),
        ("worker", "named", 1),
        ("none", "row night", 1),
    ]
    name = "headwater_gateway_routes_total[('reason', 'complexity'), ('target', 'worker')]"
    assert shown(registry)[name] == 2


def test_rows_of_policies_that_come_and_go_do_not_pile_up() -> None:
    registry = CollectorRegistry()
    metrics = GatewayMetrics(registry)
    for number in range(1_000):
        ended(metrics, "whole", f"row {number}")
    rows = [name for name in shown(registry) if name.startswith("headwater_gateway_routes_total")]
    assert len(rows) == 257
    told = metrics.figures().routes
    assert len(told) == MAX_ROUTES
    assert (told[0].reason, told[0].count) == ("other", 744)
