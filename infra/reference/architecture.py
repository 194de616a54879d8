"""``architecture.svg``: the tiers as frames, their packages as rooms, and who imports whom.

Frames go from top to bottom; an arrow upwards or sideways would be a mistake, and has a colour. In
a frame its own files are a bar. Above it are the packages that import more of it than it does of
them, below it those that it is made of, and farthest up those that have nothing to do with it: so
arrows are short and never cross. What a room takes from elsewhere stands in it as text.
"""

from __future__ import annotations

import textwrap
from collections.abc import Sequence
from dataclasses import dataclass, replace

from infra.reference.architecture_svg import HEAD_H, LINE_H, Line, Point, Shape, arrow, page
from infra.reference.import_graph import LAYERS, Graph, frame_of, read_graph

_ROOM_W, _GAP, _PAD, _MARGIN = 156, 14, 14, 16
_ARROW_H, _FRAME_GAP, _FRAME_HEAD = 40, 50, 42
_CHAR_W = 6.4
"""Of the small text, on average and a little more."""


@dataclass(frozen=True, slots=True)
class _Frame:
    """A tier before it has a place: its bands of rooms from the top, one of them the bar."""

    name: str
    bands: Sequence[Sequence[str]]

    @property
    def columns(self) -> int:
        return max(len(band) for band in self.bands)


def draw_architecture(graph: Graph | None = None) -> str:
    """The picture; light and dark by the reader's own colours."""
    graph = graph or read_graph()
    layers = [[_bands(graph, frame) for frame in layer] for layer in LAYERS]
    width = max(sum(_least_w(frame) + _GAP for frame in layer) for layer in layers) - _GAP
    boxes: dict[str, Shape] = {}
    y = _MARGIN
    for layer in layers:
        row = _layer(graph, layer, y, width)
        boxes |= {shape.name: shape for shape in row}
        y += row[0].h + _FRAME_GAP
    shapes = [*boxes.values(), *_between(graph, boxes)]
    return page(shapes, width + 2 * _MARGIN + _FRAME_GAP, y - _FRAME_GAP + _MARGIN, _told(graph))


def _layer(graph: Graph, frames: Sequence[_Frame], y: int, width: int) -> list[Shape]:
    """Frames beside each other, of one height, as wide as the picture together."""
    least = [_least_w(frame) for frame in frames]
    spare = (width - sum(least) - _GAP * (len(least) - 1)) // len(least)
    row, x = [], _MARGIN
    for frame, own in zip(frames, least, strict=True):
        row.append(_frame(graph, frame, x, y, own + spare))
        x += own + spare + _GAP
    height = max(shape.h for shape in row)
    return [replace(shape, h=height) for shape in row]


def _bands(graph: Graph, frame: str) -> _Frame:
    """Which rooms of a frame stand above its bar, and which below."""
    far: list[str] = []
    above: list[str] = []
    below: list[str] = []
    for one in graph.sizes:
        if one == frame or frame_of(one) != frame:
            continue
        takes, gives = graph.rooms.get((one, frame), 0), graph.rooms.get((frame, one), 0)
        (above if takes > gives else below if gives else far).append(one)
    return _Frame(frame, [band for band in (far, above, [frame], below) if band])


def _least_w(frame: _Frame) -> int:
    return frame.columns * (_ROOM_W + _GAP) - _GAP + 2 * _PAD


def _frame(graph: Graph, frame: _Frame, x: int, y: int, width: int) -> Shape:
    """A frame with its rooms, and the arrows between them and the bar."""
    inner = width - 2 * _PAD
    size = sum(size for one, size in graph.sizes.items() if frame_of(one) == frame.name)
    head = [Line("title", frame.name, str(size)), *_wrapped("", graph.about(frame.name), inner)]
    top = y + _FRAME_HEAD + LINE_H * (len(head) - 1)
    rooms: dict[str, Shape] = {}
    for band in frame.bands:
        row = _band(graph, band, frame.name, Point(x + _PAD, top), inner)
        rooms |= {one.name: one for one in row}
        top += row[0].h + _ARROW_H
    bar = rooms[frame.name]
    arrows = [_to_bar(graph, one, bar) for one in rooms.values() if _linked(graph, one, bar)]
    inside = (*rooms.values(), *arrows)
    return Shape(frame.name, x, y, width, top - _ARROW_H + _PAD - y, "frame", head, inside)


def _band(graph: Graph, band: Sequence[str], frame: str, at: Point, width: int) -> list[Shape]:
    """Rooms beside each other, as high as the one with most to say."""
    each = (width - _GAP * (len(band) - 1)) // len(band)
    alone = len(band) == 1 and band[0] != frame
    room_w = max(_ROOM_W, width // 2) if alone else each
    x = at.x + (width - room_w) // 2 if alone else at.x
    lines = [_lines(graph, one, frame, room_w) for one in band]
    height = HEAD_H + LINE_H * (max(map(len, lines)) - 1)
    return [
        Shape(one, x + column * (room_w + _GAP), at.y, room_w, height, "room", told)
        for column, (one, told) in enumerate(zip(band, lines, strict=True))
    ]


def _linked(graph: Graph, one: Shape, bar: Shape) -> bool:
    return (one.name, bar.name) in graph.rooms or (bar.name, one.name) in graph.rooms


def _to_bar(graph: Graph, one: Shape, bar: Shape) -> Shape:
    """The arrow between a room and its frame's bar, straight up or down."""
    x, above = one.x + one.w // 2, one.y < bar.y
    y1, y2 = (one.y + one.h, bar.y) if above else (bar.y + bar.h, one.y)
    upper, lower = (one.name, bar.name) if above else (bar.name, one.name)
    down, up = graph.rooms.get((upper, lower), 0), graph.rooms.get((lower, upper), 0)
    return arrow([(x, y1), (x, y2)], down=down, up=up)


def _lines(graph: Graph, one: str, frame: str, width: int) -> list[Line]:
    """What stands in a room: name and size, what it is, its larger parts, what it takes."""
    shown = "its own files" if one == frame else one.partition(".")[2]
    lines = [Line("name", shown, str(graph.sizes[one]))]
    if one != frame:
        lines += _wrapped("", graph.about(one), width)
    if parts := graph.parts(one):
        lines += _wrapped("part", " · ".join(f"{word} {count}" for word, count in parts), width)
    taken = {b: count for (a, b), count in graph.rooms.items() if a == one and b != frame}
    if one == frame:  # its arrows say the rest
        taken = {b: count for b, count in taken.items() if frame_of(b) != frame}
    if taken:
        most = sorted(taken.items(), key=lambda pair: (-pair[1], pair[0]))
        lines += _wrapped("takes", "→ " + " · ".join(f"{b} {count}" for b, count in most), width)
    return lines


def _wrapped(kind: str, text: str, width: int) -> list[Line]:
    chars = int((width - 2 * _GAP) / _CHAR_W)
    # A name and its number stay together.
    glued = text.replace(" · ", " ·\n").replace(" ", "\N{NO-BREAK SPACE}").replace("\n", " ")
    pieces = glued if " · " in text else text
    return [Line(kind, line) for line in textwrap.wrap(pieces, chars, break_long_words=False)]


def _between(graph: Graph, boxes: dict[str, Shape]) -> list[Shape]:
    """The arrows between frames: straight down, or past a layer at the right."""
    level = {frame: number for number, layer in enumerate(LAYERS) for frame in layer}
    wrong, found = set(graph.wrong()), []
    for (a, b), count in sorted(graph.frames.items()):
        start, end = boxes[a], boxes[b]
        if (a, b) in wrong:
            points = [(start.x + start.w // 2, start.y), (end.x + end.w // 2, end.y + end.h)]
        elif level[b] - level[a] > 1:
            side = max(box.x + box.w for box in boxes.values()) + _FRAME_GAP // 2
            y1, y2 = start.y + start.h // 2, end.y + end.h // 2
            points = [(start.x + start.w, y1), (side, y1), (side, y2), (end.x + end.w, y2)]
        else:
            narrow = min(start, end, key=lambda box: box.w)
            x = narrow.x + narrow.w // 2
            points = [(x, start.y + start.h), (x, end.y)]
        found.append(arrow(points, down=count, between=True, wrong=(a, b) in wrong))
    return found


def _told(graph: Graph) -> str:
    """The picture in words."""
    said = "; ".join(
        f"{a} imports {b} in {n} modules" for (a, b), n in sorted(graph.frames.items())
    )
    wrong = ", ".join(f"{a} imports {b}" for a, b in graph.wrong())
    return f"Layers of tiers from top to bottom: {said}. " + (
        f"Mistakes: {wrong}." if wrong else "Nothing points up or to the side."
    )
