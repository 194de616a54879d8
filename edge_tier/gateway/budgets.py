"""Budgets of calendar days and months, in UTC. Pure, in integers.

Unlike a rate, a budget comes back all at once: at midnight, and on the first of a month.
"""

from __future__ import annotations

from typing import NamedTuple

from edge_tier.gateway.request import Limits

DAY_S = 86_400


class Spent(NamedTuple):
    """Tokens used in the day and the month that are named; another day or month has used none."""

    day: int = -1
    in_day: int = 0
    month: int = -1
    in_month: int = 0


NOTHING = Spent()


def day_of(unix_s: float) -> int:
    """The day, counted from 1970-01-01."""
    return int(unix_s // DAY_S)


def month_of(day: int) -> int:
    """The month of a day, counted from January of year 0 (H. Hinnant, "chrono-Compatible
    Low-Level Date Algorithms": ``civil_from_days``). Redis's Lua has the same lines."""
    shifted = day + 719_468
    era = shifted // 146_097
    of_era = shifted - era * 146_097
    year_of_era = (of_era - of_era // 1_460 + of_era // 36_524 - of_era // 146_096) // 365
    day_of_year = of_era - (365 * year_of_era + year_of_era // 4 - year_of_era // 100)
    from_march = (5 * day_of_year + 2) // 153
    year = year_of_era + era * 400 + (from_march >= 10)
    month = from_march + 3 if from_march < 10 else from_march - 9
    return year * 12 + month - 1


def seconds_to_month_end(unix_s: float) -> float:
    """How long the month still lasts."""
    day = day_of(unix_s)
    this, end = month_of(day), day + 28
    while month_of(end) == this:
        end += 1
    while month_of(end - 1) != this:
        end -= 1
    return end * DAY_S - unix_s


def seconds_to_day_end(unix_s: float) -> float:
    """How long the day still lasts."""
    return (day_of(unix_s) + 1) * DAY_S - unix_s


def now(spent: Spent, unix_s: float) -> Spent:
    """What is spent of the present day and month."""
    day = day_of(unix_s)
    if day == spent.day:
        return spent
    month = month_of(day)
    return Spent(day, 0, month, spent.in_month if month == spent.month else 0)


def added(spent: Spent, tokens: int) -> Spent:
    """After so many more (or fewer) tokens; never below nothing."""
    return spent._replace(
        in_day=max(0, spent.in_day + tokens), in_month=max(0, spent.in_month + tokens)
    )


def part_used(spent: Spent, limits: Limits) -> float:
    """The part of the day's or the month's tokens that is used, whichever is more; 0 without."""
    in_day = spent.in_day / limits.tokens_per_day if limits.tokens_per_day else 0.0
    in_month = spent.in_month / limits.tokens_per_month if limits.tokens_per_month else 0.0
    return max(in_day, in_month)


def settled(spent: Spent, at: Spent, difference: int) -> Spent:
    """After a reservation turned out to have used ``difference`` more (or fewer) tokens.

    A refund goes to the day and the month in which the reservation was made, so only to those
    that still last; what was used beyond it counts now.

    Args:
        at: the day and month of the reservation.
    """
    in_day = difference if difference > 0 or at.day == spent.day else 0
    in_month = difference if difference > 0 or at.month == spent.month else 0
    return spent._replace(
        in_day=max(0, spent.in_day + in_day), in_month=max(0, spent.in_month + in_month)
    )
