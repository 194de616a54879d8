"""The forms that all panels share."""

from __future__ import annotations

from infra.grafana.queries import EDGES, ORIGIN, quantile, rate


def test_a_rate_follows_what_was_chosen_unless_told_otherwise() -> None:
    chosen = 'region=~"$region",instance=~"$instance"'
    assert rate("x_total", "kind") == f"sum by (kind) (rate(x_total{{{chosen}}}[$__rate_interval]))"
    assert rate("x_total", "a, b", ORIGIN) == (
        'sum by (a, b) (rate(x_total{instance=~"$instance"}[$__rate_interval]))'
    )


def test_a_quantile_is_taken_over_the_sum_of_buckets() -> None:
    buckets = rate("x_seconds_bucket", "le, instance", EDGES)
    found = quantile(0.9, "x_seconds", "instance", EDGES)
    assert found == f"histogram_quantile(0.9, {buckets})"
