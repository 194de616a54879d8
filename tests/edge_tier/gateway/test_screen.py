"""The first look: nothing that any step would find gets by it."""

from __future__ import annotations

import pytest

from edge_tier.gateway.personal_data import DETECTORS
from edge_tier.gateway.screen import (
    FIRST_DETECTOR,
    HIDDEN,
    HOMOGLYPHS,
    LITERAL,
    OTHER_DIGITS,
    ControlLiterals,
)

SCREEN = ControlLiterals(["<|end|>", "<|end|>x", "", '<"q">'])
EMAIL = FIRST_DETECTOR + [detector.kind for detector in DETECTORS].index("email")


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("hello", []),
        ("a\u200bb", [HIDDEN]),
        ("\ud800 <|end|>", [HIDDEN]),
        ("раypal", [HOMOGLYPHS]),
        ("٢٠٢٤", [OTHER_DIGITS]),
        ("a <|end|> b", [LITERAL]),
        (r"<\"q\">", [LITERAL]),
        ("joe@example.com", [EMAIL]),
        ("joe@example.com <|end|>", [EMAIL, LITERAL]),
    ],
)
def test_what_is_suspected(text: str, expected: list[int]) -> None:
    assert sorted(SCREEN.suspicions(text)) == expected


def test_literals_are_found_longest_first_and_not_without_end() -> None:
    assert [m[1:] for m in SCREEN.find("é<|end|>x<|end|>")] == [(1, 9), (9, 16)]
    assert len(SCREEN.find("<|end|>" * 1_000)) == 100
    assert SCREEN.occur("<|end|>")
    assert not SCREEN.occur("<|en d|>")


def test_without_literals_nothing_is_one() -> None:
    screen = ControlLiterals([])
    assert screen.suspicions("<|end|>") == []
    assert screen.find("<|end|>") == []
    assert not screen.occur("<|end|>")
