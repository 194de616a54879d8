"""The fit in numpy: it finds the optimum, keeps the signs and follows the prior."""

from __future__ import annotations

import numpy as np
import pytest

from infra.training.logistic import Floats, Problem, fit, sigmoid


def problem(penalty: float = 1.0, prior: float = 0.0, lower: float = -np.inf) -> Problem:
    rng = np.random.default_rng(3)
    x = np.hstack([np.ones((400, 1)), rng.normal(size=(400, 3))])
    y = (rng.random(400) < sigmoid(x @ np.array([0.5, 2.0, -1.0, 0.0]))).astype(float)
    ones = np.ones(3)
    return Problem(
        x=x,
        y=y,
        offset=np.zeros(400),
        penalty=np.array([0.0, *(penalty * ones)]),
        prior=np.array([0.0, *(prior * ones)]),
        lower=np.array([-np.inf, *(lower * ones)]),
    )


def gradient(given: Problem, weights: Floats) -> Floats:
    residual = sigmoid(given.x @ weights + given.offset) - given.y
    slope: Floats = given.x.T @ residual + given.penalty * (weights - given.prior)
    return slope


def test_the_gradient_vanishes_at_the_optimum() -> None:
    weights = fit(problem())
    assert np.abs(gradient(problem(), weights)).max() < 0.02
    assert weights[1] > 1.5
    assert weights[2] < -0.7


def test_a_weight_below_its_bound_stays_on_it() -> None:
    bounded = problem(lower=0.0)
    weights = fit(bounded)
    assert weights[2] == 0
    assert gradient(bounded, weights)[2] > 0
    assert abs(gradient(bounded, weights)[1]) < 0.02


def test_a_heavy_penalty_holds_the_prior() -> None:
    assert fit(problem(penalty=1e6, prior=0.3))[1:] == pytest.approx([0.3] * 3, abs=0.01)


def test_what_is_known_already_needs_no_weight() -> None:
    plain = problem()
    full = fit(plain)
    rest = Problem(
        x=plain.x[:, 3:],
        y=plain.y,
        offset=plain.x[:, :3] @ full[:3],
        penalty=plain.penalty[3:],
        prior=plain.prior[3:],
        lower=plain.lower[3:],
    )
    assert fit(rest) == pytest.approx(full[3:], abs=0.01)


def test_sigmoid_is_safe_for_any_logit() -> None:
    assert sigmoid(np.array([-1e9, 0.0, 1e9])) == pytest.approx([0.0, 0.5, 1.0])
