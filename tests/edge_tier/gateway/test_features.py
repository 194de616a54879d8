"""Features: the same everywhere, bounded, and about what they say."""

from __future__ import annotations

from math import log1p

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edge_tier.gateway.features import BUCKETS, DENSE, MAX_COUNT, Chunks, Features
from edge_tier.gateway.features import extract as extract_with
from edge_tier.gateway.options import OPTIONS
from tests.fakes.cpu import least_cpu_s


def extract(text: str) -> Features:
    return extract_with(text, Chunks())


def dense(text: str) -> dict[str, float]:
    return dict(zip(DENSE, extract(text).dense, strict=True))


@pytest.mark.parametrize(
    ("text", "name", "count"),
    [
        ("Explain and compare both.", "reasoning", 2),
        ("Why, and how?", "how_why", 2),
        ("3 apples, 4.5 pears and 1,000 nuts", "numbers", 3),
        ("if x then y unless z", "conditions", 2),
        ("x ≤ y + 2 = z", "math", 3),
        ("One. Two! Three?", "sentences", 3),
        ("the plaintiff sued the seller", "law", 3),
        ("what is the capital", "fact_words", 2),
        ("Don't stop, it's fine", "words", 4),
    ],
)
def test_counts_are_logarithms_of_what_occurs(text: str, name: str, count: int) -> None:
    assert dense(text)[name] == pytest.approx(log1p(count))


def test_choices_are_recognised_and_left_out_of_the_wording() -> None:
    stem = "Which gas do plants take in?"
    choice = extract(f"{stem}\nA. Oxygen\nB. Carbon dioxide\nC. Helium\nD. Neon\nAnswer:")
    plain = extract(stem)
    assert dict(zip(DENSE, choice.dense, strict=True))["options"] == 1
    assert plain.hashed
    assert not choice.hashed


def test_hashing_is_the_same_in_every_process() -> None:
    # CRC-32 of the words and of their pair; a changed hash would spoil the shipped weights.
    assert sorted(extract("hello world").hashed) == [323, 351, 1670]


def test_wording_of_a_long_text_weighs_no_more() -> None:
    short, long = extract("What is a verb?"), extract("word " * 3 + " ".join(map(str, range(99))))
    assert len(short.hashed) * short.hashed_value <= 8
    assert len(long.hashed) * long.hashed_value == pytest.approx(8)


@given(st.text())
def test_any_text_has_bounded_features(text: str) -> None:
    features = extract(text)
    assert len(features.dense) == len(DENSE)
    assert all(0 <= count <= MAX_COUNT for count in features.counts)
    assert all(0 <= bucket < BUCKETS for bucket in features.hashed)
    assert len(set(features.hashed)) == len(features.hashed)


@pytest.mark.parametrize(
    "text",
    [
        "word " * 100_000,
        "\n" * 500_000,
        "A. x\n" * 100_000,
        "9" * 500_000,
        "é" * 500_000,
        "b," * 200_000,
    ],
)
def test_long_texts_take_bounded_time(text: str) -> None:
    assert least_cpu_s(lambda: extract(text), 0.05) < 0.05


def test_what_was_met_before_changes_nothing() -> None:
    known = Chunks()
    texts = ["Explain it, please.", "f(x)=x^2, isn't it?", "Explain it, please."]
    assert [extract_with(text, known) for text in texts] == [extract(text) for text in texts]


def test_what_is_kept_is_bounded() -> None:
    known = Chunks()
    extract_with("short " + "y" * 500, known)
    assert list(known) == [b"short"]


def test_what_options_tell_is_counted_from_one() -> None:
    found = dense("Which?\nA. red and green\nB. red and blue\nAnswer:")
    assert all(found[name] > 0 for name in OPTIONS)
    assert found["options_distinct"] == pytest.approx(0.76)
    assert not any(dense("Which?\nA. red")[name] for name in OPTIONS)
