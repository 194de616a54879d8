"""Figures of two revisions: differences, quantiles, and what counts as worse."""

from __future__ import annotations

from bisect import bisect_left

import pytest
from hypothesis import given
from hypothesis import strategies as st

from origin.rollout_config import RolloutConfig
from origin.rollout_figures import Window, counted, told, why_worse
from wire.fleet import FIRST_TOKEN_BOUNDS_MS, RevisionFigures

CONFIG = RolloutConfig()


def times(*milliseconds: float) -> tuple[int, ...]:
    """Times to the first token, by bucket."""
    counts = [0] * (len(FIRST_TOKEN_BOUNDS_MS) + 1)
    for time in milliseconds:
        counts[bisect_left(FIRST_TOKEN_BOUNDS_MS, time)] += 1
    return tuple(counts)


def window(answered: int, failed: int = 0, *, ms: float = 40) -> Window:
    return Window(answered=answered, failed=failed, first_token=times(*[ms] * answered))


counts = st.lists(st.integers(0, 50), min_size=16, max_size=16).map(tuple)


@given(counts, counts)
def test_what_came_since_is_what_was_added(before: tuple[int, ...], more: tuple[int, ...]) -> None:
    first = Window(answered=7, failed=1, first_token=before)
    both = tuple(one + two for one, two in zip(before, more, strict=True))
    later = Window(answered=10, failed=3, first_token=both)
    assert later.since(first) == Window(answered=3, failed=2, first_token=more)


def test_counters_that_fell_count_as_nothing() -> None:
    later = Window(answered=1, first_token=times(3))
    assert later.since(Window(answered=5, failed=2, first_token=times(3, 30))).requests == 0


@given(counts.filter(any), st.floats(0.01, 1.0))
def test_a_quantile_lies_in_the_bucket_of_its_answer(
    buckets: tuple[int, ...], share: float
) -> None:
    found = Window(first_token=buckets).quantile_ms(share)
    assert found is not None
    rank, seen, index = sum(buckets) * share, 0, 0
    while seen + buckets[index] < rank and index < 15:
        seen, index = seen + buckets[index], index + 1
    lower = FIRST_TOKEN_BOUNDS_MS[index - 1] if index else 0
    upper = FIRST_TOKEN_BOUNDS_MS[index] if index < 15 else lower
    assert lower <= found <= upper


def test_no_answers_have_no_quantile_and_fail_nothing() -> None:
    assert Window().quantile_ms(0.5) is None
    assert Window().error_rate == 0


def test_counters_of_the_wire_are_taken_as_they_stand() -> None:
    figures = RevisionFigures(model="m", revision="r", answered=2, failed=1, first_token=(0, 2))
    assert counted(figures) == Window(answered=2, failed=1, first_token=(0, 2))


@pytest.mark.parametrize(
    ("trial", "stable", "word"),
    [
        (window(100), window(100), ""),
        (window(97, 3), window(100), "error rate 3.0% (3 of 100)"),
        (window(98, 2), window(100), ""),
        (window(97, 3), window(98, 2), ""),
        (window(95, 5), window(98, 2), "error rate 5.0%"),
        (window(100, ms=90), window(100, ms=40), "p50"),
        (window(100, ms=90), window(10, ms=40), ""),
        (window(100, ms=19), window(100, ms=4), ""),
        (Window(), window(100), ""),
        (Window(failed=1), Window(), "error rate 100.0% (1 of 1)"),
    ],
    ids=[
        "alike",
        "fails more than the bound",
        "fails within the bound",
        "the stable one fails too",
        "twice as often as the stable one",
        "slower",
        "too little to compare times with",
        "slower by less than the slack",
        "no requests",
        "all failed",
    ],
)
def test_what_is_worse_at_the_end(trial: Window, stable: Window, word: str) -> None:
    why = why_worse(trial, stable, CONFIG, final=True)
    assert word in why
    assert bool(why) == bool(word)


def test_a_slow_tail_is_worse_where_the_median_is_not() -> None:
    slow = Window(answered=200, first_token=times(*[40.0] * 180, *[900.0] * 20))
    assert "p95" in why_worse(slow, window(200), CONFIG, final=True)
    few = Window(answered=199, first_token=slow.first_token)
    assert not why_worse(few, window(200), CONFIG, final=True)
    assert not why_worse(slow, window(199), CONFIG, final=True)


def test_before_the_end_only_failures_count_and_not_one_or_two() -> None:
    stable = window(100)
    assert not why_worse(window(1, 2), stable, CONFIG, final=False)
    assert "error rate" in why_worse(window(1, 3), stable, CONFIG, final=False)
    assert not why_worse(window(100, ms=900), stable, CONFIG, final=False)


def test_figures_are_told_in_words_of_an_operator() -> None:
    assert told({"trial": window(1, 1, ms=5)}) == {
        "trial": {
            "requests": 2,
            "failed": 1,
            "error_rate": 0.5,
            "first_token_p50_ms": 2.5,
            "first_token_p95_ms": 4.8,
        }
    }


def test_a_window_goes_on_at_whoever_counts_otherwise() -> None:
    seen = Window(answered=5, failed=1, first_token=(1, 4))
    for counter in (Window(), Window(answered=100, failed=90, first_token=(9, 9, 9))):
        began = counter.before(seen)
        assert counter.since(began).requests == seen.requests
        later = Window(answered=counter.answered + 2, failed=counter.failed)
        assert later.since(began).answered == 7
