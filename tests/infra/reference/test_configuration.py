"""The page names every key that ``headwater config show`` knows, with its default."""

from __future__ import annotations

import re

import pytest

from infra.config_view import show_in_force
from infra.reference.configuration import draw_configuration

PAGE = draw_configuration()


def keys_on_the_page() -> set[str]:
    keys, table = set(), ""
    for line in PAGE.splitlines():
        if head := re.fullmatch(r"## `\[+([a-z0-9_.]+)\]+`", line):
            table = head[1]
        elif row := re.match(r"\| `([a-z0-9_]+)` \|", line):
            keys.add(f"{table}.{row[1]}")
    return keys


@pytest.mark.parametrize("tier", ["origin", "edge", "worker"])
def test_every_key_is_there(tier: str) -> None:
    known = {f"{tier}.{name}" for name in show_in_force([tier], None, environ={}).tiers[tier]}
    # Tables of their own: [[worker.models]].
    lists = {name for name in known if f"## `[[{name}]]`" in PAGE}
    on_page = keys_on_the_page()
    missing = {n for n in known - lists if n not in on_page}
    assert {n for n in missing if not any(n.startswith(f"{k}.") for k in on_page)} == set()


def test_defaults_types_and_texts_are_shown() -> None:
    assert "| `port` | integer | `7401` | 0: any free port. |" in PAGE
    assert '| `plane` | `all` `artifacts` `prompts` | `"all"` |' in PAGE
    assert "## `[[worker.models]]`" in PAGE
    assert "`HEADWATER_EDGE__GATEWAY__FRONT__…`" in PAGE


def test_every_key_says_what_it_is_for() -> None:
    rows = [line for line in PAGE.splitlines() if line.startswith("| `")]
    assert len(rows) > 500
    assert [row for row in rows if not row.rpartition(" | ")[2].strip(" |")] == []


def test_no_cell_breaks_its_table() -> None:
    for line in PAGE.splitlines():
        if line.startswith("| `"):
            assert len(re.findall(r"(?<!\\)\|", line)) == 5, line
