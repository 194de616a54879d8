from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from edge_tier.gateway.gcra import (
    FULL,
    TICKS,
    Active,
    Debts,
    active,
    charged,
    corrected,
    costs,
    drained,
    gcra,
)
from edge_tier.gateway.request import Limits
from tests.fakes.limits import charge

MINUTE_US = 60_000_000


def limits(requests: int = 0, tokens: int = 0) -> Active:
    return active(Limits(requests_per_minute=requests, tokens_per_minute=tokens))


def after(debts: Debts, tokens: int, buckets: Active) -> Debts | None:
    return charged(debts, 0, costs(charge(tokens)), buckets)


@given(
    owed=st.integers(0, 200),
    elapsed_us=st.integers(-5, 3 * MINUTE_US),
    cost=st.integers(0, 100),
    limit=st.integers(1, 100),
)
def test_a_bucket_is_charged_as_gcra_says(
    owed: int, elapsed_us: int, cost: int, limit: int
) -> None:
    now = max(0, elapsed_us) * limit
    decision = gcra(owed * TICKS, now, cost, TICKS, limit)
    got = charged(Debts(tokens=owed * TICKS), elapsed_us, Debts(tokens=cost), limits(tokens=limit))
    assert (got is not None) == decision.allowed
    if got is not None:
        assert got.tokens == decision.tat - now


def test_a_full_bucket_lets_its_burst_through_and_not_one_more() -> None:
    tat = 0
    for _ in range(3):
        allowed, tat, wait = gcra(tat, 100, 1, 10, 3)
        assert (allowed, wait) == (True, 0)
    assert gcra(tat, 100, 1, 10, 3) == (False, 130, 10)


def test_a_refused_cost_conforms_after_exactly_its_wait() -> None:
    decision = gcra(130, 100, 2, 10, 3)
    assert decision == (False, 130, 20)
    assert not gcra(130, 119, 2, 10, 3).allowed
    assert gcra(130, 120, 2, 10, 3) == (True, 150, 0)


def test_an_idle_bucket_saves_up_no_more_than_its_burst() -> None:
    assert gcra(0, 10_000, 3, 10, 3) == (True, 10_030, 0)
    assert not gcra(0, 10_000, 4, 10, 3).allowed


@given(
    arrivals=st.lists(st.tuples(st.integers(0, 50), st.integers(1, 5)), max_size=60),
    interval=st.integers(1, 20),
    burst=st.integers(1, 8),
)
def test_no_window_ever_holds_more_than_burst_and_rate(
    arrivals: list[tuple[int, int]], interval: int, burst: int
) -> None:
    now, tat = 0, 0
    admitted: list[tuple[int, int]] = []
    for gap, cost in arrivals:
        now += gap
        allowed, tat, _ = gcra(tat, now, cost, interval, burst)
        if allowed:
            admitted.append((now, cost))
    for first, (start, _) in enumerate(admitted):
        total = 0
        for end, cost in admitted[first:]:
            total += cost
            assert total * interval <= burst * interval + (end - start)


def test_odd_limits_lose_nothing_to_rounding() -> None:
    debts: Debts | None = FULL
    for _ in range(7):
        assert debts is not None
        debts = after(debts, 0, limits(requests=7))
    assert debts == Debts(7 * TICKS)
    assert drained(debts, MINUTE_US - 1, limits(requests=7)).requests == 7
    assert drained(debts, MINUTE_US, limits(requests=7)) == FULL


def test_both_buckets_are_charged_or_neither() -> None:
    both = limits(requests=2, tokens=100)
    one = after(FULL, 60, both)
    assert one == Debts(TICKS, 60 * TICKS)
    assert one is not None
    assert after(one, 60, both) is None
    assert after(one, 40, both) == Debts(2 * TICKS, 100 * TICKS)


def test_a_clock_that_steps_back_drains_nothing() -> None:
    assert drained(Debts(5, 5), -1_000, limits(1, 1)) == Debts(5, 5)


def test_a_debt_is_forgotten_where_the_limit_was_lifted() -> None:
    assert drained(Debts(5, 5), 0, limits(0, 1)) == Debts(0, 5)


def settled(*, debt: int, placed: int, elapsed_us: int, used: int) -> float:
    ticks = corrected(
        debt * TICKS,
        placed=placed * TICKS,
        elapsed_us=elapsed_us,
        limit=60,
        reserved=40,
        used=used,
    )
    return ticks / TICKS


def test_an_early_refund_gives_back_all_that_was_not_used() -> None:
    assert settled(debt=40, placed=40, elapsed_us=0, used=10) == 10


def test_a_late_refund_gives_back_only_what_has_not_drained() -> None:
    half_a_minute = MINUTE_US // 2
    assert settled(debt=55, placed=40, elapsed_us=half_a_minute, used=0) == 45
    assert settled(debt=55, placed=40, elapsed_us=MINUTE_US, used=0) == 55


def test_what_was_used_beyond_the_reservation_is_charged() -> None:
    assert settled(debt=40, placed=40, elapsed_us=0, used=50) == 50


def test_an_absurd_count_costs_at_most_two_buckets() -> None:
    assert settled(debt=40, placed=40, elapsed_us=0, used=10**15) == 120
    assert settled(debt=120, placed=40, elapsed_us=0, used=10**15) == 120
