"""The dashboards' files are what the code draws, and ask only for what exists."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest
import yaml

from infra.grafana.dashboards import DASHBOARDS, FOLDER, write_all
from tests.fakes.metric_names import asked_for, family_of, on_page

ROOT = Path(__file__).resolve().parents[3]
PAGE = (ROOT / "docs" / "reference" / "metrics.md").read_text()
EXPRESSIONS = [
    (panel["title"], target["expr"])
    for one in DASHBOARDS.values()
    for panel in one["panels"]
    for target in panel.get("targets", ())
]


def recorded() -> set[str]:
    rules = yaml.safe_load((ROOT / "infra/prometheus/rules/recording.yml").read_text())
    return {rule["record"] for group in rules["groups"] for rule in group["rules"]}


@pytest.mark.parametrize("name", sorted(DASHBOARDS))
def test_the_file_is_up_to_date(name: str) -> None:
    drawn = json.loads(json.dumps(DASHBOARDS[name]))
    assert json.loads((FOLDER / name).read_text()) == drawn, "run `make docs`"


def test_what_is_written_is_whole(tmp_path: Path) -> None:
    write_all(tmp_path)
    assert sorted(file.name for file in tmp_path.iterdir()) == sorted(DASHBOARDS)


@pytest.mark.parametrize(("title", "expression"), EXPRESSIONS)
def test_every_metric_of_a_panel_exists(title: str, expression: str) -> None:
    exist = {family_of(name) for names in on_page(PAGE).values() for name in names}
    assert asked_for(expression) - recorded() - exist == set(), title


@pytest.mark.parametrize(("title", "expression"), EXPRESSIONS)
def test_every_panel_follows_the_choice_of_region_and_instance(title: str, expression: str) -> None:
    """But what is recorded by region, and what every origin tells of the whole fleet."""
    names = asked_for(expression)
    if any(name.startswith(("headwater_fleet_", "headwater_rollouts_")) for name in names):
        assert "$" not in expression, title
        return
    wanted = {"region=~", "instance=~"}
    if names & recorded():
        wanted.remove("instance=~")
    if any(name.startswith("headwater_origin_") for name in names):
        wanted.remove("region=~")
    for selector in re.findall(r"\{([^}]*)\}", expression):
        assert {f"{label}=~" for label in re.findall(r'(\w+)=~"\$\1"', selector)} == wanted, title


def test_provisioning_names_the_folder_that_is_mounted() -> None:
    provider = yaml.safe_load((FOLDER.parent / "provisioning/dashboards/headwater.yml").read_text())
    compose = yaml.safe_load((ROOT / "infra/compose/compose.yaml").read_text())
    mounts = compose["services"]["grafana"]["volumes"]
    assert provider["providers"][0]["options"]["path"] == "/etc/grafana/headwater/json"
    assert "../grafana:/etc/grafana/headwater:ro" in mounts
    assert "../grafana/provisioning:/etc/grafana/provisioning:ro" in mounts
