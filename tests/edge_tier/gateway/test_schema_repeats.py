"""Repeats that end, and those at which grammar compilers hang."""

from __future__ import annotations

import re
from contextlib import suppress
from typing import Any

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from edge_tier.gateway.parse_errors import ParameterInvalidError
from edge_tier.gateway.schema_repeats import check_ranges, check_repeats

ATOMS = st.sampled_from(["a", "b", ".", r"\d", "[ab]", "[^a|b(]", r"\(", "^", "$"])
QUANTIFIERS = st.sampled_from(["", "", "?", "*", "+", "{2}", "{0,3}", "{1,}"])
PIECES = st.tuples(ATOMS, QUANTIFIERS).map("".join)
PATTERNS = st.recursive(
    PIECES,
    lambda inner: st.tuples(
        st.sampled_from(["(", "(?:"]),
        st.lists(st.lists(inner, max_size=3).map("".join), min_size=1, max_size=3).map("|".join),
        st.just(")"),
        QUANTIFIERS,
    ).map("".join),
    max_leaves=6,
)


@pytest.mark.parametrize(
    ("pattern", "written"),
    [
        ("", 0),
        ("^abc$", 0),
        (r"^[a-z+*]{2,8}-(?:\d{4}|x)\.(y|z)?$", 12),
        ("a*b+c??d+?", 6),
        ("(ab|cd){3}", 3),
        ("[(|]{5}", 5),
        ("a{,3}", 3),
        ("a{7,}", 7),
        ("{", 0),
        ("a{x}", 0),
        ("\\", 0),
        ("[a", 0),
    ],
)
def test_what_a_pattern_writes_out(pattern: str, written: int) -> None:
    assert check_repeats(pattern, "s") == written


@pytest.mark.parametrize(
    ("pattern", "why"),
    [
        ("^a{5,2}$", "at least more often"),
        ("(a|){1000}", "nothing"),
        ("(|){2}", "nothing"),
        ("()*", "nothing"),
        ("(a?)+", "nothing"),
        ("((a|)){2}", "nothing"),
        ("((a*)(b*))*", "nothing"),
        (r"\b{3}", "nothing"),
        ("^*", "nothing"),
        ("a?{3}", "nothing"),
        ("a?+", "nothing"),
        # To Python this is a lazy repeat; a grammar makes of it one that may be nothing.
        ("(a+?){2}", "nothing"),
        ("(?=a)b", "looks around"),
        ("(?<!a)b", "looks around"),
    ],
)
def test_repeats_without_end_are_refused(pattern: str, why: str) -> None:
    with pytest.raises(ParameterInvalidError, match=why) as caught:
        check_repeats(pattern, "tools[0]")
    assert caught.value.message.startswith("tools[0]")


@given(PATTERNS)
def test_a_repeat_is_refused_where_the_repeated_may_be_nothing(pattern: str) -> None:
    try:
        check_repeats(pattern, "s")
        compiled = re.compile(pattern)
    except (ParameterInvalidError, re.error):
        assume(False)

    refused = False
    try:
        check_repeats(f"({pattern}){{2}}", "s")
    except ParameterInvalidError:
        refused = True
    assert refused == (compiled.fullmatch("") is not None)


@given(st.text(alphabet="ab(|)?*+{}[]\\^$,0123:", max_size=60))
def test_no_pattern_breaks_the_check(pattern: str) -> None:
    with suppress(ParameterInvalidError):
        assert check_repeats(pattern, "s") >= 0


@pytest.mark.parametrize(
    ("schema", "written"),
    [
        ({}, 0),
        ({"minLength": 5, "maxLength": 5}, 10),
        ({"minItems": 3}, 3),
        ({"maxLength": 10**9}, 2_000),
        ({"minItems": -5, "maxItems": 3}, 3),
        ({"minimum": 1, "maximum": 1.5}, 0),
        ({"minLength": True}, 0),
    ],
)
def test_what_bounds_write_out(schema: dict[str, Any], written: int) -> None:
    assert check_ranges(schema, "s") == written


@pytest.mark.parametrize(
    "schema", [{"minItems": 1, "maxItems": True}, {"minimum": "x", "maximum": 2}]
)
def test_bounds_that_are_no_numbers_are_refused(schema: dict[str, Any]) -> None:
    with pytest.raises(ParameterInvalidError, match="must be numbers"):
        check_ranges(schema, "s")


@pytest.mark.parametrize(
    "schema",
    [
        {"minItems": 5, "maxItems": 2},
        {"minLength": 1, "maxLength": 0},
        {"minimum": 2, "maximum": 1},
        {"exclusiveMinimum": 2, "maximum": 1},
    ],
)
def test_bounds_that_cross_are_refused(schema: dict[str, Any]) -> None:
    with pytest.raises(ParameterInvalidError, match="is above"):
        check_ranges(schema, "s")
