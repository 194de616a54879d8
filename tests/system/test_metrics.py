"""A real Prometheus scrapes a real system: the page of metrics is whole, and nothing that rules and
dashboards ask is refused."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from urllib.parse import urlsplit

import pytest
import yaml
from openai import NotFoundError

from infra.grafana.dashboards import DASHBOARDS
from tests.fakes.fleet import Fleet, eventually
from tests.fakes.metric_names import (
    ask,
    asked_for,
    family_of,
    grouped,
    labels_on_page,
    matched,
    on_page,
    scrape,
)
from tests.fakes.prometheus import Prometheus
from tests.fakes.rare_metrics import labels, rare

ROOT = Path(__file__).resolve().parents[2]
TIERS = ("origin", "edge", "worker")
VARIABLES = {"$__rate_interval": "1m", "$__range": "1h"}
TELEMETRY = "headwater_telemetry_"
GIVEN = frozenset({"job", "instance", "region", "le"})
"""Labels that Prometheus gives, not the tiers."""
TOLD_WHERE_SENT = frozenset(
    {
        "headwater_telemetry_oldest_seconds",
        "headwater_telemetry_samples",
        "headwater_telemetry_spool_degraded",
    }
)
"""What rules and panels ask for, and a system that sends its metrics nowhere does not have."""


def rules() -> list[str]:
    files = (ROOT / "infra/prometheus/rules").glob("*.yml")
    groups = [group for file in files for group in yaml.safe_load(file.read_text())["groups"]]
    return [rule["expr"] for group in groups for rule in group["rules"]]


def panels() -> list[str]:
    found = [
        target["expr"]
        for one in DASHBOARDS.values()
        for panel in one["panels"]
        for target in panel.get("targets", ())
    ]
    for name, value in VARIABLES.items():
        found = [expression.replace(name, value) for expression in found]
    return [re.sub(r"\$\w+", ".*", expression) for expression in found]


def config(fleet: Fleet) -> str:
    jobs = [
        {
            "job_name": f"headwater-{tier}",
            "scrape_interval": "500ms",
            "scrape_timeout": "500ms",
            "static_configs": [{"targets": [urlsplit(getattr(fleet.urls, tier)).netloc]}],
        }
        for tier in TIERS
    ]
    return yaml.safe_dump({"scrape_configs": jobs})


def test_every_rule_and_panel_is_answered(fleet: Fleet, tmp_path: Path) -> None:
    with Prometheus(tmp_path / "prometheus", config(fleet)) as prometheus:
        eventually(lambda: prometheus.query("sum(up)")[:1] != [], 20)
        eventually(lambda: prometheus.query("sum(up)")[0]["value"][1] == "3", 20)
        for expression in [*rules(), *panels()]:
            prometheus.query(expression)
        # A scrape that a busy machine misses leaves the metric away until the next one.
        eventually(lambda: prometheus.query("absent(headwater_gateway_workers)") == [], 20)
        with pytest.raises(AssertionError, match="parse error"):
            prometheus.query("sum by (headwater_ready")


def wrong_labels(expression: str, labels: Mapping[str, set[str]]) -> set[str]:
    """Labels that an expression asks for and no series of its metrics has."""
    known = {name: labels[name] for name in asked_for(expression) if name in labels}
    wrong = {
        label for name, label in matched(expression) if name in known and label not in known[name]
    }
    if known:
        wrong |= grouped(expression) - set().union(*known.values())
    return wrong - GIVEN


def test_every_label_of_a_rule_or_panel_is_one_of_its_metric(fleet: Fleet) -> None:
    ask(fleet, "auto")
    with pytest.raises(NotFoundError):
        ask(fleet, "nobody")
    known: dict[str, set[str]] = {}
    for found in labels(scrape(fleet)).values():
        for name, its in found.items():
            known.setdefault(name, set()).update(its)
    asked = {name for one in [*rules(), *panels()] for name in asked_for(one)}
    unseen = {name for name in asked - known.keys() if ":" not in name}
    assert unseen - TOLD_WHERE_SENT - {"up"} == set()
    for expression in [*rules(), *panels()]:
        assert wrong_labels(expression, known) == set(), expression


def test_a_label_that_does_not_exist_is_seen() -> None:
    expression = 'sum by (region, colour) (rate(headwater_x_total{shape="1",kind!="a"}[5m]))'
    assert wrong_labels(expression, {"headwater_x": {"kind"}}) == {"colour", "shape"}


def test_the_page_has_what_every_tier_tells(fleet: Fleet) -> None:
    page = on_page((ROOT / "docs/reference/metrics.md").read_text())
    told = scrape(fleet)
    for tier in TIERS:
        written = {family_of(name) for name in page[tier]}
        now = {family_of(name) for name in told[tier]}
        assert now - written == set(), f"{tier}: run `make docs-metrics`"
        # What is sent away says so only where a receiver is configured.
        gone = {name for name in written - now if not name.startswith(TELEMETRY)}
        assert gone == set(), f"{tier}: run `make docs-metrics`"


def test_the_page_has_the_labels_of_every_metric(fleet: Fleet) -> None:
    ask(fleet, "auto")
    page = labels_on_page((ROOT / "docs/reference/metrics.md").read_text())
    told, seldom = scrape(fleet), rare()
    now = labels(told)
    for tier in TIERS:
        mute = {name for name, family in told[tier].items() if not family.samples}
        assert mute - seldom[tier].keys() == set(), f"{tier}: tell them in rare_metrics.py"
        for name, its in now[tier].items():
            assert page[tier].get(name) == its, f"{name}: run `make docs-metrics`"
