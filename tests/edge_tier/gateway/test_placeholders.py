"""Placeholders: one per value, numbered per kind, and never taken for what a client wrote."""

from __future__ import annotations

import re

import pytest

from edge_tier.gateway.placeholders import Placeholders


def test_the_same_value_has_the_same_placeholder() -> None:
    given = Placeholders(["hello"])
    assert given.of("email", "a@b.co") == "[EMAIL_1]"
    assert given.of("email", "c@d.co") == "[EMAIL_2]"
    assert given.of("email", "a@b.co") == "[EMAIL_1]"
    assert given.of("us_ssn", "078-05-1120") == "[US_SSN_1]"
    assert given.restore == {
        "[EMAIL_1]": "a@b.co",
        "[EMAIL_2]": "c@d.co",
        "[US_SSN_1]": "078-05-1120",
    }


@pytest.mark.parametrize("text", ["see [EMAIL_1]", "[EMAIL_12_x", "[MY_LIST_0]"])
def test_where_the_client_wrote_one_ours_are_tagged(text: str) -> None:
    placeholder = Placeholders(["hi", text]).of("email", "a@b.co")
    assert re.fullmatch(r"\[EMAIL_1_[0-9a-f]{6}\]", placeholder)
    assert placeholder not in text


def test_a_tag_that_the_client_wrote_is_not_taken() -> None:
    tags = iter(["aa", "bb"])
    given = Placeholders(["[EMAIL_1_aa] and [EMAIL_1]"], tag=lambda: next(tags))
    assert given.of("email", "a@b.co") == "[EMAIL_1_bb]"


@pytest.mark.parametrize("text", ["[EMAIL]", "a[1]", "[x_1]", "[1_A]", "[[]]"])
def test_other_brackets_do_not_matter(text: str) -> None:
    assert Placeholders([text]).of("email", "a@b.co") == "[EMAIL_1]"
