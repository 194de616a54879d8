"""A worker's boot and roll as an SVG: one drawing that can stand in a report or a ticket.

No library draws it; it is text. It says in words what it shows (``title`` and ``desc``, and a title
on each bar), follows the reader's light or dark scheme, and sets every label beside its bar, so no
text depends on a colour behind it.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from xml.sax.saxutils import escape

from gpu_worker.waterfall import Waterfall
from infra.render import duration, plain, size
from infra.timeline import TimelineRow, origins, timeline_rows, title

_WIDTH = 960
_LEFT, _RIGHT = 190, 110
_ROW, _INNER_ROW = 26, 21
_HEAD, _NOTE, _GAP, _EDGE = 62, 20, 28, 18
_PLOT = _WIDTH - _LEFT - _RIGHT
_MAX_LABEL = 24
_TICKS = 6
_STYLE = """
.page{fill:#fff}text{font:13px system-ui,sans-serif;fill:#1c2430}
.head{font-size:16px;font-weight:600}.inner,.tick,.note{fill:#4a5566;font-size:12px}
.end{text-anchor:end}.middle{text-anchor:middle}
.grid{stroke:#d9dee6}.bar{fill:#2563b0}.part{fill:#7aa6dc}
@media (prefers-color-scheme:dark){
.page{fill:#12161d}text{fill:#eef1f6}.inner,.tick,.note{fill:#b4bdcb}
.grid{stroke:#343c49}.bar{fill:#6aa7f0}.part{fill:#3f6da8}}
"""


def timeline_svg(waterfalls: Sequence[Waterfall]) -> str:
    """The drawing of some waterfalls, one below the other."""
    panels: list[str] = []
    top = _EDGE
    for waterfall in waterfalls:
        panel = _Panel(waterfall, top)
        panels += panel.lines()
        top += panel.height + _GAP
    height = max(top - _GAP, 0) + _EDGE
    heading = "; ".join(map(title, waterfalls)) or "No boot or roll yet"
    told = " ".join(map(_words, waterfalls)) or "Nothing to show."
    return "\n".join(
        (
            f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {_WIDTH} {height}" '
            f'width="{_WIDTH}" height="{height}" role="img" aria-labelledby="t d">',
            f'<title id="t">{_safe(heading)}</title>',
            f'<desc id="d">{_safe(told)}</desc>',
            f"<style>{_STYLE}</style>",
            '<rect class="page" width="100%" height="100%"/>',
            *panels,
            "</svg>\n",
        )
    )


def ticks(whole_ms: float, most: int = _TICKS) -> list[float]:
    """Round moments from 0 to at most the whole, in steps of 1, 2 or 5 times a power of ten."""
    if whole_ms <= 0:
        return [0.0]
    step = 10.0**-6
    while whole_ms / step > most:
        for factor in (2.0, 2.5, 2.0):  # 1 → 2 → 5 → 10
            step *= factor
            if whole_ms / step <= most:
                break
    return [step * number for number in range(int(whole_ms / step + 1e-9) + 1)]


class _Panel:
    """One waterfall, from ``top`` on."""

    def __init__(self, waterfall: Waterfall, top: float) -> None:
        self._waterfall = waterfall
        self._rows = timeline_rows(waterfall)
        self._whole_ms = waterfall.total_ms or 1.0
        self._top = top
        self._notes = list(_notes(waterfall))

    @property
    def _plot_height(self) -> int:
        return sum(_INNER_ROW if row.inner else _ROW for row in self._rows)

    @property
    def height(self) -> int:
        return _HEAD + self._plot_height + _NOTE * len(self._notes)

    def lines(self) -> Iterator[str]:
        yield f'<text class="head" x="{_EDGE}" y="{self._top + 16}">{_safe(title(self._waterfall))}'
        yield "</text>"
        yield from self._axis()
        y = self._top + _HEAD
        for row in self._rows:
            height = _INNER_ROW if row.inner else _ROW
            yield from self._row(row, y, height)
            y += height
        for number, note in enumerate(self._notes):
            line = y + _NOTE * number + 16
            yield f'<text class="note" x="{_EDGE}" y="{line}">{_safe(note)}</text>'

    def _axis(self) -> Iterator[str]:
        first, last = self._top + _HEAD - 8, self._top + _HEAD + self._plot_height
        for moment in ticks(self._whole_ms):
            x = self._x(moment)
            yield f'<path class="grid" d="M{x:.1f} {first}V{last}"/>'
            label = "0" if moment == 0 else _moment(moment)
            yield f'<text class="tick middle" x="{x:.1f}" y="{first - 6}">{label}</text>'

    def _row(self, row: TimelineRow, y: float, height: int) -> Iterator[str]:
        baseline = y + height / 2 + 4.5
        indent, kind = (34, "inner") if row.inner else (_EDGE, "")
        name = plain(row.name)[:_MAX_LABEL]
        yield f'<text class="{kind}" x="{indent}" y="{baseline:.1f}">{_safe(name)}</text>'
        for span in row.spans:
            x = self._x(span.start_ms)
            width = max(1.0, self._x(span.end_ms) - x)
            told = f"{row.name}: from {duration(span.start_ms)}, for {duration(span.length_ms)}"
            yield (
                f'<rect class="{"part" if row.inner else "bar"}" x="{x:.1f}" y="{y + 4:.1f}" '
                f'width="{width:.1f}" height="{height - 8}" rx="2">'
                f"<title>{_safe(told)}</title></rect>"
            )
        took = f'<text class="{kind} end" x="{_WIDTH - _EDGE}" y="{baseline:.1f}">'
        yield f"{took}{_safe(duration(row.length_ms))}</text>"

    def _x(self, ms: float) -> float:
        return _LEFT + _PLOT * min(ms / self._whole_ms, 1.0)


def _moment(ms: float) -> str:
    """A tick's label, without zeros that say nothing."""
    value, unit = (ms / 1e3, "s") if ms >= 1e3 else (ms, "ms") if ms >= 1 else (ms * 1e3, "µs")
    return f"{value:g} {unit}"


def _notes(waterfall: Waterfall) -> Iterator[str]:
    found = origins(waterfall)
    if found:
        yield "Bytes: " + ", ".join(f"{size(count)} from {name}" for name, count in found.items())
    for name, why in waterfall.decisions.items():
        yield f"{name.capitalize()}: {why}"


def _words(waterfall: Waterfall) -> str:
    """The drawing in words, for who does not see it."""
    steps = ", ".join(
        f"{row.name} from {duration(row.start_ms)} for {duration(row.length_ms)}"
        for row in timeline_rows(waterfall)
        if not row.inner
    )
    return f"{title(waterfall)}. Steps: {steps}. " + ". ".join(_notes(waterfall))


def _safe(text: str) -> str:
    """Text from outside as text of the drawing: no markup, no control character, bounded."""
    kept = plain(text).replace("\n", " ").replace("\t", " ")
    return escape(kept if len(kept) <= 4_000 else kept[:4_000] + "…", {'"': "&quot;"})
