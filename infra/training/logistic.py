"""Logistic regression with a Gaussian prior and signs, in numpy alone.

Minimises the weighted log loss plus ``penalty/2 * (w - prior)^2`` under ``w >= lower`` by the
accelerated proximal gradient method with restarts (FISTA: Beck and Teboulle 2009; O'Donoghue and
Candès 2015).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]


@dataclass(frozen=True, slots=True, kw_only=True)
class Problem:
    """What to fit. Shapes: ``x`` (rows, columns), ``y`` and ``offset`` (rows), the rest (columns).

    ``offset`` is a part of the logit that is known already. ``lower`` is ``-inf`` where a weight
    may have any sign and 0 where it must not be negative.
    """

    x: Floats
    y: Floats
    offset: Floats
    penalty: Floats
    prior: Floats
    lower: Floats


def fit(problem: Problem, *, iterations: int = 2_000, tolerance: float = 1e-5) -> Floats:
    """The weights. The bias is a column of ones with penalty 0."""
    step = 1 / _lipschitz(problem)
    weights = np.maximum(problem.prior, problem.lower)
    ahead, momentum = weights, 1.0
    for _ in range(iterations):
        new = np.maximum(ahead - step * _gradient(problem, ahead), problem.lower)
        move = new - weights
        if (ahead - new) @ move > 0:
            momentum = 1.0
        following = (1 + np.sqrt(1 + 4 * momentum**2)) / 2
        ahead = new + (momentum - 1) / following * move
        weights, momentum = new, following
        if np.abs(move).max() < tolerance:
            break
    return weights


def sigmoid(logits: Floats) -> Floats:
    """Numerically safe for any logit."""
    return 0.5 * (1 + np.tanh(0.5 * logits))


def _gradient(problem: Problem, weights: Floats) -> Floats:
    residual = sigmoid(problem.x @ weights + problem.offset) - problem.y
    gradient: Floats = problem.x.T @ residual + problem.penalty * (weights - problem.prior)
    return gradient


def _lipschitz(problem: Problem) -> float:
    """A bound on the curvature, by the power method: a quarter of the largest eigenvalue of XᵀX."""
    vector = np.ones(problem.x.shape[1]) / np.sqrt(problem.x.shape[1])
    value = 1.0
    for _ in range(50):
        vector = problem.x.T @ (problem.x @ vector)
        value = float(np.linalg.norm(vector)) or 1.0
        vector /= value
    return 1.1 * value / 4 + float(problem.penalty.max())
