"""Every `headwater` command in the documents' blocks is one, with options that it has."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
PAGES = sorted(
    path.relative_to(ROOT)
    for pattern in ("README.md", "docs/*.md", "docs/how-to/*.md")
    for path in ROOT.glob(pattern)
)
_BLOCK = re.compile(r"^```\w*\n(.*?)^```", re.DOTALL | re.MULTILINE)
_CALL = re.compile(
    r"(?:^|[;&|]\s*|\$ )\s*(?:\.venv/bin/|sudo )*headwater ([a-z][^|;&>\n]*)", re.MULTILINE
)


def known() -> dict[str, set[str]]:
    """Command → its options, by the page that is drawn from the code."""
    found: dict[str, set[str]] = {}
    for line in (ROOT / "docs/reference/commands.md").read_text().splitlines():
        if line.startswith("## headwater "):
            options = found[line.removeprefix("## headwater ")] = {"--help"}
        elif line.startswith("| `-"):
            options |= set(re.findall(r"`(-[\w-]+)`", line.split("|")[1]))
    return found


KNOWN = known()


def calls(page: Path) -> list[str]:
    blocks = _BLOCK.findall((ROOT / page).read_text())
    return [call for block in blocks for call in _CALL.findall(block.replace("\\\n", " "))]


def wrong(call: str) -> str:
    """What is wrong with a call; empty where nothing is."""
    words = shlex.split(call, comments=True)
    name = next((" ".join(words[:n]) for n in (2, 1) if " ".join(words[:n]) in KNOWN), "")
    if not name:
        return f"no command {words[:2]}"
    options = {word.partition("=")[0] for word in words if re.match(r"--?[a-z]", word)}
    return ", ".join(sorted(options - KNOWN[name]))


@pytest.mark.parametrize("page", PAGES, ids=str)
def test_commands_exist(page: Path) -> None:
    found = {call.strip(): problem for call in calls(page) if (problem := wrong(call))}
    assert found == {}


def test_a_wrong_command_is_seen() -> None:
    assert wrong("roll chat --to x") == ""
    assert wrong("roll chat --two x") == "--two"
    assert wrong("rol chat") == "no command ['rol', 'chat']"
