"""A worker's boot or roll as lines of time: for a terminal here, as SVG in ``timeline_svg``.

Steps overlap, so each bar stands where it began. Parts of a step follow it.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import msgspec
from rich.console import Console, Group, RenderableType
from rich.table import Table
from rich.text import Text

from gpu_worker.waterfall import PART, Span, Waterfall
from infra.errors import RefusedError
from infra.render import bar, duration, pairs, plain, shares, short, table

_MAX_ROWS = 60
_BAR_COLUMNS = 34
_TITLES = {"boot": "Boot", "roll": "Roll"}


@dataclass(frozen=True, slots=True)
class TimelineRow:
    """One step, with every time it was taken; or a part of the step above it."""

    name: str
    spans: tuple[Span, ...]
    inner: bool = False

    @property
    def start_ms(self) -> float:
        return min(span.start_ms for span in self.spans)

    @property
    def length_ms(self) -> float:
        return sum(span.length_ms for span in self.spans)


def read_waterfalls(status: Mapping[str, Any]) -> list[Waterfall]:
    """The waterfalls in a worker's ``/admin/status``, of each model the boot's first.

    Raises:
        RefusedError: there are none in a form that we know.
    """
    try:
        if "waterfalls_by_model" in status:
            found = msgspec.convert(status["waterfalls_by_model"], dict[str, list[Waterfall]])
            return [waterfall for of_one in found.values() for waterfall in of_one]
        return msgspec.convert(status.get("waterfalls"), type=list[Waterfall])
    except msgspec.ValidationError as error:
        raise RefusedError(f"the worker told no waterfalls that can be read: {error}") from error


def boot_and_roll(waterfalls: Iterable[Waterfall]) -> list[Waterfall]:
    """Of each model the boot and the latest roll."""
    latest: dict[tuple[str, str], Waterfall] = {}
    for waterfall in waterfalls:
        latest[waterfall.model, waterfall.kind] = waterfall
    return [latest[key] for key in sorted(latest)]


def timeline_rows(waterfall: Waterfall) -> list[TimelineRow]:
    """Steps in the order in which they began, each followed by its parts; bounded."""
    taken: dict[str, list[Span]] = {}
    for span in sorted(waterfall.spans, key=lambda span: span.start_ms):
        taken.setdefault(span.name, []).append(span)
    rows: list[TimelineRow] = []
    for name, spans in taken.items():
        outer, found, _ = name.partition(PART)
        if found and outer in taken:
            continue
        rows.append(TimelineRow(name, tuple(spans)))
        rows += [
            TimelineRow(part.removeprefix(name + PART), tuple(inner), inner=True)
            for part, inner in taken.items()
            if part.startswith(name + PART)
        ]
    return rows[:_MAX_ROWS]


def title(waterfall: Waterfall) -> str:
    """``Boot of chat, revision 0123456789ab: 1.20 s``."""
    what = plain(f"{_TITLES[waterfall.kind]} of {waterfall.model or 'a model'}")
    return f"{what}, revision {plain(short(waterfall.revision))}: {duration(waterfall.total_ms)}"


def origins(waterfall: Waterfall) -> dict[str, int]:
    """Bytes by where they came from; of the sources only those that gave some."""
    own = {"this disk": waterfall.from_disk, "older revision here": waterfall.from_seeds}
    return {name: count for name, count in {**own, **waterfall.by_source}.items() if count}


def timeline(waterfall: Waterfall, *, width: int = _BAR_COLUMNS) -> Table:
    """The chart for a terminal of 80 columns."""
    whole = waterfall.total_ms or 1.0
    chart = table(("step", "at", "took", ""), (), right="at,took")
    for row in timeline_rows(waterfall):
        style = "dim" if row.inner else ""
        drawn = Text(
            _bars(row, whole, width), style="dim cyan" if row.inner else "cyan", no_wrap=True
        )
        chart.add_row(
            Text(f"  {plain(row.name)}" if row.inner else plain(row.name), style=style),
            Text(duration(row.start_ms), style=style),
            Text(duration(row.length_ms), style=style),
            drawn,
        )
    return chart


def report(waterfall: Waterfall) -> RenderableType:
    """Title, chart, where the bytes came from, and what was decided."""
    parts: list[RenderableType] = [Text(title(waterfall), style="bold"), timeline(waterfall)]
    if found := origins(waterfall):
        parts.append(shares(found, width=20))
    if waterfall.decisions:
        parts.append(pairs({f"{plain(name)}:": why for name, why in waterfall.decisions.items()}))
    return Group(*parts, "")


def show(console: Console, waterfalls: Iterable[Waterfall]) -> None:
    """Each of them, one below the other."""
    for waterfall in waterfalls:
        console.print(report(waterfall))


def _bars(row: TimelineRow, whole_ms: float, width: int) -> str:
    """One line with a bar for every time the step was taken."""
    line = ""
    for span in row.spans:
        drawn = bar(span.start_ms / whole_ms, span.length_ms / whole_ms, width)
        line += drawn[len(line) :]
    return line
