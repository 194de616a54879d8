"""edge_tier.gateway.code_points against the Unicode Character Database that Python carries."""

from __future__ import annotations

import unicodedata

import pytest

from edge_tier.gateway import code_points
from edge_tier.gateway.code_points import Ranges

ALL: dict[str, Ranges] = {
    name: value for name, value in vars(code_points).items() if name.isupper()
}
END = 0x110000


def members(ranges: Ranges) -> set[int]:
    return {code for first, last in ranges for code in range(first, last + 1)}


def of_category(category: str) -> set[int]:
    return {code for code in range(END) if unicodedata.category(chr(code)) == category}


@pytest.mark.parametrize("name", ALL)
def test_ranges_are_code_points_and_none_is_the_wrong_way_round(name: str) -> None:
    assert ALL[name]
    for first, last in ALL[name]:
        assert 0 <= first <= last < END


@pytest.mark.parametrize("name", ALL)
def test_no_range_is_given_twice(name: str) -> None:
    # "Without spaces" and the like name blocks that lie in another of their own ranges.
    ranges = ALL[name]
    assert len(set(ranges)) == len(ranges)


def test_controls_are_all_of_them_but_those_of_lines() -> None:
    assert members(code_points.CONTROL) == of_category("Cc") - {*b"\t\n\r"}


def test_surrogates_and_noncharacters_are_unicodes() -> None:
    assert members(code_points.SURROGATE) == of_category("Cs")
    assert len(members(code_points.NONCHARACTER)) == 66  # Unicode 15, section 23.7


def test_directions_are_those_of_the_bidirectional_algorithm() -> None:
    classes = {"LRE", "RLE", "PDF", "LRO", "RLO", "LRI", "RLI", "FSI", "PDI"}
    found = {code for code in range(END) if unicodedata.bidirectional(chr(code)) in classes}
    assert members(code_points.BIDI_CONTROL) == found


def test_every_format_character_belongs_to_some_kind() -> None:
    """One that none of the ranges names would pass unseen; these few are visible."""
    hidden = ("CONTROL", "TAG", "BIDI_CONTROL", "BIDI_MARK", "JOINER", "ZERO_WIDTH", "ANNOTATION")
    known = set().union(*(members(ALL[name]) for name in hidden))
    rest = of_category("Cf") - known
    assert {unicodedata.name(chr(code)).split()[0] for code in rest} <= {
        "ARABIC", "SYRIAC", "KAITHI", "EGYPTIAN", "MONGOLIAN",
    }  # fmt: skip


def test_letters_and_digits_in_disguise_are_plain_ones_below() -> None:
    for code in members(code_points.FULL_WIDTH_LETTER):
        assert unicodedata.normalize("NFKC", chr(code)).isascii()
    for code in members(code_points.OTHER_DIGIT):
        assert unicodedata.category(chr(code)) == "Nd"
        assert 0 <= unicodedata.digit(chr(code)) <= 9
