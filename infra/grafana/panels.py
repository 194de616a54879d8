"""A dashboard's JSON from short descriptions: rows of panels that share the width of the page."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

Unit = Literal["short", "s", "bytes", "Bps", "reqps", "percentunit", "none", "dateTimeFromNow"]
WIDTH = 24
"""Columns of a Grafana page."""
_SOURCE = {"type": "prometheus", "uid": "${datasource}"}
_HEIGHT = {"stat": 4, "timeseries": 8, "table": 8}


@dataclass(frozen=True, slots=True)
class Panel:
    """One panel.

    Args:
        queries: (PromQL, legend) pairs.
        kind: Grafana's name of the panel.
        worse: from which value on it is shown in red; None: never.
        about: what it says and when to worry.
    """

    title: str
    queries: Sequence[tuple[str, str]]
    unit: Unit = "short"
    kind: Literal["stat", "timeseries", "table"] = "timeseries"
    worse: float | None = None
    about: str = ""


@dataclass(frozen=True, slots=True)
class Row:
    """A heading and the panels below it, as many beside each other as there are."""

    title: str
    panels: Sequence[Panel] = field(default_factory=tuple)


def dashboard(uid: str, title: str, rows: Sequence[Row]) -> dict[str, Any]:
    """A whole dashboard (schema 39, Grafana 11), with data source, region and instance as
    variables."""
    panels: list[dict[str, Any]] = []
    top = 0
    for row in rows:
        place = {"h": 1, "w": WIDTH, "x": 0, "y": top}
        panels.append(
            {
                "id": len(panels) + 1,
                "type": "row",
                "title": row.title,
                "gridPos": place,
                "collapsed": False,
                "panels": [],
            }
        )
        width = WIDTH // len(row.panels)
        height = max(_HEIGHT[panel.kind] for panel in row.panels)
        for number, panel in enumerate(row.panels):
            place = {"h": height, "w": width, "x": number * width, "y": top + 1}
            panels.append({"id": len(panels) + 1, "gridPos": place, **_panel(panel)})
        top += 1 + height
    return {
        "uid": uid,
        "title": title,
        "tags": ["headwater"],
        "schemaVersion": 39,
        "editable": True,
        "graphTooltip": 1,
        "refresh": "30s",
        "time": {"from": "now-6h", "to": "now"},
        "timezone": "browser",
        "templating": {"list": _variables()},
        "panels": panels,
    }


def _panel(panel: Panel) -> dict[str, Any]:
    steps: list[dict[str, Any]] = [{"color": "green", "value": None}]
    if panel.worse is not None:
        steps.append({"color": "red", "value": panel.worse})
    return {
        "type": panel.kind,
        "title": panel.title,
        "description": panel.about,
        "datasource": _SOURCE,
        "fieldConfig": {
            "defaults": {
                "unit": panel.unit,
                "min": 0,
                "thresholds": {"mode": "absolute", "steps": steps},
            },
            "overrides": [],
        },
        "options": {"legend": {"displayMode": "list", "placement": "bottom"}}
        if panel.kind == "timeseries"
        else {},
        "targets": [
            {
                "refId": chr(ord("A") + number),
                "expr": expression,
                "legendFormat": legend,
                "datasource": _SOURCE,
                "instant": panel.kind != "timeseries",
            }
            for number, (expression, legend) in enumerate(panel.queries)
        ],
    }


def _variables() -> list[dict[str, Any]]:
    """Named as Grafana's own dashboards name them; those after the first narrow each other."""
    source = {
        "name": "datasource",
        "label": "Data source",
        "type": "datasource",
        "query": "prometheus",
    }
    region = _label_variable("region", "headwater_ready")
    return [source, region, _label_variable("instance", 'headwater_ready{region=~"$region"}')]


def _label_variable(name: str, series: str) -> dict[str, Any]:
    """The values of a label, of which one may choose several, or all: also series without it."""
    return {
        "name": name,
        "label": name.capitalize(),
        "type": "query",
        "datasource": _SOURCE,
        "query": f"label_values({series}, {name})",
        "refresh": 2,
        "sort": 1,
        "includeAll": True,
        "allValue": ".*",
        "multi": True,
        "current": {"text": ["All"], "value": ["$__all"]},
    }
