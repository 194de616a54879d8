"""``architecture.svg``: the rooms of the code and who imports whom, drawn from the imports
themselves. Layers go from top to bottom; an arrow upwards would be a mistake, and has a colour."""

from __future__ import annotations

import ast
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from xml.sax.saxutils import escape

ROOT = Path(__file__).resolve().parents[2]
LAYERS: Sequence[Sequence[str]] = (
    ("infra",),
    ("origin", "edge_tier", "edge_tier.cache", "edge_tier.gateway", "gpu_worker"),
    ("wire",),
)
"""From the top. A room is a package with what is below it, unless that is a room of its own."""
ABOUT: Mapping[str, str] = {
    "infra": "command, launcher, deployment",
    "origin": "publish, sign, store, roll",
    "edge_tier": "one process of a region",
    "edge_tier.cache": "artifact plane",
    "edge_tier.gateway": "prompt plane",
    "gpu_worker": "pull, check, load, serve",
    "wire": "the contract that all share",
}
_W, _H, _GAP_X, _GAP_Y, _PAD = 196, 64, 24, 96, 20


def room_of(module: str) -> str:
    """The room that a module is in; empty for others' modules."""
    rooms = [room for layer in LAYERS for room in layer]
    inside = [room for room in rooms if module == room or module.startswith(f"{room}.")]
    return max(inside, key=len, default="")


def imports() -> Counter[tuple[str, str]]:
    """(room, room) → how many modules of the first import something of the second."""
    found: Counter[tuple[str, str]] = Counter()
    for top in {room.partition(".")[0] for layer in LAYERS for room in layer}:
        for path in sorted((ROOT / top).rglob("*.py")):
            module = ".".join(path.relative_to(ROOT).with_suffix("").parts)
            mine = room_of(module)
            others = {room_of(name) for name in _imported(path)} - {"", mine}
            found.update((mine, other) for other in others)
    return found


def upward(edges: Counter[tuple[str, str]]) -> list[tuple[str, str]]:
    """Imports from a layer into one above it."""
    level = {room: number for number, layer in enumerate(LAYERS) for room in layer}
    return sorted((a, b) for a, b in edges if level[a] > level[b])


def draw_architecture() -> str:
    """The picture; light and dark by the reader's own colours."""
    edges, places = imports(), _places()
    wrong = set(upward(edges))
    width = max(x + _W for x, _ in places.values()) + _PAD
    height = max(y + _H for _, y in places.values()) + _PAD
    arrows = [
        _arrow(places[a], places[b], count, wrong=(a, b) in wrong)
        for (a, b), count in sorted(edges.items())
    ]
    rooms = [_room(name, place) for name, place in places.items()]
    return "\n".join([_head(width, height), *arrows, *rooms, "</svg>"]) + "\n"


def _imported(path: Path) -> set[str]:
    names: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            names |= {node.module}
    return names


def _places() -> dict[str, tuple[int, int]]:
    widest = max(len(layer) for layer in LAYERS)
    places = {}
    for row, layer in enumerate(LAYERS):
        indent = (widest - len(layer)) * (_W + _GAP_X) // 2
        for column, room in enumerate(layer):
            places[room] = (_PAD + indent + column * (_W + _GAP_X), _PAD + row * (_H + _GAP_Y))
    return places


def _arrow(start: tuple[int, int], end: tuple[int, int], count: int, *, wrong: bool) -> str:
    kind = "wrong" if wrong else "arrow"
    if start[1] == end[1]:  # beside each other: an arch below
        x1, x2, y = start[0] + _W // 2, end[0] + _W // 2, start[1] + _H
        path = f"M{x1},{y} C{x1},{y + 44} {x2},{y + 44} {x2},{y + 2}"
        at = ((x1 + x2) // 2, y + 30)
    elif end[1] - start[1] > _H + _GAP_Y:  # past a layer: through the gap beside its middle
        x, y1, y2 = start[0] + _W + _GAP_X // 2, start[1] + _H, end[1] - 2
        path = f"M{x - 40},{y1} L{x},{y1 + 40} L{x},{y2 - 40} L{x - 40},{y2}"
        at = (x, y2 - 30)
    else:
        shift = (start[0] - end[0]) // 6
        x1, x2 = start[0] + _W // 2 - shift, end[0] + _W // 2 + shift
        down = start[1] < end[1]
        y1, y2 = (start[1] + _H, end[1] - 2) if down else (start[1], end[1] + _H + 2)
        path, at = f"M{x1},{y1} L{x2},{y2}", ((x1 + 2 * x2) // 3, (y1 + 2 * y2) // 3)
    label = f'<text class="count" x="{at[0] + 5}" y="{at[1]}">{count}</text>'
    return f'<path class="{kind}" d="{path}" marker-end="url(#tip)"/>{label}'


def _room(name: str, place: tuple[int, int]) -> str:
    x, y = place
    middle = x + _W // 2
    return (
        f'<rect x="{x}" y="{y}" width="{_W}" height="{_H}" rx="8"/>'
        f'<text class="name" x="{middle}" y="{y + 27}">{escape(name)}</text>'
        f'<text class="about" x="{middle}" y="{y + 47}">{escape(ABOUT[name])}</text>'
    )


def _head(width: int, height: int) -> str:
    return f"""<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" role="img">
<title>Rooms of the code, and how many modules of one import another</title>
<style>
 svg {{ --ink: #1f2933; --line: #7b8794; --room: #f5f7fa; --bad: #c81e1e }}
 @media (prefers-color-scheme: dark) {{
  svg {{ --ink: #e4e7eb; --line: #9aa5b1; --room: #29323d; --bad: #ff7b72 }}
 }}
 rect {{ fill: var(--room); stroke: var(--line) }}
 text {{ fill: var(--ink); font-family: system-ui, sans-serif; text-anchor: middle }}
 .name {{ font-size: 15px; font-weight: 600 }} .about {{ font-size: 11px }}
 .count {{ font-size: 11px; text-anchor: start }}
 .arrow, .wrong {{ fill: none; stroke: var(--line); stroke-width: 1.3 }}
 .wrong {{ stroke: var(--bad); stroke-width: 3 }}
 #tip path {{ fill: var(--line) }}
</style>
<defs><marker id="tip" viewBox="0 0 8 8" refX="7" refY="4" markerWidth="7" markerHeight="7"
 orient="auto"><path d="M0,0 L8,4 L0,8 z"/></marker></defs>"""
