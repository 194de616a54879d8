"""The commands that a page of the documentation tells its reader to type."""

from __future__ import annotations

import re
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
_BLOCK = re.compile(r"^```sh\n(.*?)^```", re.DOTALL | re.MULTILINE)


def commands_of(page: str) -> list[str]:
    """Every command of a page below ``docs``, in order; continued lines are joined."""
    text = (ROOT / "docs" / page).read_text()
    joined = "".join(_BLOCK.findall(text)).replace("\\\n", " ")
    return [line.strip() for line in joined.splitlines() if line.strip() and line[0] != "#"]
