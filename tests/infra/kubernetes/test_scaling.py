"""What scales asks for figures that exist, and its arithmetic is that of the how-to."""

from __future__ import annotations

import re
import shutil
import subprocess
from pathlib import Path

import pytest
import yaml
from prometheus_client import CollectorRegistry, generate_latest

from edge_tier.gateway.load_metrics import LoadMetrics
from gpu_worker.metrics import WorkerMetrics
from tests.fakes.kubernetes import ROOT, Object, configuration, named, overlay, pod

REGIONS = ("eu-west", "us-east")
_NAME = re.compile(r"\b(?:headwater|gen_ai)_[a-z_]+\b")


def exposed() -> set[str]:
    """Names of what an edge and a worker measure of their load, as Prometheus reads them."""
    registry = CollectorRegistry()
    LoadMetrics(registry, list, lambda: 0)
    WorkerMetrics(registry, [])
    text = generate_latest(registry).decode()
    return {line.split("{")[0].split()[0] for line in text.splitlines() if line[0] != "#"}


def adapter_rule() -> dict[str, object]:
    text = (ROOT / "components" / "autoscaling" / "adapter-rules.yaml").read_text()
    (rule,) = yaml.safe_load(text)["rules"]["custom"]
    assert isinstance(rule, dict)
    return rule


def queries(objects: list[Object]) -> list[str]:
    triggers = named(objects, "ScaledObject", "worker")["spec"]["triggers"]
    return [trigger["metadata"]["query"] for trigger in triggers]


def pod_metrics(objects: list[Object]) -> dict[str, float]:
    """Name and target of what the edges' autoscaler wants to know of each pod."""
    metrics = named(objects, "HorizontalPodAutoscaler", "edge")["spec"]["metrics"]
    return {
        metric["pods"]["metric"]["name"]: float(metric["pods"]["target"]["averageValue"])
        for metric in metrics
        if metric["type"] == "Pods"
    }


@pytest.mark.parametrize("name", REGIONS)
def test_every_figure_that_scales_exists(name: str) -> None:
    objects = overlay(name)
    asked = {found for query in queries(objects) for found in _NAME.findall(query)}
    asked |= set(pod_metrics(objects))
    assert asked == {
        "headwater_worker_queue",
        "headwater_worker_busy",
        "headwater_gateway_streams",
    }
    assert asked <= exposed()


def test_the_adapter_gives_the_autoscaler_what_it_asks_for() -> None:
    rule = adapter_rule()
    (wanted,) = pod_metrics(overlay("eu-west"))
    assert isinstance(rule["name"], dict)
    assert rule["name"] == {"matches": f"^{wanted}$", "as": wanted}
    assert str(rule["seriesQuery"]).startswith(f'{wanted}{{namespace!=""')


def test_a_region_without_the_component_scales_by_cpu_only() -> None:
    assert pod_metrics(overlay("eu-west"))
    text = (ROOT / "base" / "edge" / "scaling.yaml").read_text()
    (metric,) = yaml.safe_load(text)["spec"]["metrics"]
    assert metric["type"] == "Resource"


def test_the_queries_are_promql(tmp_path: Path) -> None:
    promtool = shutil.which("promtool")
    if promtool is None:
        pytest.skip("promtool is not installed")
    rules = [
        {"record": f"query_{number}", "expr": query}
        for number, query in enumerate(queries(overlay("eu-west")))
    ]
    file = tmp_path / "rules.yaml"
    file.write_text(yaml.safe_dump({"groups": [{"name": "queries", "rules": rules}]}))
    done = subprocess.run(
        [promtool, "check", "rules", str(file)],
        capture_output=True,
        text=True,
        check=False,
        timeout=30,
    )
    assert done.returncode == 0, done.stderr
    assert "SUCCESS: 2 rules found" in done.stdout


def test_a_worker_is_added_before_all_slots_are_taken(tmp_path: Path) -> None:
    objects = overlay("eu-west")
    slots = configuration(objects, pod(objects, "worker"), tmp_path).engine.slots
    spec = named(objects, "ScaledObject", "worker")["spec"]
    thresholds = {t["name"]: float(t["metadata"]["threshold"]) for t in spec["triggers"]}
    assert thresholds["running"] < slots
    assert 0 < thresholds["waiting"] <= slots
    assert 1 <= spec["minReplicaCount"] <= spec["fallback"]["replicas"] <= spec["maxReplicaCount"]


@pytest.mark.parametrize("name", REGIONS)
def test_what_is_taken_away_waits_longer_than_what_is_added(name: str) -> None:
    objects = overlay(name)
    scaled = named(objects, "ScaledObject", "worker")["spec"]["advanced"]
    for behavior in (
        scaled["horizontalPodAutoscalerConfig"]["behavior"],
        named(objects, "HorizontalPodAutoscaler", "edge")["spec"]["behavior"],
    ):
        up, down = behavior["scaleUp"], behavior["scaleDown"]
        assert down["stabilizationWindowSeconds"] > 10 * up["stabilizationWindowSeconds"]
        assert [policy["value"] for policy in down["policies"]] == [1]
