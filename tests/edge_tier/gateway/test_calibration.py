"""Chances follow the curve, only fall as tokens come, and a bad asset is refused."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from edge_tier.gateway.calibration import (
    LEAST_LOGPROB,
    PARTS,
    Calibration,
    Calibrator,
    dump,
    load,
    padded,
    parts,
    shipped,
)
from wire.errors import ConfigError

STORED = Calibration(
    tokens=4, weights={"min": 1.0}, scores=[-4.0, -2.0, 0.0], chances=[0.1, 0.3, 0.9]
)
LOGPROBS = st.lists(st.floats(-40, 1), max_size=12)


@pytest.mark.parametrize(
    ("least", "chance"), [(-9.0, 0.1), (-4.0, 0.1), (-3.0, 0.2), (-1.0, 0.6), (0.0, 0.9)]
)
def test_the_curve_is_linear_between_its_knots(least: float, chance: float) -> None:
    assert Calibrator(STORED).chance([0.0, least]) == pytest.approx(chance)


def test_a_curve_of_one_knot_is_flat() -> None:
    flat = Calibrator(msgspec.structs.replace(STORED, scores=[-1.0], chances=[0.4]))
    assert flat.chance([-9.0]) == flat.chance([]) == 0.4


def test_the_parts_of_the_statistic() -> None:
    found = dict(zip(PARTS, parts(padded([-1.0, -5.0, 0.5, -2.0, -9.0], 4)), strict=True))
    assert found["min"] == -5.0
    assert found["q50"] == -1.5
    assert found["mean"] == -2.0
    assert padded([-1e9], 2) == [LEAST_LOGPROB, 0.0]


@given(LOGPROBS, st.floats(-40, 0))
def test_chances_only_fall_as_tokens_come(logprobs: list[float], following: float) -> None:
    for calibrator in (Calibrator(STORED), shipped()["edge-small"]):
        before = calibrator.chance(logprobs)
        assert 0 <= calibrator.chance([*logprobs, following]) <= before + 1e-9 <= 1


def test_the_shipped_calibration_knows_sure_from_unsure() -> None:
    edge = shipped()["edge-small"]
    assert edge.chance([-0.01] * 8) > 0.9
    assert edge.chance([-2.5, *[-0.1] * 7]) < 0.3


def test_what_is_dumped_is_what_is_loaded() -> None:
    found = load(dump({"m": STORED}))["m"]
    assert found.chance([-3.0]) == Calibrator(STORED).chance([-3.0])


@pytest.mark.parametrize(
    "change",
    [
        {"tokens": 0},
        {"tokens": 10**9},
        {"weights": {}},
        {"weights": {"min": -1.0}},
        {"weights": {"max": 1.0}},
        {"scores": []},
        {"scores": [-2.0, -4.0, 0.0]},
        {"scores": [-1.0, -1.0, 0.0]},
        {"chances": [0.1, 0.9]},
        {"chances": [0.9, 0.3, 0.1]},
        {"chances": [-0.1, 0.3, 0.9]},
        {"chances": [0.1, 0.3, 1.1]},
    ],
)
def test_a_curve_that_could_mislead_is_refused(change: dict[str, Any]) -> None:
    with pytest.raises(ConfigError):
        dump({"m": msgspec.structs.replace(STORED, **change)})


@pytest.mark.parametrize("text", [b"", b"{}", b'{"models":{"m":{}}}', b'{"models":{"m":NaN}}'])
def test_an_asset_that_is_none_is_refused(text: bytes) -> None:
    with pytest.raises(ConfigError, match="calibrations cannot be read"):
        load(text)
