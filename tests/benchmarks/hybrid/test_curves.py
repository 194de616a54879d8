"""Curves of accuracy begin at never, end at always, and do not favour an order within a tie."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.benchmarks.hybrid.curves import Curve, curve

LOCAL = [True, True, False, False]
CLOUD = [True, True, True, True]


def test_a_good_order_closes_the_gap_at_once() -> None:
    found = curve([0.1, 0.2, 0.9, 0.8], LOCAL, CLOUD)
    assert found == Curve((0, 0.25, 0.5, 0.75, 1), (0.5, 0.75, 1, 1, 1))
    assert found.recovered(0.25) == 0.5
    assert found.area == 0.75
    assert found.share_for(1.0) == 0.5
    assert found.share_for(0.5) == 0.0


def test_no_order_at_all_is_as_good_as_chance() -> None:
    found = curve([1.0] * 4, LOCAL, CLOUD)
    assert found == Curve((0, 1), (0.5, 1))
    assert found.recovered(0.2) == pytest.approx(0.2)
    assert found.area == 0.5
    assert found.share_for(0.75) == 0.5
    assert found.share_for(1.5) == 1.0


@given(st.lists(st.tuples(st.floats(0, 1), st.booleans(), st.booleans()), min_size=1, max_size=20))
def test_the_ends_are_never_and_always(rows: list[tuple[float, bool, bool]]) -> None:
    found = curve(*zip(*rows, strict=True))
    assert (found.shares[0], found.shares[-1]) == (0, 1)
    assert found.accuracies[0] == sum(row[1] for row in rows) / len(rows)
    assert found.accuracies[-1] == sum(row[2] for row in rows) / len(rows)
