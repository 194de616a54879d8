"""Special tokens are found longest first, as llama.cpp finds them."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from wire.bundle import SpecialToken
from wire.specials import Piece, Specials


def specials(*texts: str) -> Specials:
    return Specials(SpecialToken(text, index) for index, text in enumerate(texts))


@pytest.mark.parametrize(
    ("text", "pieces"),
    [
        ("", []), ("plain", ["plain"]), ("<a>", [0]), ("x<a>y", ["x", 0, "y"]),
        ("<a><b><a>", [0, 1, 0]), ("<a", ["<a"]), ("<<a>>", ["<", 0, ">"]),
    ],
)  # fmt: skip
def test_a_text_is_cut_at_its_special_tokens(text: str, pieces: list[Piece]) -> None:
    assert specials("<a>", "<b>").partition(text) == pieces


def test_the_longest_literal_wins_even_where_a_shorter_one_begins_before_it() -> None:
    assert specials("ab", "bcd").partition("abcd") == ["a", 1]


def test_length_is_counted_in_bytes() -> None:
    assert specials("ab", "ü", "bü").partition("abü") == ["a", 2]


def test_white_space_runs_are_taken_greedily() -> None:
    assert specials("  ", "    ").partition(" " * 7) == [1, 0, " "]


@given(st.text("<ab>", max_size=30))
def test_pieces_put_together_are_the_text(text: str) -> None:
    texts = ("<a>", "<b>", "<ab>", "a>")
    found = specials(*texts).partition(text)
    assert "".join(texts[piece] if isinstance(piece, int) else piece for piece in found) == text
    assert not any(isinstance(piece, str) and specials(*texts).holds_any(piece) for piece in found)


def test_whether_any_is_there() -> None:
    assert specials("<a>").holds_any("x<a>")
    assert not specials("<a>").holds_any("x<a")
