"""Who imports whom, by rooms: a tier is a frame, and its rooms are its packages and what lies
beside them. Read from the source; nothing is imported for it."""

from __future__ import annotations

import ast
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
LAYERS: Sequence[Sequence[str]] = (
    ("infra",),
    ("origin", "edge_tier", "gpu_worker"),
    ("wire",),
)
"""Frames from the top. Those beside each other do not know each other either."""
_LEAST_PART = 3


@dataclass(frozen=True, slots=True)
class Module:
    """A file: where it is, what it imports, and what it says of itself."""

    name: str
    room: str
    imports: frozenset[str]
    text: str

    @property
    def frame(self) -> str:
        return frame_of(self.name)


@dataclass(frozen=True)
class Graph:
    """All modules of the frames."""

    modules: Sequence[Module]

    @cached_property
    def sizes(self) -> Mapping[str, int]:
        """Room → how many modules it has; the frames' own rooms first, then by name."""
        return dict(sorted(Counter(module.room for module in self.modules).items()))

    @cached_property
    def rooms(self) -> Mapping[tuple[str, str], int]:
        """(room, room) → how many modules of the first import something of the second."""
        known = self.sizes.keys()
        found: Counter[tuple[str, str]] = Counter()
        for module in self.modules:
            others = {room_of(name, known) for name in module.imports} - {"", module.room}
            found.update((module.room, other) for other in others)
        return found

    @cached_property
    def frames(self) -> Mapping[tuple[str, str], int]:
        """The same of frames."""
        known = {module.frame for module in self.modules}
        found: Counter[tuple[str, str]] = Counter()
        for module in self.modules:
            others = {frame_of(name) for name in module.imports} & known - {module.frame}
            found.update((module.frame, other) for other in others)
        return found

    def wrong(self) -> list[tuple[str, str]]:
        """Frames that import one above them, or beside them."""
        level = {frame: number for number, layer in enumerate(LAYERS) for frame in layer}
        return sorted((a, b) for a, b in self.frames if level[a] >= level[b])

    def about(self, room: str) -> str:
        """What a package says of itself, in its first sentence."""
        (text,) = (module.text for module in self.modules if module.name == room)
        return " ".join(text.replace("`", "").split()).partition(". ")[0].rstrip(".")

    def parts(self, room: str) -> list[tuple[str, int]]:
        """First words that several modules of a room share, and how many do; the largest first."""
        inside = [m.name[len(room) + 1 :] for m in self.modules if m.room == room]
        words = Counter(name.partition(".")[0].partition("_")[0] for name in inside if name)
        shared = [(word, count) for word, count in words.items() if count >= _LEAST_PART]
        return sorted(shared, key=lambda one: (-one[1], one[0]))


def read_graph(root: Path = ROOT) -> Graph:
    """The graph of the code below a folder that has the frames."""
    files = {module: path for frame in _frames() for module, path in _files(root, frame)}
    # A package that is nothing but a folder of other files is no room.
    packages = {name for name, path in files.items() if path.name == "__init__.py"}
    filled = {name for name in packages if any(m.startswith(f"{name}.") for m in files)}
    rooms = {name for name in filled if name.count(".") <= 1}
    return Graph([_module(name, path, rooms) for name, path in sorted(files.items())])


def frame_of(module: str) -> str:
    """The frame that a module is in, by its name."""
    return module.partition(".")[0]


def room_of(module: str, rooms: Iterable[str]) -> str:
    """The innermost room that a module is in; empty for others' modules."""
    inside = [room for room in rooms if module == room or module.startswith(f"{room}.")]
    return max(inside, key=len, default="")


def _frames() -> list[str]:
    return [frame for layer in LAYERS for frame in layer]


def _files(root: Path, frame: str) -> Iterator[tuple[str, Path]]:
    for path in sorted((root / frame).rglob("*.py")):
        name = ".".join(path.relative_to(root).with_suffix("").parts)
        yield name.removesuffix(".__init__"), path


def _module(name: str, path: Path, rooms: set[str]) -> Module:
    tree = ast.parse(path.read_text())
    return Module(name, room_of(name, rooms), _imported(tree), ast.get_docstring(tree) or "")


def _imported(tree: ast.Module) -> frozenset[str]:
    names: set[str] = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            # What is imported may be a module itself: ``from wire import discovery``.
            names |= {f"{node.module}.{alias.name}" for alias in node.names}
    return frozenset(names)
