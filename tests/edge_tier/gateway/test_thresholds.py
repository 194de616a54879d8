"""Thresholds from shares and qualities: the ends, the middle, and what is refused."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edge_tier.gateway.classify import threshold_for_local_share, threshold_for_quality
from edge_tier.gateway.thresholds import Thresholds
from wire.errors import ConfigError

CURVES = Thresholds(quantiles=[0.1, 0.2, 0.6], recovered=[0.0, 0.8, 1.0])
SHARES = st.floats(0, 1)


def test_a_local_share_is_a_quantile_of_the_scores() -> None:
    assert CURVES.for_local_share(0.5) == pytest.approx(0.2)
    assert CURVES.for_local_share(0.75) == pytest.approx(0.4)


def test_none_or_all_may_be_local() -> None:
    assert CURVES.for_local_share(0) == 0
    assert CURVES.for_local_share(1) == 1


def test_a_quality_takes_the_fewest_strong_calls() -> None:
    assert CURVES.strong_share(0.4) == pytest.approx(0.25)
    assert CURVES.for_quality(0.8) == pytest.approx(0.2)
    assert CURVES.for_quality(0) == 1
    assert CURVES.for_quality(1) == 0


def test_a_curve_that_stays_below_needs_all_calls() -> None:
    assert Thresholds([0.1, 0.2], [0.0, 0.9]).for_quality(0.95) == 0


@given(SHARES, SHARES)
def test_more_local_is_a_higher_threshold_and_more_quality_a_lower_one(a: float, b: float) -> None:
    low, high = sorted((a, b))
    assert threshold_for_local_share(low) <= threshold_for_local_share(high)
    assert threshold_for_quality(low) >= threshold_for_quality(high)


@pytest.mark.parametrize("wrong", [-0.1, 1.1, float("nan")])
def test_shares_lie_between_0_and_1(wrong: float) -> None:
    with pytest.raises(ConfigError, match="between 0 and 1"):
        threshold_for_local_share(wrong)
    with pytest.raises(ConfigError, match="between 0 and 1"):
        threshold_for_quality(wrong)


@pytest.mark.parametrize("curve", [[], [0.5], [0.5, 0.2]])
def test_a_model_without_curves_is_refused(curve: list[float]) -> None:
    with pytest.raises(ConfigError, match="fit it again"):
        Thresholds(curve, [0.0, 1.0])
    with pytest.raises(ConfigError, match="fit it again"):
        Thresholds([0.0, 1.0], curve)
