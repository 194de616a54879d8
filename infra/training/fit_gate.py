"""Fits the confidence gate's calibration: ``python -m infra.training.fit_gate --out FILE``.

A small demo model is asked questions, half of them outside what it was taught. Two stages:

1. *Statistic*: logistic regression for "the answer is right" on the least, the mean and low
   quantiles of the first log-probabilities, with weights that must not be negative.
2. *Curve*: isotonic regression of being right on that statistic.

The report is of questions about other facts than those fitted on, of a fit that has not seen the
question's group at all, and of the next revision, for which nothing is fitted anew. The chances
hold for questions half of which are outside; where more are, the calibration promises too much,
and where fewer are, too little.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from edge_tier.gateway.calibration import PARTS, Calibration, Calibrator, dump, padded, parts
from infra.demo_models import path
from infra.demo_models.engine import Answer, RunningModel
from infra.training.gate_questions import Question, questions
from infra.training.isotonic import auroc, calibration_error, isotonic
from infra.training.logistic import Floats, Problem, fit

SERVED_AS = {"edge-small": "edge-small-r1"}
"""The name under which a model is served → the file that is asked."""
NEXT_REVISION = {"edge-small": "edge-small-r2"}
"""What a model is rolled to; the report says what its calibration is worth then."""
PENALTY = 1.0
TARGET = 0.7
"""The report says what passes at this chance."""
_FOLDS = 5


@dataclass(frozen=True, slots=True, kw_only=True)
class FitConfig:
    """How much is asked, and what the gate shall look at."""

    tokens: int = 8
    each: int = 300
    """Questions inside and outside, for fitting and once more for the report."""
    seed: int = 7


@dataclass(frozen=True, slots=True)
class Asked:
    """Questions with the answers to them."""

    questions: list[Question]
    answers: list[Answer]

    @property
    def right(self) -> Floats:
        return np.array(
            [
                float(answer.text == question.reply)
                for question, answer in zip(self.questions, self.answers, strict=True)
            ]
        )

    def only(self, chosen: NDArray[np.bool_]) -> Asked:
        """Those at which ``chosen`` is true."""
        at = np.flatnonzero(chosen)
        return Asked([self.questions[i] for i in at], [self.answers[i] for i in at])


def ask(model: str, asked: list[Question]) -> Asked:
    """Ask a demo model, greedily and one after the other, so every run answers the same."""
    with RunningModel(path(model)) as engine:
        return Asked(asked, [engine.ask(question.text, question.system) for question in asked])


def calibrate(asked: Asked, tokens: int) -> Calibration:
    """The calibration of these answers, without a report."""
    x = np.array([parts(padded(answer.logprobs, tokens)) for answer in asked.answers])
    ones = np.ones(len(PARTS))
    problem = Problem(
        x=np.hstack([np.ones((len(x), 1)), x]),
        y=asked.right,
        offset=np.zeros(len(x)),
        penalty=np.array([1e-3, *(PENALTY * ones)]),
        prior=np.zeros(len(PARTS) + 1),
        lower=np.array([-np.inf, *(0.0 * ones)]),
    )
    # As they are stored: the curve must be that of the rounded weights.
    weights = np.round(fit(problem, iterations=20_000)[1:], 4)
    scores, chances = isotonic(np.round(x @ weights, 6), asked.right)
    return Calibration(
        tokens=tokens,
        weights={name: float(w) for name, w in zip(PARTS, weights, strict=True) if w},
        scores=[round(float(score), 6) for score in scores],
        chances=[round(float(chance), 6) for chance in chances],
    )


def chances(calibration: Calibration, answers: Sequence[Answer]) -> Floats:
    """The chance that the calibration gives each answer."""
    calibrator = Calibrator(calibration)
    return np.array([calibrator.chance(answer.logprobs) for answer in answers])


def report(
    calibration: Calibration, fitted: Asked, held_out: Asked, rolled: Asked
) -> dict[str, float]:
    """How well it does on questions that it was not fitted on; ``rolled``: by another revision."""
    given, right = chances(calibration, held_out.answers), held_out.right
    passed = given >= TARGET
    figures = {
        "questions_fitted": len(fitted.questions),
        "questions_held_out": len(held_out.questions),
        "right_share_held_out": right.mean(),
        "auroc_held_out": auroc(given, right),
        "ece_held_out": calibration_error(given, right),
        "ece_unseen_groups": _unseen_groups(fitted, calibration.tokens),
        "ece_next_revision": calibration_error(chances(calibration, rolled.answers), rolled.right),
        "target": TARGET,
        "passed_at_target": passed.mean(),
        "right_of_passed": right[passed].mean() if passed.any() else 0.0,
    }
    return {name: round(float(value), 4) for name, value in figures.items()}


def _unseen_groups(asked: Asked, tokens: int) -> float:
    """The calibration error where the groups of the questions were not fitted on."""
    names = sorted({question.group for question in asked.questions})
    given = np.zeros(len(asked.questions))
    for fold in range(_FOLDS):
        out = set(names[fold::_FOLDS])
        test = np.array([question.group in out for question in asked.questions])
        model = calibrate(asked.only(~test), tokens)
        given[test] = chances(model, asked.only(test).answers)
    return calibration_error(given, asked.right)


def fit_model(name: str, config: FitConfig) -> Calibration:
    """Ask, fit, and report on the model that is served under ``name``."""
    model, following = SERVED_AS[name], NEXT_REVISION[name]
    fitted = ask(model, questions(model, "fit", config.each, config.seed))
    held_out = ask(model, questions(model, "judge", config.each, config.seed))
    rolled = ask(following, questions(following, "judge", config.each, config.seed))
    found = calibrate(fitted, config.tokens)
    return Calibration(
        tokens=found.tokens,
        weights=found.weights,
        scores=found.scores,
        chances=found.chances,
        report=report(found, fitted, held_out, rolled),
    )


def main(arguments: Sequence[str] | None = None) -> None:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--tokens", type=int, default=FitConfig().tokens)
    parser.add_argument("--each", type=int, default=FitConfig().each)
    given = parser.parse_args(arguments)
    config = FitConfig(tokens=given.tokens, each=given.each)
    found = {name: fit_model(name, config) for name in SERVED_AS}
    for name, calibration in found.items():
        print(name, calibration.weights, calibration.report)
    given.out.write_bytes(dump(found))


if __name__ == "__main__":
    main()
