"""The isotonic fit: it never falls, is the best that does not, and promises no certainty."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from infra.training.isotonic import auroc, calibration_error, isotonic

ROWS = st.lists(st.tuples(st.integers(-9, 0), st.booleans()), min_size=1, max_size=40)


@given(ROWS)
def test_the_curve_ascends_strictly_and_never_falls(rows: list[tuple[int, bool]]) -> None:
    scores, right = np.array(rows, dtype=float).T
    knots, chances = isotonic(scores, right)
    assert (np.diff(knots) > 0).all()
    assert (np.diff(chances) > 0).all()
    assert chances[-1] < 1
    assert chances[0] > 0


def test_violators_are_pooled() -> None:
    scores = np.repeat([-4.0, -3.0, -2.0, -1.0], 100)
    right = np.concatenate([np.arange(100) < n for n in (10, 60, 40, 90)]).astype(float)
    knots, chances = isotonic(scores, right)
    assert knots == pytest.approx([-4.0, -2.5, -1.0])
    assert chances == pytest.approx([0.1, 0.5, 0.9], abs=0.01)


def test_chances_that_come_true_have_no_error() -> None:
    right = np.array([1.0, 0.0, 1.0, 1.0, 1.0])
    assert calibration_error(np.full(5, 0.8), right) == pytest.approx(0)
    assert calibration_error(np.array([1.0, 1.0, 0.0, 0.0]), np.zeros(4)) == pytest.approx(0.5)


def test_auroc_counts_a_tie_half() -> None:
    right = np.array([0.0, 0.0, 1.0, 1.0])
    assert auroc(np.array([1.0, 2.0, 3.0, 4.0]), right) == 1.0
    assert auroc(np.array([1.0, 3.0, 3.0, 4.0]), right) == 0.875
    assert auroc(np.ones(4), right) == 0.5
