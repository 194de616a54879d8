"""What has been paid by each day, as an SVG: a line for each way, and the day on which one of them
has earned back what it cost first.

No library draws it. It says in words what it shows, follows the reader's light or dark scheme, and
tells lines apart by their dashes and labels as well as by colour.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from xml.sax.saxutils import escape

from infra.cost import Way, break_even_day
from infra.render import plain
from infra.timeline_svg import ticks

_WIDTH, _HEIGHT = 760, 400
_LEFT, _RIGHT, _TOP, _BOTTOM = 84, 130, 56, 48
_PLOT_W, _PLOT_H = _WIDTH - _LEFT - _RIGHT, _HEIGHT - _TOP - _BOTTOM
_LABEL_GAP = 16.0
_STYLE = """
.page{fill:#fff}text{font:13px system-ui,sans-serif;fill:#1c2430}
.head{font-size:16px;font-weight:600}.tick{fill:#4a5566;font-size:12px}
.end{text-anchor:end}.middle{text-anchor:middle}.grid{stroke:#d9dee6;fill:none}
.way{fill:none;stroke-width:2.5}.even{fill:none;stroke:#1c2430;stroke-width:2}
.way0{stroke:#2563b0}.way1{stroke:#b3261e;stroke-dasharray:9 4}
.way2{stroke:#1d7a46;stroke-dasharray:2 4}
@media (prefers-color-scheme:dark){
.page{fill:#12161d}text{fill:#eef1f6}.tick{fill:#b4bdcb}.grid{stroke:#343c49}.even{stroke:#eef1f6}
.way0{stroke:#6aa7f0}.way1{stroke:#f2938c}.way2{stroke:#6fcf97}}
"""


def horizon_days(ways: Sequence[Way], against: Way) -> float:
    """How many days are worth showing: past every break-even, at least three months."""
    days = [day for way in ways if (day := break_even_day(way, against)) is not None]
    return min(max([90.0, *(1.6 * day for day in days)]), 3_650.0)


def cost_svg(ways: Sequence[Way], against: Way, days: float) -> str:
    """The drawing: at most three ways, the last of which may be ``against``."""
    most = max([way.total(days) for way in ways] + [1.0])
    told = ". ".join(_words(way, against, days) for way in ways)
    return "\n".join(
        (
            f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {_WIDTH} {_HEIGHT}" '
            f'width="{_WIDTH}" height="{_HEIGHT}" role="img" aria-labelledby="t d">',
            '<title id="t">What has been paid by each day</title>',
            f'<desc id="d">{_safe(told)}</desc>',
            f"<style>{_STYLE}</style>",
            '<rect class="page" width="100%" height="100%"/>',
            f'<text class="head" x="18" y="28">Paid by each day, {_safe(_names(ways))}</text>',
            *_axes(days, most),
            *_lines(ways, days, most),
            *_marks(ways, against, days, most),
            "</svg>\n",
        )
    )


def _axes(days: float, most: float) -> Iterator[str]:
    for day in ticks(days):
        x = _x(day, days)
        yield f'<path class="grid" d="M{x:.1f} {_TOP}V{_TOP + _PLOT_H}"/>'
        yield f'<text class="tick middle" x="{x:.1f}" y="{_TOP + _PLOT_H + 18}">{day:g}</text>'
    for amount in ticks(most):
        y = _y(amount, most)
        yield f'<path class="grid" d="M{_LEFT} {y:.1f}H{_LEFT + _PLOT_W}"/>'
        yield f'<text class="tick end" x="{_LEFT - 8}" y="{y + 4:.1f}">${amount:,.6g}</text>'
    yield f'<text class="tick middle" x="{_LEFT + _PLOT_W / 2}" y="{_HEIGHT - 10}">days</text>'


def _lines(ways: Sequence[Way], days: float, most: float) -> Iterator[str]:
    labels: list[float] = []
    for number, way in enumerate(ways):
        bends = sorted({0.0, min(way.commitment_days, days), days})
        points = " ".join(f"{_x(day, days):.1f},{_y(way.total(day), most):.1f}" for day in bends)
        yield f'<polyline class="way way{number % 3}" points="{points}"/>'
        y = _y(way.total(days), most) + 4
        while any(abs(y - other) < _LABEL_GAP for other in labels):
            y += _LABEL_GAP / 2
        labels.append(y)
        x = _LEFT + _PLOT_W + 8
        yield f'<text x="{x}" y="{y:.1f}">{_safe(way.name)} ${way.total(days):,.0f}</text>'


def _marks(ways: Sequence[Way], against: Way, days: float, most: float) -> Iterator[str]:
    for way in ways:
        day = break_even_day(way, against)
        if way is against or day is None or not 0 < day <= days:
            continue
        x, y = _x(day, days), _y(way.total(day), most)
        yield f'<circle class="even" cx="{x:.1f}" cy="{y:.1f}" r="6"/>'
        # Away from the lines, which rise to the right: over the point, to its left.
        anchor, shift = ("end", -10) if x > _LEFT + 180 else ("start", 10)
        dy = -10 if anchor == "end" else 24
        yield (
            f'<text x="{x + shift:.1f}" y="{y + dy:.1f}" text-anchor="{anchor}">'
            f"{_safe(way.name)} breaks even: day {day:.0f}</text>"
        )


def _words(way: Way, against: Way, days: float) -> str:
    said = f"{way.name}: ${way.upfront:,.0f} first, ${way.total(days):,.0f} by day {days:.0f}"
    if way is against:
        return said
    day = break_even_day(way, against)
    even = "never breaks even" if day is None else f"breaks even on day {day:.0f}"
    return f"{said}, {even} with {against.name}"


def _names(ways: Sequence[Way]) -> str:
    return ", ".join(way.name for way in ways)


def _x(day: float, days: float) -> float:
    return _LEFT + _PLOT_W * day / days


def _y(amount: float, most: float) -> float:
    return _TOP + _PLOT_H * (1 - amount / most)


def _safe(text: str) -> str:
    return escape(plain(text)[:2_000], {'"': "&quot;"})
