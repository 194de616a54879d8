"""A cluster gets the same rules as machines do, and the labels by which they sum up."""

from __future__ import annotations

import re
import shutil
import subprocess
from pathlib import Path

import pytest
import yaml

from infra.kubernetes.rules import PAGE, RULES, draw, prometheus_rule
from tests.fakes.kubernetes import WORKLOADS, named, of_kind, overlay

REGIONS = ("eu-west", "us-east")


def test_the_file_is_up_to_date() -> None:
    assert PAGE.read_text() == draw(), "run `make docs`"


def test_every_group_of_every_file_is_there(tmp_path: Path) -> None:
    for name in ("b", "a"):
        group = {"name": name, "rules": [{"record": f"{name}:x", "expr": "1"}]}
        (tmp_path / f"{name}.yml").write_text(yaml.safe_dump({"groups": [group]}))
    groups = prometheus_rule(tmp_path)["spec"]["groups"]
    assert [group["name"] for group in groups] == ["a", "b"]


@pytest.mark.parametrize("name", ["origin", *REGIONS])
def test_what_kustomize_makes_of_it_is_what_is_tested(name: str, tmp_path: Path) -> None:
    """Templates and expressions of several lines arrive as they were."""
    found = named(overlay(name), "PrometheusRule", "headwater")["spec"]
    written = [yaml.safe_load(file.read_text()) for file in sorted(RULES.glob("*.yml"))]
    assert found["groups"] == [group for file in written for group in file["groups"]]


def test_promtool_reads_what_the_operator_would_write(tmp_path: Path) -> None:
    promtool = shutil.which("promtool")
    if promtool is None:
        pytest.skip("promtool is not installed (apt install prometheus)")
    file = tmp_path / "rules.yml"
    file.write_text(
        yaml.safe_dump(named(overlay("eu-west"), "PrometheusRule", "headwater")["spec"])
    )
    done = subprocess.run(
        [promtool, "check", "rules", file], capture_output=True, text=True, check=False, timeout=60
    )
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.parametrize("name", REGIONS)
def test_series_of_a_region_carry_its_name(name: str) -> None:
    """Prometheus names a pod's label with all but letters, digits and ``_`` made ``_``."""
    objects = overlay(name)
    (endpoint,) = named(objects, "PodMonitor", "headwater")["spec"]["podMetricsEndpoints"]
    (rule,) = endpoint["relabelings"]
    assert rule["targetLabel"] == "region"
    (source,) = rule["sourceLabels"]
    scraped = ("edge", "worker")
    workloads = [o for kind in sorted(WORKLOADS) for o in of_kind(objects, kind)]
    told = {}
    for workload in workloads:
        labels = workload["spec"]["template"]["metadata"]["labels"]
        meta = {
            f"__meta_kubernetes_pod_label_{re.sub('[^a-zA-Z0-9_]', '_', label)}": value
            for label, value in labels.items()
        }
        told[labels["app.kubernetes.io/component"]] = meta.get(source)
    assert {told[component] for component in scraped} == {name}
