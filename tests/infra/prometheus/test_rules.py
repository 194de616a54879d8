"""Rules and their tests, by promtool itself; names, by the page of metrics; entries, by runbook."""

from __future__ import annotations

import re
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.fakes.metric_names import asked_for, family_of, on_page

ROOT = Path(__file__).resolve().parents[3]
FOLDER = ROOT / "infra" / "prometheus"
RULES = sorted((FOLDER / "rules").glob("*.yml"))
TESTS = FOLDER / "tests" / "alerts_test.yml"
ALL_TESTS = sorted(TESTS.parent.glob("*.yml"))
RUNBOOKS = (ROOT / "docs" / "runbooks.md").read_text()
PAGE = (ROOT / "docs" / "reference" / "metrics.md").read_text()

needs_promtool = pytest.mark.skipif(shutil.which("promtool") is None, reason="no promtool here")


def promtool(*arguments: object) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        ["promtool", *map(str, arguments)], capture_output=True, text=True, timeout=150, check=False
    )


def rules() -> list[dict[str, Any]]:
    groups = [group for file in RULES for group in yaml.safe_load(file.read_text())["groups"]]
    return [rule for group in groups for rule in group["rules"]]


ALERTS = [rule for rule in rules() if "alert" in rule]


@needs_promtool
def test_rules_and_configuration_are_such() -> None:
    for found in (promtool("check", "rules", *RULES), promtool("check", "config", config())):
        assert found.returncode == 0, found.stdout + found.stderr


def config() -> Path:
    return FOLDER / "prometheus.yml"


@needs_promtool
def test_alerts_fire_when_they_should_and_only_then() -> None:
    found = promtool("test", "rules", *ALL_TESTS)
    assert found.returncode == 0, found.stdout + found.stderr


@needs_promtool
def test_a_rule_that_never_fires_is_found_out(tmp_path: Path) -> None:
    for file in RULES:
        text = re.sub(r"headwater_ready == 0", "headwater_ready == 7", file.read_text())
        (tmp_path / file.name).write_text(text)
    spoilt = tmp_path / TESTS.name
    cases = yaml.safe_load(TESTS.read_text().replace("../rules/", ""))
    cases["tests"] = [one for one in cases["tests"] if one["name"].startswith("HeadwaterNotReady")]
    spoilt.write_text(yaml.safe_dump(cases))
    found = promtool("test", "rules", spoilt)
    assert found.returncode == 1
    assert "HeadwaterNotReady" in found.stdout + found.stderr


def test_every_alert_has_its_tests_and_its_entry() -> None:
    files = [yaml.safe_load(file.read_text())["tests"] for file in ALL_TESTS]
    tested = [case["name"] for cases in files for case in cases]
    for rule in ALERTS:
        name = rule["alert"]
        assert {f"{name} fires", f"{name} is silent"} <= set(tested)
        assert f"## {name}\n" in RUNBOOKS, f"docs/runbooks.md has no entry for {name}"
        assert rule["annotations"]["runbook_url"] == f"docs/runbooks.md#{name.lower()}"
        assert rule["labels"]["severity"] in {"page", "ticket"}


@pytest.mark.parametrize("rule", rules(), ids=lambda rule: rule.get("alert") or rule["record"])
def test_every_metric_of_a_rule_exists(rule: dict[str, Any]) -> None:
    recorded = {one["record"] for one in rules() if "record" in one}
    exist = {family_of(name) for names in on_page(PAGE).values() for name in names}
    assert asked_for(rule["expr"]) - recorded - {"up"} - exist == set()


def test_a_metric_that_does_not_exist_is_seen() -> None:
    expression = 'sum by (region) (rate(headwater_nothing_bucket{le="1"}[5m])) > 0 or vector(0)'
    assert asked_for(expression) == {"headwater_nothing"}
