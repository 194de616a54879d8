"""Which page of ``docs/reference`` is drawn by what. A page is a function without arguments that
returns the whole text; each lives in a file of its own in this package."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path

from infra.reference.architecture import draw_architecture
from infra.reference.commands import draw_commands
from infra.reference.configuration import draw_configuration
from infra.reference.errors import draw_errors
from infra.reference.openapi.documents import draw_edge, draw_origin

FOLDER = Path(__file__).resolve().parents[2] / "docs" / "reference"

PAGES: Mapping[str, Callable[[], str]] = {
    "architecture.svg": draw_architecture,
    "commands.md": draw_commands,
    "configuration.md": draw_configuration,
    "errors.md": draw_errors,
    "openapi-edge.json": draw_edge,
    "openapi-origin.json": draw_origin,
}
"""File name below ``docs/reference`` → what draws it."""


def write_all(folder: Path = FOLDER, pages: Mapping[str, Callable[[], str]] = PAGES) -> list[Path]:
    """Draw every page; returns those whose text changed."""
    folder.mkdir(parents=True, exist_ok=True)
    changed = []
    for name, draw in pages.items():
        path, text = folder / name, draw()
        if not path.exists() or path.read_text() != text:
            path.write_text(text)
            changed.append(path)
    return changed
