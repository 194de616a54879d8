"""Logistic regression on sparse rows, in numpy alone.

Minimises the weighted log loss plus ``penalty/2 * |w|^2`` by Nesterov's accelerated gradient with
restarts (O'Donoghue and Candès 2015). Deterministic: nothing is sampled.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from infra.training.logistic import Floats, sigmoid

Indices = NDArray[np.intp]


@dataclass(frozen=True, slots=True)
class SparseRows:
    """Values with their row and column, ordered by row (the coordinate format)."""

    row: Indices
    column: Indices
    value: Floats
    shape: tuple[int, int]

    @classmethod
    def of(cls, rows: Sequence[dict[int, float]], columns: int) -> SparseRows:
        """Rows as a mapping of column to value."""
        counts = [len(row) for row in rows]
        return cls(
            np.repeat(np.arange(len(rows)), counts),
            np.array([column for row in rows for column in row], dtype=np.intp),
            np.array([value for row in rows for value in row.values()], dtype=np.float64),
            (len(rows), columns),
        )

    def only(self, kept: NDArray[np.bool_]) -> SparseRows:
        """The rows that are kept, in their order."""
        place = np.cumsum(kept) - 1
        entries = kept[self.row]
        return SparseRows(
            place[self.row[entries]],
            self.column[entries],
            self.value[entries],
            (int(kept.sum()), self.shape[1]),
        )

    def times(self, weights: Floats) -> Floats:
        """The product with a vector of columns."""
        products = self.value * weights[self.column]
        sums: Floats = np.bincount(self.row, products, self.shape[0]).astype(np.float64)
        return sums

    def transposed_times(self, residual: Floats) -> Floats:
        """The product of the transpose with a vector of rows."""
        products = self.value * residual[self.row]
        sums: Floats = np.bincount(self.column, products, self.shape[1]).astype(np.float64)
        return sums


def fit_sparse(
    x: SparseRows, y: Floats, weight: Floats, penalty: float, *, iterations: int = 120
) -> tuple[Floats, float]:
    """The weights and the bias; ``weight`` says how much each row counts."""
    step = 1 / (_curvature(x, weight) + penalty)
    weights, bias = np.zeros(x.shape[1]), 0.0
    ahead, ahead_bias, momentum = weights, bias, 1.0
    for _ in range(iterations):
        residual = weight * (sigmoid(x.times(ahead) + ahead_bias) - y)
        new = ahead - step * (x.transposed_times(residual) + penalty * ahead)
        new_bias = ahead_bias - step * float(residual.sum())
        if (ahead - new) @ (new - weights) > 0:
            momentum = 1.0
        following = (1 + np.sqrt(1 + 4 * momentum**2)) / 2
        push = (momentum - 1) / following
        ahead, ahead_bias = new + push * (new - weights), new_bias + push * (new_bias - bias)
        weights, bias, momentum = new, new_bias, following
    return weights, bias


def _curvature(x: SparseRows, weight: Floats) -> float:
    """A bound on the largest eigenvalue of the Hessian, bias included, by the power method."""
    vector, last, value = np.ones(x.shape[1]) / np.sqrt(x.shape[1]), 1.0, 1.0
    for _ in range(20):
        product = weight * (x.times(vector) + last)
        vector, last = x.transposed_times(product), float(product.sum())
        value = float(np.sqrt(vector @ vector + last * last)) or 1.0
        vector, last = vector / value, last / value
    return 1.1 * value / 4
