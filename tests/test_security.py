"""Every test that SECURITY.md names exists."""

from __future__ import annotations

import ast
import re
from pathlib import Path

import pytest

TESTS = Path(__file__).parent
NAMED = sorted(
    set(re.findall(r"`([a-z_/0-9]+\.py)::(\w+)`", (TESTS.parent / "SECURITY.md").read_text()))
)


@pytest.mark.parametrize(("file", "name"), NAMED)
def test_it_exists(file: str, name: str) -> None:
    tree = ast.parse((TESTS / file).read_text())
    kinds = (ast.FunctionDef, ast.AsyncFunctionDef)
    assert name in {node.name for node in ast.walk(tree) if isinstance(node, kinds)}


def test_every_row_of_the_table_names_one() -> None:
    text = (TESTS.parent / "SECURITY.md").read_text()
    rows = [
        line for line in text.splitlines() if line.startswith("| ") and "what comes" not in line
    ]
    assert len(rows) > 30
    assert all(".py::" in row for row in rows)
