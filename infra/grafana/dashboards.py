"""All dashboards. ``make docs`` writes their JSON."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from infra.grafana.artifacts import artifacts
from infra.grafana.prompts import prompts

FOLDER = Path(__file__).with_name("json")

DASHBOARDS: Mapping[str, dict[str, Any]] = {
    "headwater-prompts.json": prompts(),
    "headwater-artifacts.json": artifacts(),
}


def write_all(folder: Path = FOLDER) -> None:
    """Write every dashboard's JSON."""
    folder.mkdir(parents=True, exist_ok=True)
    for name, one in DASHBOARDS.items():
        (folder / name).write_text(json.dumps(one, indent=1) + "\n")


if __name__ == "__main__":
    write_all()
