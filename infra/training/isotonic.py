"""Isotonic regression and its measures, in numpy alone.

The fit is the pool-adjacent-violators algorithm (Barlow et al. 1972): the non-decreasing curve with
the least squared error.
"""

from __future__ import annotations

import numpy as np

from infra.training.logistic import Floats

BINS = 10


def isotonic(scores: Floats, right: Floats) -> tuple[Floats, Floats]:
    """Knots of the curve: the mean score of each pool, ascending, and its share of right ones.

    One made-up wrong answer at the highest score and one right answer at the lowest keep the curve
    from promising certainty that so few answers cannot show.
    """
    order = np.argsort(scores, kind="stable")
    sorted_scores = np.concatenate([scores[order][:1], scores[order], scores[order][-1:]])
    sorted_right = np.concatenate([[1.0], right[order], [0.0]])
    values, counts = np.unique(sorted_scores, return_counts=True)
    ends = np.cumsum(counts)
    hits = np.diff(np.concatenate([[0.0], np.cumsum(sorted_right)[ends - 1]]))
    pools: list[tuple[float, float, float]] = []  # weight, sum of scores, sum of hits
    for value, count, hit in zip(values, counts, hits, strict=True):
        pool = (float(count), float(value * count), float(hit))
        while pools and pools[-1][2] / pools[-1][0] >= pool[2] / pool[0]:
            before = pools.pop()
            pool = (before[0] + pool[0], before[1] + pool[1], before[2] + pool[2])
        pools.append(pool)
    weight, score_sum, hit_sum = np.array(pools).T
    return score_sum / weight, hit_sum / weight


def calibration_error(chances: Floats, right: Floats) -> float:
    """Expected calibration error over ``BINS`` bins of equal width (Naeini et al. 2015)."""
    bins = np.minimum((chances * BINS).astype(int), BINS - 1)
    gaps = [
        abs(chances[bins == at].mean() - right[bins == at].mean()) * (bins == at).mean()
        for at in np.unique(bins)
    ]
    return float(sum(gaps))


def auroc(scores: Floats, right: Floats) -> float:
    """How often a right answer scores above a wrong one; a tie counts half."""
    _, inverse, counts = np.unique(scores, return_inverse=True, return_counts=True)
    ranks = (np.cumsum(counts) - (counts - 1) / 2)[inverse]
    hits = right.sum()
    return float((ranks[right == 1].sum() - hits * (hits + 1) / 2) / (hits * (len(right) - hits)))
