"""A dashboard's JSON has what Grafana wants: ids, places that do not overlap, data sources."""

from __future__ import annotations

import itertools
from typing import Any

import pytest

from infra.grafana.dashboards import DASHBOARDS
from infra.grafana.panels import WIDTH, Panel, Row, dashboard


def covers(panel: dict[str, Any]) -> set[tuple[int, int]]:
    place = panel["gridPos"]
    columns = range(place["x"], place["x"] + place["w"])
    return set(itertools.product(columns, range(place["y"], place["y"] + place["h"])))


@pytest.mark.parametrize("name", sorted(DASHBOARDS))
def test_panels_have_ids_of_their_own_and_do_not_overlap(name: str) -> None:
    panels = DASHBOARDS[name]["panels"]
    assert len({panel["id"] for panel in panels}) == len(panels)
    taken: set[tuple[int, int]] = set()
    for panel in panels:
        place = covers(panel)
        assert not place & taken, panel["title"]
        assert max(x for x, _ in place) < WIDTH
        taken |= place


def test_a_row_shares_the_width() -> None:
    made = dashboard("u", "t", [Row("r", [Panel("a", [("up", "")]), Panel("b", [("up", "")])])])
    assert [panel["gridPos"]["w"] for panel in made["panels"]] == [24, 12, 12]


@pytest.mark.parametrize("name", sorted(DASHBOARDS))
def test_data_source_region_and_instances_can_be_chosen(name: str) -> None:
    source, *labels = DASHBOARDS[name]["templating"]["list"]
    assert (source["name"], source["type"]) == ("datasource", "datasource")
    assert [label["name"] for label in labels] == ["region", "instance"]
    for label in labels:
        assert label["multi"]
        assert label["includeAll"]
        assert label["query"].startswith("label_values(headwater_ready")
    used = {
        panel["datasource"]["uid"] for panel in DASHBOARDS[name]["panels"] if "targets" in panel
    }
    assert used == {"${datasource}"}


def test_a_threshold_is_red_from_its_value_on() -> None:
    made = dashboard("u", "t", [Row("r", [Panel("a", [("up", "")], worse=2)])])
    steps = made["panels"][1]["fieldConfig"]["defaults"]["thresholds"]["steps"]
    assert steps == [{"color": "green", "value": None}, {"color": "red", "value": 2}]
