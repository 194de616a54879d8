"""The sparse fit: products, a chosen part of the rows, and the optimum."""

from __future__ import annotations

import numpy as np
import pytest

from infra.training.logistic import sigmoid
from infra.training.sparse_logistic import SparseRows, fit_sparse

ROWS = SparseRows.of([{0: 1.0, 2: 2.0}, {}, {1: 3.0}], 3)
DENSE = np.array([[1.0, 0.0, 2.0], [0.0, 0.0, 0.0], [0.0, 3.0, 0.0]])


def test_products_are_those_of_the_dense_matrix() -> None:
    weights, residual = np.array([1.0, -1.0, 0.5]), np.array([2.0, 1.0, -1.0])
    assert ROWS.times(weights) == pytest.approx(DENSE @ weights)
    assert ROWS.transposed_times(residual) == pytest.approx(DENSE.T @ residual)


def test_only_some_rows() -> None:
    part = ROWS.only(np.array([False, True, True]))
    assert part.shape == (2, 3)
    assert part.times(np.ones(3)) == pytest.approx([0.0, 3.0])


def test_the_gradient_vanishes_at_the_optimum() -> None:
    rng = np.random.default_rng(5)
    x = rng.normal(size=(300, 4))
    y = (rng.random(300) < sigmoid(x @ np.array([2.0, -1.0, 0.0, 0.0]) + 0.5)).astype(float)
    rows = SparseRows.of([dict(enumerate(row)) for row in x.tolist()], 4)
    weight = rng.random(300) + 0.5
    weights, bias = fit_sparse(rows, y, weight, 1.0, iterations=500)
    residual = weight * (sigmoid(x @ weights + bias) - y)
    assert np.abs(x.T @ residual + weights).max() < 0.01
    assert abs(residual.sum()) < 0.01
    assert weights[0] > 1
    assert weights[1] < -0.4
