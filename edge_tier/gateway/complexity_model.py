"""The complexity model: how its weights are stored, and how they score a prompt.

Training (``infra.training``) and serving (``classify``) both use this file, so that neither can
scale a feature otherwise than the other.
"""

from __future__ import annotations

import base64
from math import exp
from operator import getitem

import msgspec

from edge_tier.gateway.features import BUCKETS, COUNTS, DENSE, MAX_COUNT, Chunks, extract, value_of
from edge_tier.gateway.options import OPTIONS
from edge_tier.gateway.request import Complexity, Prompt
from wire.errors import ConfigError

BIAS = "bias"
WORDING = "wording"
"""The name under which the hashed features are reported together."""

CLIP = (-3.0, 5.0)
"""A dense feature counts no further than so many scales from its mean."""

_TOP = 6
_MAX_LOGIT = 30.0


class DenseWeight(msgspec.Struct, frozen=True):
    """A dense feature counts ``weight`` per ``scale`` that it is away from ``mean``."""

    mean: float
    scale: float
    weight: float

    def of(self, value: float) -> float:
        """What the feature adds to the logit."""
        low, high = CLIP
        return self.weight * min(max((value - self.mean) / self.scale, low), high)


class ComplexityModel(msgspec.Struct, frozen=True, kw_only=True):
    """The fitted weights as they are stored."""

    bias: float
    dense: dict[str, DenseWeight]
    hashed_unit: float
    hashed: str
    """A signed byte for each bucket, in units of ``hashed_unit``; base64."""
    quantiles: list[float] = []
    """Scores of the reference mix at evenly spaced shares; see ``thresholds``."""
    recovered: list[float] = []
    """Share of the quality gap recovered at evenly spaced shares of strong calls."""
    report: dict[str, float] = {}
    """How well the model did when it was fitted."""


class Classifier:
    """Scores prompts with one model.

    Raises:
        ConfigError: the model was fitted for other features.
    """

    def __init__(self, model: ComplexityModel) -> None:
        hashed = base64.b64decode(model.hashed)
        if len(hashed) != BUCKETS or not model.dense.keys() <= set(DENSE):
            raise ConfigError("the complexity model was fitted for other features; fit it again")
        self.model = model
        self._bias = model.bias
        self._known = Chunks()
        absent = DenseWeight(0.0, 1.0, 0.0)
        dense = {name: model.dense.get(name, absent) for name in DENSE}
        self._tables = [
            [dense[name].of(value_of(name, count)) for count in range(MAX_COUNT + 1)]
            for name in COUNTS
        ]
        """What each count of a feature adds, looked up rather than computed."""
        for name in OPTIONS:
            # A text without options is neither like nor unlike one with them.
            self._tables[COUNTS.index(name)][0] = 0.0
        self._word_length = dense[DENSE[-1]]
        self._names = (*DENSE, WORDING, BIAS)
        self._order = range(len(self._names))
        # Bytes are signed: two's complement.
        self._hashed = [((byte ^ 0x80) - 0x80) * model.hashed_unit for byte in hashed]

    def classify(self, prompt: Prompt) -> Complexity:
        """Score the newest request of a prompt; ``contributions`` holds the weightiest parts."""
        counts, word_length, hashed, hashed_value = extract(_request(prompt), self._known)
        parts = list(map(getitem, self._tables, counts))
        wording = hashed_value * sum(map(self._hashed.__getitem__, hashed))
        parts += self._word_length.of(word_length), wording, self._bias
        logit = min(max(sum(parts), -_MAX_LOGIT), _MAX_LOGIT)
        sizes = list(map(abs, parts))
        top = sorted(self._order, key=sizes.__getitem__, reverse=True)[:_TOP]
        names = self._names
        contributions = {names[i]: parts[i] for i in top if parts[i]}
        return Complexity(1 / (1 + exp(-logit)), contributions)


def load(text: bytes) -> Classifier:
    """Read a stored model. Raises ``ConfigError`` where it is not one."""
    try:
        return Classifier(msgspec.json.decode(text, type=ComplexityModel))
    except ValueError as error:
        raise ConfigError(f"the complexity model cannot be read: {error}") from error


def _request(prompt: Prompt) -> str:
    """What is asked now: the last turn of the user, or the text of a plain completion."""
    for message in reversed(prompt.messages):
        if message.role == "user":
            return message.content
    return prompt.messages[-1].content if prompt.messages else prompt.text
