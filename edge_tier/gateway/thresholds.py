"""From what an operator wants (a local share, a quality) to the score from which the cloud answers.

Both rest on figures that the model was fitted with: the scores of a reference mix of prompts, half
examination questions and half everyday ones, and the share of the quality gap between the local and
the strong model that a share of strong calls recovers. Other traffic has other shares: compare with
the metrics, or give the scores of your own prompts.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Sequence
from dataclasses import dataclass

from wire.errors import ConfigError


@dataclass(frozen=True, slots=True)
class Thresholds:
    """Two curves at evenly spaced shares from 0 to 1.

    Raises:
        ConfigError: a curve has fewer than two points or falls.
    """

    quantiles: Sequence[float]
    """Scores below which each share of the reference mix lies."""
    recovered: Sequence[float]
    """Share of the quality gap that each share of strong calls recovers, highest scores first."""

    def __post_init__(self) -> None:
        for curve in (self.quantiles, self.recovered):
            if len(curve) < 2 or list(curve) != sorted(curve):
                raise ConfigError("the complexity model has no curves of shares; fit it again")

    def for_local_share(self, share: float) -> float:
        """The threshold below which ``share`` of the reference mix scores, in 0..1.

        Raises:
            ConfigError: the share is not in 0..1.
        """
        _check("local share", share)
        if share in (0, 1):
            # Every score lies strictly between.
            return float(share)
        return _at(self.quantiles, share)

    def for_quality(self, quality: float) -> float:
        """The threshold at which ``quality`` of the gap is recovered: 0 is the quality of the local
        model, 1 that of the strong one. It takes the fewest strong calls that do.

        Raises:
            ConfigError: the quality is not in 0..1.
        """
        _check("quality", quality)
        return self.for_local_share(1 - self.strong_share(quality))

    def strong_share(self, quality: float) -> float:
        """The share of strong calls that recovers ``quality`` of the gap."""
        curve = self.recovered
        right = bisect_left(curve, quality)
        if right == 0:
            return 0.0
        if right == len(curve):
            return 1.0
        low, high = curve[right - 1], curve[right]
        return (right - 1 + (quality - low) / (high - low)) / (len(curve) - 1)


def _at(curve: Sequence[float], share: float) -> float:
    place = share * (len(curve) - 1)
    left = min(int(place), len(curve) - 2)
    return curve[left] + (place - left) * (curve[left + 1] - curve[left])


def _check(name: str, value: float) -> None:
    if not 0 <= value <= 1:
        raise ConfigError(f"a {name} lies between 0 and 1, not at {value}")
