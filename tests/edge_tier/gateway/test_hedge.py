from __future__ import annotations

from edge_tier.gateway.hedge import HedgeConfig, Hedges


def seasoned(config: HedgeConfig, first_token_s: float = 0.1) -> Hedges:
    hedges = Hedges(config)
    for _ in range(64):
        hedges.observed(first_token_s)
    return hedges


def test_nobody_is_hedged_before_enough_was_seen() -> None:
    hedges = Hedges(HedgeConfig())
    for _ in range(10):
        hedges.observed(0.1)
    assert hedges.delay_s() is None


def test_the_delay_is_what_most_requests_stay_under() -> None:
    hedges = Hedges(HedgeConfig(quantile=0.9, min_delay_s=0.0, window=100))
    for tenth in range(96):
        hedges.observed(1.0 if tenth % 10 >= 8 else 0.1)
    assert hedges.delay_s() == 1.0
    steady = seasoned(HedgeConfig(min_delay_s=0.0), 0.3)
    assert steady.delay_s() == 0.3


def test_nobody_is_hedged_sooner_than_the_least_delay() -> None:
    assert seasoned(HedgeConfig(min_delay_s=0.25), 0.001).delay_s() == 0.25


def test_hedges_are_a_fraction_of_requests() -> None:
    hedges = seasoned(HedgeConfig(budget=0.1))
    spent = 0
    for _ in range(1_000):
        hedges.delay_s()
        spent += hedges.spend()
    assert 90 <= spent <= 101


def test_what_was_saved_up_is_bounded() -> None:
    hedges = seasoned(HedgeConfig(budget=0.5))
    for _ in range(10_000):
        hedges.delay_s()
    assert sum(hedges.spend() for _ in range(100)) == 10


def test_without_a_budget_there_is_none() -> None:
    assert seasoned(HedgeConfig(budget=0.0)).delay_s() is None
