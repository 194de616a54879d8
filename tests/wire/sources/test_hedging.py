from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from wire.errors import ConfigError
from wire.sources.hedging import HedgeBudget, HedgeConfig


@pytest.mark.parametrize(
    ("expected_s", "patience_s"), [(None, 0.25), (0.0, 0.1), (0.1, 0.3), (1.0, 3.0), (60.0, 10.0)]
)
def test_patience_is_a_multiple_of_what_is_expected_within_bounds(
    expected_s: float | None, patience_s: float
) -> None:
    assert HedgeConfig().patience_s(expected_s) == pytest.approx(patience_s)


def test_a_burst_of_hedges_may_follow_each_other_and_then_a_share_of_requests() -> None:
    budget = HedgeBudget(HedgeConfig(share=0.25, burst=2))
    assert [budget.take() for _ in range(3)] == [True, True, False]
    taken = 0
    for _ in range(100):
        budget.earn()
        taken += budget.take()
    assert taken == 25


@given(st.floats(0, 1), st.integers(0, 9), st.lists(st.booleans(), max_size=300))
def test_hedges_never_exceed_burst_and_share(share: float, burst: int, history: list[bool]) -> None:
    budget, earned, taken = HedgeBudget(HedgeConfig(share=share, burst=burst)), 0, 0
    for earns in history:
        if earns:
            budget.earn()
            earned += 1
        else:
            taken += budget.take()
        assert taken <= burst + share * earned + 1e-9


@pytest.mark.parametrize(
    "wrong",
    [
        {"share": 1.5},
        {"burst": -1},
        {"floor_s": -1.0},
        {"floor_s": 9.0, "cap_s": 1.0},
        {"factor": 0},
    ],
)
def test_what_cannot_be_is_refused(wrong: dict[str, Any]) -> None:
    with pytest.raises(ConfigError):
        HedgeConfig(**wrong)
