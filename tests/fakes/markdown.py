"""The commands that a page of the documentation tells its reader to type."""

from __future__ import annotations

import re
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
_BLOCK = re.compile(r"^```sh\n(.*?)^```", re.DOTALL | re.MULTILINE)


def commands_of(page: str) -> list[str]:
    """Every command of a page below ``docs``, in order; continued lines are joined."""
    return commands_in((ROOT / "docs" / page).read_text())


def section(text: str, title: str) -> str:
    """A page's part below a heading of the second level, without it. It must be there."""
    (found,) = re.findall(
        rf"^## {re.escape(title)}\n(.*?)(?=^## |\Z)", text, re.DOTALL | re.MULTILINE
    )
    return str(found)


def commands_in(text: str) -> list[str]:
    """The same for a text."""
    joined = "".join(_BLOCK.findall(text)).replace("\\\n", " ")
    return [line.strip() for line in joined.splitlines() if line.strip() and line[0] != "#"]
