"""What is remembered is bounded, and belongs to the rules under which it was found clean."""

from __future__ import annotations

import sys

from edge_tier.gateway.memo import CleanTexts, Memo
from edge_tier.gateway.request import ContentRule, Rules


def test_a_text_is_clean_only_under_the_rules_that_found_it_so() -> None:
    texts = CleanTexts(10_000)
    texts.add(1, "hello")
    assert texts.holds(1, "hello")
    assert not texts.holds(2, "hello")
    assert not texts.holds(1, "hello!")


def test_texts_that_are_seen_stay_and_others_are_forgotten() -> None:
    texts = CleanTexts(20_000)
    texts.add(1, "kept")
    for number in range(1_000):
        texts.add(1, f"text {number}")
        assert texts.holds(1, "kept")
    assert texts.holds(1, "text 999")
    assert not texts.holds(1, "text 0")


def test_a_text_too_large_for_the_memory_is_not_kept() -> None:
    texts = CleanTexts(1_000)
    texts.add(1, "a" * 1_000)
    assert not texts.holds(1, "a" * 1_000)


def test_all_texts_together_are_bounded() -> None:
    texts = CleanTexts(100_000)
    held = [f"{number}" + "é" * 500 for number in range(1_000)]
    for text in held:
        texts.add(1, text)
    total = sum(sys.getsizeof(text) for text in held if texts.holds(1, text))
    assert 0 < total <= 100_000


def test_rules_are_compiled_once_and_told_apart_by_identity() -> None:
    memo: Memo[str] = Memo()
    rules = Rules(content=(ContentRule(name="r", words=("bomb",)),))
    known = memo.known(rules, "literals")
    assert memo.known(rules, "literals") is known
    assert memo.known(Rules(content=rules.content), "literals") is not known
    assert memo.known(rules, "others").number != known.number


def test_rules_are_bounded_too() -> None:
    memo: Memo[str] = Memo(max_rules=3)
    every = [Rules(name=str(number)) for number in range(10)]
    first = memo.known(every[0], "x")
    for rules in every:
        memo.known(rules, "x")
    assert memo.known(every[0], "x") is not first
