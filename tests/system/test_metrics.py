"""A real Prometheus scrapes a real system: the page of metrics is whole, and nothing that rules and
dashboards ask is refused."""

from __future__ import annotations

import re
from pathlib import Path
from urllib.parse import urlsplit

import pytest
import yaml

from infra.grafana.dashboards import DASHBOARDS
from tests.fakes.fleet import Fleet, eventually
from tests.fakes.metric_names import family_of, on_page, scrape
from tests.fakes.prometheus import Prometheus

ROOT = Path(__file__).resolve().parents[2]
TIERS = ("origin", "edge", "worker")
VARIABLES = {"$__rate_interval": "1m", "$__range": "1h"}
TELEMETRY = "headwater_telemetry_"


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
            "scrape_interval": "200ms",
            "scrape_timeout": "200ms",
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
        assert prometheus.query("absent(headwater_gateway_workers)") == []
        with pytest.raises(AssertionError, match="parse error"):
            prometheus.query("sum by (headwater_ready")


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
