"""The shapes of the architecture's picture as SVG: rooms with lines of text, and arrows."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import NamedTuple
from xml.sax.saxutils import escape

HEAD_H, LINE_H = 34, 16
"""A room with one line, and every further one; in pixels, as everything here."""
_INSIDE = 12


class Line(NamedTuple):
    """A line of text; ``right`` stands at the room's right edge."""

    kind: str
    text: str
    right: str = ""


class Point(NamedTuple):
    """Pixels from the left, and from the top."""

    x: int
    y: int


@dataclass(frozen=True, slots=True)
class Shape:
    """A rectangle with text and what is in it; of an arrow only ``points`` and ``label`` count."""

    name: str
    x: int
    y: int
    w: int
    h: int
    kind: str
    lines: Sequence[Line] = ()
    inside: tuple[Shape, ...] = ()
    points: Sequence[Point] = ()
    label: str = ""
    both: bool = False

    def svg(self) -> Iterator[str]:
        """Its elements."""
        if self.points:
            yield from self._arrow()
            return
        radius, y = (12, self.y + 26) if self.kind == "frame" else (7, self.y + 21)
        yield (
            f'<rect class="{self.kind}" x="{self.x}" y="{self.y}" width="{self.w}" '
            f'height="{self.h}" rx="{radius}"/>'
        )
        for line in self.lines:
            yield _text(line.kind, self.x + _INSIDE, y, line.text)
            if line.right:
                yield _text("size", self.x + self.w - _INSIDE, y, line.right)
            y += LINE_H + (2 if line.right else 0)
        for one in self.inside:
            yield from one.svg()

    def _arrow(self) -> Iterator[str]:
        path = "M" + " L".join(f"{x},{y}" for x, y in self.points)
        tip = f"url(#{self.kind}-tip)"
        start = f' marker-start="{tip}"' if self.both else ""
        yield f'<path class="{self.kind}" d="{path}"{start} marker-end="{tip}"/>'
        # On the longest stretch, which is the last but one where an arrow has corners.
        a, b = self.points[(len(self.points) - 1) // 2 :][:2]
        x, y = (a.x + b.x) // 2 + 6, (a.y + b.y) // 2 + 4
        yield _text("count", x, y, self.label)


def arrow(
    points: Sequence[tuple[int, int]],
    *,
    down: int = 0,
    up: int = 0,
    between: bool = False,
    wrong: bool = False,
) -> Shape:
    """An arrow along points, from the importer to what it imports.

    Args:
        down, up: modules that import along it, and against it; it has a tip at each end that is
            pointed at.
        between: frames.
        wrong: there should be none.
    """
    kind = "wrong" if wrong else "between" if between else "arrow"
    way = [Point(*one) for one in points]
    if not down:
        way.reverse()
    both = bool(down and up)
    label = f"{down} ↓  {up} ↑" if both else str(down or up)
    return Shape("", 0, 0, 0, 0, kind, points=tuple(way), label=label, both=both)


def page(shapes: Sequence[Shape], width: int, height: int, told: str) -> str:
    """The whole picture.

    Args:
        told: it in words, for who does not see it.
    """
    body = "\n".join(line for shape in shapes for line in shape.svg())
    return f"{_head(width, height, told)}\n{body}\n</svg>\n"


def _text(kind: str, x: int, y: int, text: str) -> str:
    return f'<text class="{kind}" x="{x}" y="{y}">{escape(text)}</text>'


def _head(width: int, height: int, told: str) -> str:
    tips = "".join(_tip(kind) for kind in ("arrow", "between", "wrong"))
    return f"""<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" role="img"
 aria-labelledby="title told">
<title id="title">Tiers and packages of the code, and how many modules of one import another</title>
<desc id="told">{escape(told)}</desc>
<style>
 svg {{ --ink: #1f2933; --soft: #52606d; --line: #7b8794; --page: #ffffff; --frame: #eef2f6;
  --room: #ffffff; --strong: #2563a8; --bad: #c81e1e }}
 @media (prefers-color-scheme: dark) {{
  svg {{ --ink: #e4e7eb; --soft: #b3bdc8; --line: #8896a5; --page: #12181f; --frame: #1d262f;
   --room: #2b3641; --strong: #7db5ee; --bad: #ff7b72 }}
 }}
 .page {{ fill: var(--page) }}
 .frame {{ fill: var(--frame); stroke: var(--line) }}
 .room {{ fill: var(--room); stroke: var(--line) }}
 text {{ fill: var(--ink); font-family: system-ui, sans-serif; font-size: 12px }}
 .title {{ font-size: 18px; font-weight: 700 }}
 .name {{ font-size: 14px; font-weight: 600 }}
 .size {{ fill: var(--soft); text-anchor: end }}
 .part {{ fill: var(--soft) }}
 .takes {{ fill: var(--strong) }}
 .count {{ font-weight: 600 }}
 path.arrow, path.between, path.wrong {{ fill: none; stroke: var(--line); stroke-width: 1.4 }}
 path.between {{ stroke: var(--strong); stroke-width: 2 }}
 path.wrong {{ stroke: var(--bad); stroke-width: 3 }}
 .arrow-tip {{ fill: var(--line) }} .between-tip {{ fill: var(--strong) }}
 .wrong-tip {{ fill: var(--bad) }}
</style>
<defs>{tips}</defs>
<rect class="page" width="{width}" height="{height}"/>"""


def _tip(kind: str) -> str:
    return (
        f'<marker id="{kind}-tip" viewBox="0 0 8 8" refX="7" refY="4" markerWidth="9" '
        'markerHeight="9" markerUnits="userSpaceOnUse" orient="auto-start-reverse">'
        f'<path class="{kind}-tip" d="M0,0 L8,4 L0,8 z"/></marker>'
    )
