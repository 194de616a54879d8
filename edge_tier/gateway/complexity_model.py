"""The complexity model: how its weights are stored, and how they score a prompt.

Training (``infra.training``) and serving (``classify``) both use this file, so that neither can
scale a feature otherwise than the other.
"""

from __future__ import annotations

import base64
from math import exp

import msgspec

from edge_tier.gateway.features import BUCKETS, DENSE, extract
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


class ComplexityModel(msgspec.Struct, frozen=True, kw_only=True):
    """The fitted weights as they are stored."""

    bias: float
    dense: dict[str, DenseWeight]
    hashed_unit: float
    hashed: str
    """A signed byte for each bucket, in units of ``hashed_unit``; base64."""
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
        self._bias = model.bias
        self._dense = [
            (name, DENSE.index(name), one.mean, one.scale, one.weight)
            for name, one in model.dense.items()
        ]
        # Bytes are signed: two's complement.
        self._hashed = [((byte ^ 0x80) - 0x80) * model.hashed_unit for byte in hashed]

    def classify(self, prompt: Prompt) -> Complexity:
        """Score the newest request of a prompt; ``contributions`` holds the weightiest parts."""
        features = extract(_request(prompt))
        low, high = CLIP
        parts = {BIAS: self._bias}
        for name, index, mean, scale, weight in self._dense:
            parts[name] = weight * min(max((features.dense[index] - mean) / scale, low), high)
        weights = self._hashed
        parts[WORDING] = features.hashed_value * sum([weights[i] for i in features.hashed])
        logit = min(max(sum(parts.values()), -_MAX_LOGIT), _MAX_LOGIT)
        top = sorted(parts.items(), key=lambda part: -abs(part[1]))[:_TOP]
        contributions = {name: round(value, 4) for name, value in top if value}
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
