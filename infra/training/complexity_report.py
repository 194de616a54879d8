"""How well a complexity model does on what it was not fitted on.

Examination questions are split by subject, never within one; seed prompts by template. The figure
that matters for routing is the share of the gap: with the 20 % highest scores sent to the strong
model, how much of the accuracy between weak and strong is recovered (20 % is what chance gives).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

import numpy as np
from numpy.typing import NDArray

from infra.training.complexity_data import Corpus, Examples, Rows
from infra.training.logistic import Floats

Names = NDArray[np.str_]
Fit = Callable[[Examples, Examples], Callable[[Examples], Floats]]
"""Fits on questions and seeds; returns what scores other examples."""

STRONG_SHARE = 0.2
CURVE_POINTS = 51
FOLDS = 5


def report(corpus: Corpus, fit: Fit, seed: int, splits: int) -> dict[str, float]:
    """Means over random halves of the subjects, and over folds of the templates."""
    examples, seeds = corpus.examples, corpus.seeds
    subjects = np.array([question.subject for question in corpus.questions])
    gap = np.array([int(q.strong_correct) - int(q.weak_correct) for q in corpus.questions], float)
    length = np.array([len(question.prompt) for question in corpus.questions], float)
    rows: list[tuple[float, ...]] = []
    for train, test in halves(subjects, seed, splits):
        scores = fit(examples.rows(train), seeds)(examples.rows(test))
        rows.append(
            (
                auc(scores, examples.label[test]),
                recovered(scores, gap[test]),
                recovered(length[test], gap[test]),
                recovered(_subject_gap(subjects[test], gap[test]), gap[test]),
            )
        )
    means = np.mean(rows, axis=0)
    held_out = _seed_scores(corpus, fit, seed)
    names = ("auc", "recovered", "recovered_by_length", "recovered_by_true_subject")
    return {
        **{
            f"questions_other_subjects_{n}": round(float(v), 4)
            for n, v in zip(names, means, strict=True)
        },
        "questions_recovered_by_chance": STRONG_SHARE,
        "seeds_other_templates_auc": round(auc(held_out, seeds.label), 4),
        "seeds_other_templates_accuracy": round(float(np.mean((held_out > 0) == seeds.label)), 4),
    }


def recovery_curve(corpus: Corpus, fit: Fit, seed: int, splits: int) -> list[float]:
    """The share of the gap recovered at every share of strong calls, in ``CURVE_POINTS`` even steps
    from none to all: the mean over random halves of the subjects, made to rise."""
    subjects = np.array([question.subject for question in corpus.questions])
    gap = np.array([int(q.strong_correct) - int(q.weak_correct) for q in corpus.questions], float)
    shares = np.linspace(0, 1, CURVE_POINTS)
    curves = []
    for train, test in halves(subjects, seed, splits):
        scores = fit(corpus.examples.rows(train), corpus.seeds)(corpus.examples.rows(test))
        best_first = np.cumsum(gap[test][np.argsort(-scores, kind="stable")])
        calls = np.round(shares * len(test)).astype(int)
        curves.append(np.concatenate([[0.0], best_first])[calls] / best_first[-1])
    rising = np.maximum.accumulate(np.clip(np.mean(curves, axis=0), 0.0, 1.0))
    return [round(float(value), 4) for value in rising]


def halves(subjects: Names, seed: int, splits: int) -> Iterator[tuple[Rows, Rows]]:
    """Random halves of the subjects, as rows to fit on and rows to test on."""
    rng = np.random.default_rng(seed)
    names = np.unique(subjects)
    for _ in range(splits):
        test = np.isin(subjects, rng.permutation(names)[: len(names) // 2])
        yield np.flatnonzero(~test), np.flatnonzero(test)


def auc(scores: Floats, labels: Floats) -> float:
    """The chance that a positive scores above a negative; ties count half.

    0.5 where one of the two is missing.
    """
    _, inverse, counts = np.unique(scores, return_inverse=True, return_counts=True)
    ranks = (np.cumsum(counts) - (counts - 1) / 2)[inverse]
    positive = labels == 1
    count = int(positive.sum())
    rest = len(labels) - count
    if not count * rest:
        return 0.5
    return float((ranks[positive].sum() - count * (count + 1) / 2) / (count * rest))


def recovered(scores: Floats, gap: Floats) -> float:
    """The share of the gap between weak and strong that the highest scores recover.

    ``gap`` is +1 where only the strong model was right, -1 where only the weak one was, else 0.
    """
    count = round(STRONG_SHARE * len(scores))
    chosen = np.argsort(-scores, kind="stable")[:count]
    return float(gap[chosen].sum() / gap.sum())


def _subject_gap(subjects: Names, gap: Floats) -> Floats:
    """What somebody who knew each subject's gap would score: the most that subjects can tell."""
    names, inverse = np.unique(subjects, return_inverse=True)
    means = np.array([gap[inverse == i].mean() for i in range(len(names))])
    return means[inverse]


def _seed_scores(corpus: Corpus, fit: Fit, seed: int) -> Floats:
    """Scores of seed prompts by models that have not seen their template."""
    templates = np.array([prompt.template for prompt in corpus.prompts])
    names = np.random.default_rng(seed).permutation(np.unique(templates))
    scores = np.zeros(len(templates))
    for fold in range(FOLDS):
        test = np.isin(templates, names[fold::FOLDS])
        model = fit(corpus.examples, corpus.seeds.rows(np.flatnonzero(~test)))
        scores[test] = model(corpus.seeds.rows(np.flatnonzero(test)))
    return scores
