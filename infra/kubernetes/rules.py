"""``infra/prometheus/rules`` as one object of the Prometheus operator. ``make docs`` writes it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import yaml

RULES = Path(__file__).resolve().parents[1] / "prometheus" / "rules"
PAGE = Path(__file__).parent / "components" / "monitoring" / "rules.yaml"
_HEAD = (
    "# Drawn from infra/prometheus/rules by `make docs`: change it there, where its tests are.\n"
)
_WIDTH = 110


class _Dumper(yaml.SafeDumper):
    """Writes text of several lines as such, so that an expression can be read."""


def _text(dumper: yaml.SafeDumper, text: str) -> yaml.ScalarNode:
    style = "|" if "\n" in text else None
    return dumper.represent_scalar("tag:yaml.org,2002:str", text, style=style)


_Dumper.add_representer(str, _text)


def prometheus_rule(folder: Path = RULES) -> dict[str, Any]:
    """The object: all groups of a folder's files, recorded ones among them."""
    groups = [
        group
        for file in sorted(folder.glob("*.yml"))
        for group in yaml.safe_load(file.read_text())["groups"]
    ]
    return {
        "apiVersion": "monitoring.coreos.com/v1",
        "kind": "PrometheusRule",
        "metadata": {"name": "headwater"},
        "spec": {"groups": groups},
    }


def draw() -> str:
    """Text of ``components/monitoring/rules.yaml``."""
    return _HEAD + yaml.dump(prometheus_rule(), Dumper=_Dumper, sort_keys=False, width=_WIDTH)


if __name__ == "__main__":
    PAGE.write_text(draw())
