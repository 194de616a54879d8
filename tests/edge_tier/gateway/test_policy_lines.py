from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edge_tier.gateway.policy_lines import line_of

TEXT = """\
[tenants]
a = "b"
[policies.base]
privacy = "any"
personal_kinds = { email = "mask" }

[policies.shop]
extends = "base"
shadow = 1
[policies.shop.personal_kinds]
phone = "mask"
[[policies.shop.routes]]
name = "one"
only = false
[[policies.shop.routes]]
name = "two"
only = 3
[[policies."shop".content]]
name = "one"
"""


@pytest.mark.parametrize(
    ("problem", "line"),
    [
        ("Expected `bool`, got `int` - at `$.shadow`", 9),
        ("Expected `bool`, got `int` - at `$.routes[1].only`", 17),
        ("Object contains unknown field `only` - at `$.routes[0]`", 14),
        ("Object missing required field `x` - at `$.routes[1]`", 15),
        ("Object contains unknown field `shadow`", 9),
        ("Invalid enum value 'x' - at `$.privacy`", 4),
        ("Invalid enum value 'x' - at `$.personal_kinds[...]`", 10),
        ("personal_kinds has no kind 'phone'; known: ...", 11),
        ("personal_kinds has no kind 'email'; known: ...", 10),
        ("route row 'two': unknown condition", 16),
        ("content rule 'one' is never met", 19),
        ("two route rows are named 'one'; the log could not tell them", 13),
        ("something else", 7),
    ],
)
def test_the_line_of_a_problem(problem: str, line: int) -> None:
    assert line_of(TEXT, ("shop", "base"), problem) == line


def test_what_is_not_written_in_tables_has_no_line() -> None:
    assert line_of("policies = { a = { shadow = 1 } }", ("a",), "at `$.shadow`") is None


@given(st.text(), st.text())
def test_any_text_has_a_line_or_none(text: str, problem: str) -> None:
    line = line_of(text, ("a",), problem)
    assert line is None or 1 <= line <= len(text.splitlines())
