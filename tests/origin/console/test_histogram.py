from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from origin.console.histogram import quantile, since, total

BOUNDS = (1.0, 10.0, 100.0)
counts = st.lists(st.integers(0, 50), max_size=4).map(tuple)


def test_short_ones_have_nothing_in_the_rest() -> None:
    assert total([(1, 2), (), (0, 0, 5)]) == (1, 2, 5)
    assert total([]) == ()
    assert since((1, 2, 3), (1,)) == (0, 2, 3)
    assert since((1,), (5, 5)) == (0, 0)


@pytest.mark.parametrize(
    ("found", "share", "expected"),
    [
        ((10, 0, 0, 0), 0.5, 0.5),
        ((0, 10, 0, 0), 1.0, 10.0),
        ((5, 5, 0, 0), 0.75, 5.5),
        ((0, 0, 0, 4), 0.5, 100.0),
        ((), 0.5, None),
        ((0, 0), 0.5, None),
    ],
)
def test_a_quantile(found: tuple[int, ...], share: float, expected: float | None) -> None:
    assert quantile(BOUNDS, found, share) == expected


@given(counts, st.floats(0.01, 1), st.floats(0.01, 1))
def test_quantiles_do_not_fall_and_stay_within_the_bounds(
    found: tuple[int, ...], one: float, other: float
) -> None:
    low, high = (quantile(BOUNDS, found, share) for share in sorted((one, other)))
    if not any(found):
        assert low is high is None
        return
    assert low is not None
    assert high is not None
    assert 0 <= low <= high <= BOUNDS[-1]


@given(counts, counts)
def test_what_came_since_and_what_was_before_are_all(
    before: tuple[int, ...], more: tuple[int, ...]
) -> None:
    after = total([before, more])
    assert sum(since(after, before)) == sum(more)
