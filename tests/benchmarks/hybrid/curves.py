"""Accuracy against the share sent to the cloud, for any order in which questions are sent."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import groupby, pairwise
from math import fsum

import numpy as np


@dataclass(frozen=True, slots=True)
class Curve:
    """Points of growing share, both 0..1, from never to always; straight between them."""

    shares: tuple[float, ...]
    accuracies: tuple[float, ...]

    def at(self, share: float) -> float:
        """The accuracy when so large a share is sent."""
        return float(np.interp(share, self.shares, self.accuracies))

    def recovered(self, share: float) -> float:
        """The part of the gap between never and always that is closed then; 1: all of it."""
        never, always = self.accuracies[0], self.accuracies[-1]
        return (self.at(share) - never) / (always - never)

    @property
    def area(self) -> float:
        """The mean of ``recovered`` over all shares; choosing at random gives 0.5."""
        points = [(share, self.recovered(share)) for share in self.shares]
        return fsum(
            (right[0] - left[0]) * (right[1] + left[1]) / 2 for left, right in pairwise(points)
        )

    def share_for(self, accuracy: float) -> float:
        """The least share that reaches an accuracy; 1 where none does."""
        for index, reached in enumerate(self.accuracies):
            if reached >= accuracy:
                if index == 0:
                    return 0.0
                low, high = self.shares[index - 1], self.shares[index]
                before = self.accuracies[index - 1]
                return low + (high - low) * (accuracy - before) / (reached - before)
        return 1.0


def curve(urgency: Sequence[float], local: Sequence[bool], cloud: Sequence[bool]) -> Curve:
    """The curve when the most urgent questions are sent first.

    Equally urgent ones are sent in no order, so between the ends of a tie the curve is straight.

    Args:
        urgency: by question, the more the sooner it goes to the cloud.
        local, cloud: whether that side answers the question right.
    """
    rows = sorted(zip(urgency, local, cloud, strict=True), key=lambda row: -row[0])
    sent, right = 0, sum(local)
    points = [(0.0, right / len(rows))]
    for _, tied in groupby(rows, key=lambda row: row[0]):
        for _, here, there in tied:
            sent += 1
            right += there - here
        points.append((sent / len(rows), right / len(rows)))
    shares, accuracies = zip(*points, strict=True)
    return Curve(shares, accuracies)
