"""From the log-probabilities of an answer's first tokens to the chance that the answer is right.

A *statistic* (a weighted sum of the least, the mean and low quantiles of the first ``tokens``
log-probabilities) is put through an isotonic regression (Barlow et al. 1972; Zadrozny and Elkan
2002), evaluated by bisection. Weights are not negative, and tokens that have not come yet count as
certain (0 nats), so what is said of a beginning is the most that the whole can still reach: it only
ever falls as tokens come.

Calibrations are fitted by ``infra.training.fit_gate`` and shipped as ``gate.json``, by model.
"""

from __future__ import annotations

import math
from bisect import bisect_right
from collections.abc import Mapping, Sequence
from importlib import resources
from itertools import pairwise

import msgspec

from wire.errors import ConfigError

LEAST_LOGPROB = -20.0
"""A token counts as no less likely than this, in nats."""
MAX_TOKENS = 256
QUANTILES = {"min": 0.0, "q10": 0.1, "q25": 0.25, "q50": 0.5}
MEAN = "mean"
PARTS = (*QUANTILES, MEAN)
"""What a statistic may be made of."""


class Calibration(msgspec.Struct, frozen=True, kw_only=True):
    """One model's calibration as it is stored."""

    tokens: int
    """How many of the first tokens are looked at."""
    weights: dict[str, float]
    """The weight of each part of the statistic; none is negative."""
    scores: list[float]
    """Knots of the isotonic curve, ascending."""
    chances: list[float]
    """The chance of being right at each knot, 0..1, never falling; linear between knots."""
    report: dict[str, float] = {}
    """How well it did when it was fitted."""


class _Asset(msgspec.Struct, frozen=True):
    models: dict[str, Calibration]


def padded(logprobs: Sequence[float], tokens: int) -> list[float]:
    """The first ``tokens`` log-probabilities, ascending, bounded, with 0 for those that lack."""
    found = [min(max(value, LEAST_LOGPROB), 0.0) for value in logprobs[:tokens]]
    return sorted(found) + [0.0] * (tokens - len(found))


def parts(ascending: Sequence[float]) -> list[float]:
    """The parts of the statistic, in the order of ``PARTS``; quantiles are interpolated."""
    last = len(ascending) - 1
    found = []
    for share in QUANTILES.values():
        whole, rest = divmod(share * last, 1)
        low = int(whole)
        found.append(ascending[low] + rest * (ascending[min(low + 1, last)] - ascending[low]))
    found.append(math.fsum(ascending) / len(ascending))
    return found


class Calibrator:
    """Tells chances by one calibration.

    Raises:
        ConfigError: the calibration is none: says what of it is wrong.
    """

    def __init__(self, stored: Calibration) -> None:
        _check(stored)
        self.tokens = stored.tokens
        self._weights = [stored.weights.get(name, 0.0) for name in PARTS]
        self._scores = stored.scores
        self._chances = stored.chances

    def chance(self, logprobs: Sequence[float]) -> float:
        """The chance that the answer is right, 0..1; of a beginning, the most it can still be."""
        return self.chance_at(self.score(logprobs))

    def score(self, logprobs: Sequence[float]) -> float:
        """The statistic: 0 where every token was certain, else negative."""
        found = parts(padded(logprobs, self.tokens))
        return sum([weight * part for weight, part in zip(self._weights, found, strict=True)])

    def chance_at(self, score: float) -> float:
        """The isotonic curve."""
        scores, chances = self._scores, self._chances
        above = bisect_right(scores, score)
        if above == 0:
            return chances[0]
        if above == len(scores):
            return chances[-1]
        left, right = scores[above - 1], scores[above]
        share = (score - left) / (right - left)
        return chances[above - 1] + share * (chances[above] - chances[above - 1])


def load(text: bytes) -> Mapping[str, Calibrator]:
    """Read stored calibrations, by model.

    Raises:
        ConfigError: they are none.
    """
    try:
        stored = msgspec.json.decode(text, type=_Asset).models
    except ValueError as error:
        raise ConfigError(f"the gate's calibrations cannot be read: {error}") from error
    return {model: Calibrator(one) for model, one in stored.items()}


def shipped() -> Mapping[str, Calibrator]:
    """The calibrations of the models that this project ships, by the names they are served by."""
    return load(resources.files(__package__).joinpath("gate.json").read_bytes())


def dump(models: Mapping[str, Calibration]) -> bytes:
    """Calibrations as they are stored.

    Raises:
        ConfigError: one of them is none.
    """
    for one in models.values():
        _check(one)
    return msgspec.json.format(msgspec.json.encode(_Asset(dict(models))), indent=1) + b"\n"


def _check(stored: Calibration) -> None:
    """Raise ``ConfigError`` unless the curve can be trusted never to rise as tokens come."""
    scores, chances = stored.scores, stored.chances
    if not 1 <= stored.tokens <= MAX_TOKENS:
        raise ConfigError(f"a calibration looks at 1 to {MAX_TOKENS} tokens, not {stored.tokens}")
    if not stored.weights or not stored.weights.keys() <= set(PARTS):
        raise ConfigError(f"a calibration weighs some of {', '.join(PARTS)}")
    if min(stored.weights.values()) < 0:
        raise ConfigError("a weight of a calibration is negative; fit it again")
    if not scores or len(scores) != len(chances):
        raise ConfigError("a calibration has one chance for each score, and at least one")
    if any(b <= a for a, b in pairwise(scores)) or any(b < a for a, b in pairwise(chances)):
        raise ConfigError("the scores of a calibration ascend and its chances never fall")
    if chances[0] < 0 or chances[-1] > 1:
        raise ConfigError("the chances of a calibration lie in 0..1")
