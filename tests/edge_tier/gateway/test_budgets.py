from __future__ import annotations

from datetime import UTC, date, datetime, timedelta

from hypothesis import given
from hypothesis import strategies as st

from edge_tier.gateway import budgets
from edge_tier.gateway.budgets import DAY_S, NOTHING, Spent, month_of
from edge_tier.gateway.request import Limits

EPOCH = date(1970, 1, 1)


@given(st.dates(date(1970, 1, 1), date(2400, 1, 1)))
def test_months_are_the_calendars(day: date) -> None:
    assert month_of((day - EPOCH).days) == day.year * 12 + day.month - 1


@given(st.datetimes(datetime(2000, 1, 1), datetime(2100, 1, 1)))
def test_a_period_ends_when_the_next_begins(moment: datetime) -> None:
    at = moment.replace(tzinfo=UTC, microsecond=0)
    next_month = (at.replace(day=1, hour=0, minute=0, second=0) + timedelta(days=32)).replace(day=1)
    assert budgets.seconds_to_month_end(at.timestamp()) == (next_month - at).total_seconds()
    next_day = at.replace(hour=0, minute=0, second=0) + timedelta(days=1)
    assert budgets.seconds_to_day_end(at.timestamp()) == (next_day - at).total_seconds()


def test_what_was_spent_is_forgotten_with_its_day_and_its_month() -> None:
    spent = budgets.added(budgets.now(NOTHING, 0), 5)
    assert spent == Spent(0, 5, 1970 * 12, 5)
    assert budgets.now(spent, DAY_S - 1) is spent
    assert budgets.now(spent, DAY_S) == Spent(1, 0, 1970 * 12, 5)
    assert budgets.now(spent, 31 * DAY_S) == Spent(31, 0, 1970 * 12 + 1, 0)


def test_a_refund_goes_to_the_day_it_was_taken_from() -> None:
    taken = budgets.added(budgets.now(NOTHING, 0), 10)
    assert budgets.settled(taken, taken, -4)[1::2] == (6, 6)
    next_day = budgets.added(budgets.now(taken, DAY_S), 3)
    assert budgets.settled(next_day, taken, -4)[1::2] == (3, 9)
    assert budgets.settled(next_day, taken, 4)[1::2] == (7, 17)
    assert budgets.settled(taken, taken, -99)[1::2] == (0, 0)


def test_the_part_of_a_budget_that_is_used_is_the_larger_one() -> None:
    spent = Spent(0, 50, 0, 90)
    assert budgets.part_used(spent, Limits(tokens_per_day=100)) == 0.5
    assert budgets.part_used(spent, Limits(tokens_per_day=100, tokens_per_month=100)) == 0.9
    assert budgets.part_used(spent, Limits()) == 0
