"""What Prometheus sees of a running system: the page of metrics is true, and every query of the
dashboards and rules is one that a real Prometheus answers."""

from __future__ import annotations

import json
import shutil
import urllib.parse
import urllib.request
from pathlib import Path
from typing import Any

import pytest
import yaml

from infra.grafana.dashboards import DASHBOARDS
from tests.fakes.fleet import Fleet, eventually
from tests.fakes.metric_names import draw, on_page, scrape
from tests.fakes.metric_page import PAGE
from tests.fakes.prometheus import Prometheus

RULES = Path(__file__).resolve().parents[2] / "infra" / "prometheus" / "rules"


def test_the_page_of_metrics_is_true(fleet: Fleet) -> None:
    told, found = on_page(PAGE.read_text()), on_page(draw(scrape(fleet)))
    for tier, names in found.items():
        assert names <= told[tier], "run `make docs-metrics`"
        only_when_on = {n for n in told[tier] - names if n.startswith("headwater_telemetry_")}
        assert told[tier] - names == only_when_on


def expressions() -> list[str]:
    panels = [panel for one in DASHBOARDS.values() for panel in one["panels"]]
    queries = [target["expr"] for panel in panels for target in panel.get("targets", ())]
    files = [yaml.safe_load(file.read_text()) for file in RULES.glob("*.yml")]
    rules = [rule["expr"] for file in files for group in file["groups"] for rule in group["rules"]]
    shown = [q.replace("$__rate_interval", "10s").replace("$region", ".*") for q in queries]
    return shown + rules


@pytest.mark.skipif(shutil.which("prometheus") is None, reason="no prometheus here")
def test_a_real_prometheus_answers_every_query(fleet: Fleet, tmp_path: Path) -> None:
    prometheus = Prometheus(tmp_path / "prometheus")
    targets = {
        tier: urllib.parse.urlsplit(getattr(fleet.urls, tier)).netloc
        for tier in ("origin", "edge", "worker")
    }
    jobs = [
        {"job_name": f"headwater-{tier}", "static_configs": [{"targets": [where]}]}
        for tier, where in targets.items()
    ]
    times = {"scrape_interval": "500ms", "scrape_timeout": "500ms"}
    config = {"global": times, "scrape_configs": jobs}
    (tmp_path / "prometheus" / "prometheus.yml").write_text(json.dumps(config))
    with fleet.openai() as client:
        question = [{"role": "user", "content": "What is the capital of France?"}]
        client.chat.completions.create(model="auto", messages=question)  # type: ignore[arg-type]
    with prometheus:
        eventually(lambda: len(ask(prometheus, "up == 1")) == len(targets), 20)
        assert ask(prometheus, "headwater_ready == 1")
        for expression in expressions():
            ask(prometheus, expression)


def ask(prometheus: Prometheus, expression: str) -> list[Any]:
    """An instant query's result. Fails where Prometheus finds it wrong."""
    query = urllib.parse.urlencode({"query": expression})
    with urllib.request.urlopen(f"{prometheus.url}/api/v1/query?{query}", timeout=10) as answer:
        body = json.load(answer)
    assert body["status"] == "success", expression
    return list(body["data"]["result"])
