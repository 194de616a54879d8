"""Volumes as people write them, as an edge's own metrics have them, as Prometheus answers."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from prometheus_client import CollectorRegistry, generate_latest

from edge_tier.gateway.metrics import GatewayMetrics
from infra.cost_prices import DAYS_PER_MONTH
from infra.cost_volume import count, from_answer, from_page, per_month, query
from wire.errors import ConfigError


def page() -> str:
    """What an edge serves after two answers."""
    registry = CollectorRegistry()
    metrics = GatewayMetrics(registry)
    for target, usage in (("worker", (1_000, 200)), ("cloud", (3_000, 800))):
        metrics.answered(
            operation="chat", target=target, outcome="whole", why="rule", usage=usage,
            seconds=1.0, after_first_s=0.5,
        )  # fmt: skip
    return generate_latest(registry).decode()


@pytest.mark.parametrize(
    ("text", "value"),
    [("2B", 2e9), ("300M", 3e8), ("1.5k", 1_500), ("40_000", 40_000), ("0", 0), ("1T", 1e12)],
)
def test_counts(text: str, value: float) -> None:
    assert count(text) == pytest.approx(value)


@given(st.text(max_size=12))
def test_what_is_no_count_is_refused(text: str) -> None:
    try:
        assert count(text) >= 0
    except ConfigError:
        return


def test_periods() -> None:
    assert per_month(1, "day") == pytest.approx(DAYS_PER_MONTH)
    assert per_month(12, "year") == pytest.approx(1)
    with pytest.raises(ConfigError, match="week"):
        per_month(1, "hour")


def test_an_edges_own_page_by_its_own_code() -> None:
    found = from_page(page(), 0.0, "edge", days=10)
    assert found.prompt == {"worker": 1_000, "cloud": 3_000}
    assert found.output == {"worker": 200, "cloud": 800}
    assert found.share_local == pytest.approx(1_200 / 5_000)
    assert found.monthly().prompt_tokens == pytest.approx(4_000 * DAYS_PER_MONTH / 10)


def test_since_when_it_counts_must_be_known() -> None:
    with pytest.raises(ConfigError, match="--days"):
        from_page(page(), 0.0, "edge")
    started = page() + "process_start_time_seconds 1000\n"
    assert from_page(started, 1_000 + 86_400 * 2, "edge").days == pytest.approx(2)


@pytest.mark.parametrize("text", ["", "a b c d e", "other_metric 1\n"])
def test_another_page_is_refused(text: str) -> None:
    with pytest.raises(ConfigError):
        from_page(text, 0.0, "edge", days=1)


def test_prometheus_answer() -> None:
    rows = [
        {"metric": {"gen_ai_token_type": kind, "target": target}, "value": [0, value]}
        for kind, target, value in (("input", "worker", "60"), ("output", "cloud", "40"))
    ]
    found = from_answer({"data": {"result": rows}}, 30, "prometheus")
    assert found.share_local == pytest.approx(0.6)
    assert "[720h]" in query(30)
    assert "[1h]" in query(0.001)


@pytest.mark.parametrize(
    "answer",
    [
        {},
        [],
        None,
        {"data": {"result": [{"metric": {}, "value": ["x"]}]}},
        {"data": {"result": []}},
    ],
)
def test_what_is_no_such_answer_is_refused(answer: object) -> None:
    with pytest.raises(ConfigError):
        from_answer(answer, 30, "prometheus")
