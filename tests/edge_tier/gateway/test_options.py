"""Options of a multiple choice: told from what is asked, and compared."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edge_tier.gateway.options import OPTIONS, compared, parted
from tests.fakes.cpu import least_cpu_s


def told(*options: str, stem_chars: int = 20) -> dict[str, int]:
    return dict(zip(OPTIONS, compared(options, stem_chars), strict=True))


@pytest.mark.parametrize(
    ("text", "options"),
    [
        ("Which?\nA. red\nB. blue\nAnswer:", ["red", "blue"]),
        ("Which?\n(A) red\n(B) blue\n(C) 3", ["red", "blue", "3"]),
        ("Which?\nA) red\nB) blue", ["red", "blue"]),
        ("Which?\nA. red", []),
        ("A. red and B. blue are in one line.", []),
        ("Which letter is it, A or B?", []),
    ],
)
def test_options_are_told_from_what_is_asked(text: str, options: list[str]) -> None:
    stem, found = parted(text)
    assert found == options
    if options:
        assert stem.strip() == "Which?"


def test_a_text_without_options_is_left_alone() -> None:
    assert parted("What is the capital of France?") == ("What is the capital of France?", [])


def test_options_that_share_words_are_less_distinct() -> None:
    same = told("the price rises and output falls", "the price falls and output rises")
    apart = told("a tax on imports", "public schools")
    assert (same["options_distinct"], apart["options_distinct"]) == (50, 100)


def test_function_words_are_not_shared_words() -> None:
    assert told("the cat", "the dog")["options_distinct"] == 100


@pytest.mark.parametrize(
    ("name", "more", "less"),
    [
        ("options_digits", ("12", "13"), ("twelve", "thirteen")),
        ("options_directions", ("more", "less"), ("red", "blue")),
        ("options_word_length", ("photosynthesis", "respiration"), ("a cat", "a dog")),
        ("options_share", ("a long answer of its own", "and one more"), ("x", "y")),
    ],
)
def test_a_feature_rises_with_what_it_is_named_for(
    name: str, more: tuple[str, ...], less: tuple[str, ...]
) -> None:
    assert told(*more)[name] > told(*less)[name]


@given(st.lists(st.text(), min_size=2, max_size=8), st.integers(0, 5_000))
def test_any_options_have_bounded_features(options: list[str], stem_chars: int) -> None:
    found = compared(options, stem_chars)
    assert len(found) == len(OPTIONS)
    assert all(0 <= hundredths <= 2_000 for hundredths in found)


@pytest.mark.parametrize("line", ["A. x\n", "\nA\nB", "(A) ", "A. " + "Answer:" * 9 + "\n"])
def test_hostile_lines_take_bounded_time(line: str) -> None:
    text = (line * 1_800)[:1_800]

    def compare() -> None:
        stem, options = parted(text)
        compared(options or ["a", "b"], len(stem))
        assert len(options) <= 8

    assert least_cpu_s(compare, 0.02) < 0.02
