"""How figures look in a terminal: sizes, bars, waterfalls, tables. Values in, renderables out.

Everything fits 80 columns. Text that came from outside goes through :func:`plain` first, so that no
answer of a model can move the cursor or colour the screen.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from rich import box
from rich.table import Table
from rich.text import Text

_BLOCKS = " ▏▎▍▌▋▊▉█"
_UNITS = ("B", "kB", "MB", "GB", "TB")
# C0 and C1 controls but for tab and line feed, and what reorders or hides text (UAX 9, tags).
_HARMFUL = re.compile(
    "[\x00-\x08\x0b-\x1f\x7f-\x9f\u200b-\u200f\u202a-\u202e\u2060-\u2069\ufeff\U000e0000-\U000e007f]"
)


@dataclass(frozen=True, slots=True)
class Bar:
    """One line of a waterfall, in milliseconds from its start."""

    name: str
    start_ms: float
    length_ms: float
    inner: bool = False
    """Part of the bar before it; drawn fainter."""


def plain(text: str) -> str:
    """Text without characters that a terminal obeys; each becomes U+FFFD."""
    return _HARMFUL.sub("\ufffd", text)


def size(count: float) -> str:
    """Bytes in decimal units, three figures: ``1.62 MB``."""
    value, step = float(count), 0
    while abs(value) >= 999.5 and step < len(_UNITS) - 1:
        value, step = value / 1000, step + 1
    return f"{_three(value) if step else round(value)} {_UNITS[step]}"


def duration(ms: float) -> str:
    """Milliseconds in a fitting unit, three figures: ``430 µs``, ``12.5 ms``, ``1.20 s``."""
    if ms < 0.9995:
        return f"{ms * 1e3:.0f} µs"
    if ms < 999.5:
        return f"{_three(ms)} ms"
    return f"{_three(ms / 1e3)} s"


def bar(start: float, length: float, width: int) -> str:
    """A bar of eighth blocks.

    Args:
        start, length: fractions of the width, 0 to 1; what sticks out is cut off.
    """
    first = min(round(min(max(start, 0.0), 1.0) * width), width - 1)
    eighths = round(min(max(length, 0.0), 1.0) * width * 8)
    eighths = min(max(eighths, 1), (width - first) * 8)
    whole, rest = divmod(max(eighths, 0), 8)
    return " " * first + "█" * whole + (_BLOCKS[rest] if rest else "")


def cascade(steps_ms: Mapping[str, float]) -> list[Bar]:
    """Steps as consecutive bars. ``outer: inner`` is a part of ``outer`` and does not add up."""
    bars: list[Bar] = []
    clock = 0.0
    for name, ms in steps_ms.items():
        if ": " in name:
            continue
        bars.append(Bar(name, clock, ms))
        inner = clock
        for part, part_ms in steps_ms.items():
            if part.startswith(f"{name}: "):
                bars.append(Bar(part.removeprefix(f"{name}: "), inner, part_ms, inner=True))
                inner += part_ms
        clock += ms
    return bars


def waterfall(steps_ms: Mapping[str, float], *, width: int = 44) -> Table:
    """A boot waterfall as a chart, with its total."""
    bars = cascade(steps_ms)
    total = sum(b.length_ms for b in bars if not b.inner)
    chart = _table()
    chart.add_column("step", no_wrap=True)
    chart.add_column("time", justify="right", no_wrap=True)
    chart.add_column("", width=width, no_wrap=True)
    scale = total or 1.0
    for b in bars:
        style = "dim cyan" if b.inner else "cyan"
        drawn = Text(bar(b.start_ms / scale, b.length_ms / scale, width), style=style)
        name = Text(f"  {b.name}" if b.inner else b.name, style="dim" if b.inner else "")
        chart.add_row(name, Text(duration(b.length_ms), style="dim" if b.inner else ""), drawn)
    chart.add_section()
    chart.add_row(Text("total", style="bold"), Text(duration(total), style="bold"), "")
    return chart


def shares(parts: Mapping[str, float], *, width: int = 30) -> Table:
    """Bytes by where they came from, with a bar for each share."""
    chart = _table()
    chart.add_column("from", no_wrap=True)
    chart.add_column("bytes", justify="right", no_wrap=True)
    chart.add_column("share", justify="right", no_wrap=True)
    chart.add_column("", width=width, no_wrap=True)
    total = sum(parts.values())
    for name, count in parts.items():
        share = count / total if total else 0.0
        drawn = bar(0.0, share, width) if count else ""
        chart.add_row(Text(plain(name)), size(count), f"{share:.0%}", Text(drawn, style="green"))
    return chart


def table(columns: Sequence[str], rows: Iterable[Sequence[object]], *, right: str = "") -> Table:
    """A plain table. ``right`` names the columns that are set to the right, comma-separated."""
    to_the_right = set(right.split(","))
    made = _table()
    for column in columns:
        made.add_column(Text(column), justify="right" if column in to_the_right else "left")
    for row in rows:
        made.add_row(*(cell if isinstance(cell, Text) else Text(plain(str(cell))) for cell in row))
    return made


def pairs(values: Mapping[str, object]) -> Table:
    """Names and values, one a line."""
    made = Table(box=None, show_header=False, pad_edge=False, padding=(0, 2, 0, 0))
    made.add_column(style="dim", no_wrap=True)
    made.add_column(overflow="fold")
    for name, value in values.items():
        made.add_row(name, value if isinstance(value, Text) else Text(plain(str(value))))
    return made


def short(revision: str) -> str:
    """A revision as people say it: its first twelve digits."""
    return revision[:12]


def _table() -> Table:
    return Table(box=box.SIMPLE_HEAD, pad_edge=False, header_style="dim")


def _three(value: float) -> str:
    return f"{value:.2f}" if value < 9.995 else f"{value:.1f}" if value < 99.95 else f"{value:.0f}"
