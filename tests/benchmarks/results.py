"""The form of a benchmark's result: a table for people, JSON for machines.

A row is one figure. ``met`` is computed from the target and never typed; a peer that is not
installed gives a row without a ratio, and says so.
"""

from __future__ import annotations

import json
import os
import platform
import statistics
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path

from rich.console import Console
from rich.table import Table

FOLDER = Path("build/bench")


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """One figure and the peer's in the same run.

    Args:
        runs: the single values; ``value`` is their median.
        target: bound on ``ratio`` (value by peer's value) where there is a peer, else on ``value``.
        higher_is_better: the direction of the target.
    """

    name: str
    unit: str
    runs: Sequence[float]
    peer: str = ""
    peer_runs: Sequence[float] = ()
    target: float | None = None
    higher_is_better: bool = True

    @property
    def value(self) -> float:
        return statistics.median(self.runs)

    @property
    def peer_value(self) -> float | None:
        return statistics.median(self.peer_runs) if self.peer_runs else None

    @property
    def ratio(self) -> float | None:
        """Median of the pairs' ratios: neighbours in time saw the same machine."""
        if not self.peer_runs:
            return None
        pairs = zip(self.runs, self.peer_runs, strict=False)
        return statistics.median(a / b for a, b in pairs)

    @property
    def met(self) -> bool | None:
        """None where there is no target, or the peer that it is about is not installed."""
        if self.target is None or (self.peer and self.ratio is None):
            return None
        figure = self.ratio if self.ratio is not None else self.value
        return figure >= self.target if self.higher_is_better else figure <= self.target

    def as_json(self) -> dict[str, object]:
        """The row in the agreed form."""
        return {
            "name": self.name,
            "value": self.value,
            "unit": self.unit,
            "peer": self.peer or None,
            "peer_value": self.peer_value,
            "ratio": self.ratio,
            "target": self.target,
            "met": self.met,
            "runs": list(self.runs),
        }


@dataclass(frozen=True, slots=True)
class Machine:
    """What the figures were measured on."""

    cores: int = field(default_factory=lambda: os.cpu_count() or 0)
    system: str = field(default_factory=platform.platform)
    python: str = field(default_factory=platform.python_version)
    load_before: float = field(default_factory=lambda: os.getloadavg()[0])


def report(name: str, rows: Sequence[Row], machine: Machine) -> Path:
    """Print the table and write ``build/bench/NAME.json``."""
    table = Table("figure", "value", "peer", "ratio", "target", "met", title=name)
    for row in rows:
        peer = (
            f"{row.peer}: {_short(row.peer_value)}"
            if row.peer_value is not None
            else (f"{row.peer}: not installed" if row.peer else "")
        )
        met = {None: "–", True: "yes", False: "no"}[row.met]
        table.add_row(
            row.name,
            f"{_short(row.value)} {row.unit}",
            peer,
            _short(row.ratio),
            _short(row.target),
            met,
        )
    Console().print(table)
    FOLDER.mkdir(parents=True, exist_ok=True)
    file = FOLDER / f"{name}.json"
    body = {"machine": asdict(machine), "rows": [row.as_json() for row in rows]}
    file.write_text(json.dumps(body, indent=1))
    return file


def _short(value: float | None) -> str:
    return "" if value is None else f"{value:,.3g}" if abs(value) < 100 else f"{value:,.0f}"
