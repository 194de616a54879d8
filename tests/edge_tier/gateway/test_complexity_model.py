"""How stored weights score a prompt: each feature by its weight, within its bounds."""

from __future__ import annotations

import base64
from math import exp, log1p

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edge_tier.gateway.complexity_model import (
    BIAS,
    CLIP,
    WORDING,
    Classifier,
    ComplexityModel,
    DenseWeight,
    load,
)
from edge_tier.gateway.features import BUCKETS
from edge_tier.gateway.request import Message, Prompt
from wire.errors import ConfigError


def model(
    bias: float = 0.0, dense: dict[str, DenseWeight] | None = None, byte: int = 0
) -> Classifier:
    """One with the same stored byte for the wording of every bucket."""
    hashed = base64.b64encode(bytes([byte]) * BUCKETS).decode()
    return Classifier(
        ComplexityModel(bias=bias, dense=dense or {}, hashed_unit=0.01, hashed=hashed)
    )


def asked(text: str) -> Prompt:
    return Prompt(kind="completion", model="auto", text=text)


def logistic(logit: float) -> float:
    return 1 / (1 + exp(-logit))


@pytest.mark.parametrize(
    "text",
    [
        b"",
        b"{}",
        b'{"bias":0,"dense":{},"hashed_unit":1,"hashed":"AAAA"}',
        b'{"bias":0,"dense":{},"hashed_unit":1,"hashed":"?"}',
        b'{"bias":0,"dense":{"x":{"mean":0,"scale":1,"weight":1}},"hashed_unit":1,"hashed":"'
        + b"A" * 5464
        + b'"}',
    ],
)
def test_a_model_for_other_features_is_refused(text: bytes) -> None:
    with pytest.raises(ConfigError, match="complexity model"):
        load(text)


@pytest.mark.parametrize("bias", [-2.0, 0.0, 1.0])
def test_an_empty_model_scores_by_its_bias(bias: float) -> None:
    found = model(bias).classify(asked("x"))
    assert found.score == pytest.approx(logistic(bias))
    assert found.contributions == ({BIAS: bias} if bias else {})


def test_a_feature_counts_its_weight_per_scale_from_its_mean() -> None:
    words = DenseWeight(mean=1.0, scale=0.5, weight=0.25)
    found = model(0.5, {"words": words}).classify(asked("three plain words"))
    share = 0.25 * (log1p(3) - 1.0) / 0.5
    assert found.contributions == pytest.approx({"words": share, BIAS: 0.5})
    assert found.score == pytest.approx(logistic(share + 0.5))


@given(
    value=st.floats(-1e6, 1e6),
    mean=st.floats(-10, 10),
    scale=st.floats(0.1, 10),
    weight=st.floats(-5, 5),
)
def test_no_feature_counts_without_bound(
    value: float, mean: float, scale: float, weight: float
) -> None:
    low, high = sorted(weight * bound for bound in CLIP)
    dense = DenseWeight(mean, scale, weight)
    assert low <= dense.of(value) <= high
    assert dense.of(mean) == 0
    assert dense.of(mean + scale) == pytest.approx(weight)


@pytest.mark.parametrize(("byte", "sign"), [(0x7F, 1), (0x01, 1), (0xFF, -1), (0x80, -1)])
def test_stored_bytes_are_signed(byte: int, sign: int) -> None:
    found = model(byte=byte).classify(asked("some words here"))
    assert found.contributions[WORDING] * sign > 0
    assert (found.score > 0.5) == (sign > 0)


def test_bytes_count_in_their_unit() -> None:
    one, two = (model(byte=byte).classify(asked("some words here")) for byte in (1, 2))
    assert two.contributions[WORDING] == pytest.approx(2 * one.contributions[WORDING])


@pytest.mark.parametrize("bias", [-1e9, 1e9])
def test_no_weight_makes_a_score_certain(bias: float) -> None:
    assert 0 < model(bias).classify(asked("x")).score < 1


def test_the_last_turn_of_the_user_is_what_is_asked() -> None:
    scored = model(dense={"words": DenseWeight(0, 1, 1)})
    talk = Prompt(
        kind="chat",
        model="auto",
        messages=(
            Message("user", "one two three four five"),
            Message("user", "one two"),
            Message("assistant", "one two three"),
        ),
    )
    assert scored.classify(talk) == scored.classify(asked("one two"))
    silent = Prompt(kind="chat", model="auto", messages=(Message("system", "one two three"),))
    assert scored.classify(silent) == scored.classify(asked("one two three"))
