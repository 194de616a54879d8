"""The dashboard has what is looked at first at its top, in sight without scrolling."""

from __future__ import annotations

from infra.grafana.prompts import prompts


def test_it_begins_with_single_figures() -> None:
    top = [panel for panel in prompts()["panels"] if 0 < panel["gridPos"]["y"] < 5]
    assert top
    assert {panel["type"] for panel in top if panel["type"] != "row"} == {"stat"}


def test_every_panel_says_what_it_shows() -> None:
    panels = [panel for panel in prompts()["panels"] if panel["type"] != "row"]
    titles = [panel["title"] for panel in panels]
    assert len(set(titles)) == len(titles)
    for panel in panels:
        legends = [target["legendFormat"] for target in panel["targets"]]
        assert panel["type"] == "stat" or all(legends), panel["title"]
