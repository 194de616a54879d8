"""The Generic Cell Rate Algorithm, and what somebody owes by it. Pure, in integers.

GCRA is the virtual scheduling algorithm of ITU-T I.371; its use for HTTP is told in B. Leach,
"Rate Limiting, Cells, and GCRA" (brandur.org, 2015). A bucket is one number, the theoretical
arrival time (TAT), kept here as a *debt*: how far the TAT lies ahead of now. Its unit is the tick,
1/60,000,000 of a request or token, because a bucket of ``limit`` a minute then drains ``limit``
ticks a microsecond: all arithmetic is in integers, the same in Python and in Redis's Lua (doubles,
exact up to 75 million a minute), and no rounding ever adds up. A bucket holds a minute's worth.
"""

from __future__ import annotations

from typing import NamedTuple

from edge_tier.gateway.request import Charge, SharedLimits

WINDOW_S = 60
TICKS = WINDOW_S * 1_000_000
"""Debt of one request or token."""


class Decision(NamedTuple):
    """Whether a cost conforms. Times are in the unit that :func:`gcra` was given."""

    allowed: bool
    tat: int
    """The TAT from now on; unmoved when refused."""
    wait: int
    """How long until the same cost would conform; 0 when allowed."""


def gcra(tat: int, now: int, cost: int, emission_interval: int, burst: int) -> Decision:
    """The Generic Cell Rate Algorithm (ITU-T I.371, virtual scheduling), for any cost at once.

    Args:
        tat: theoretical arrival time; in the past for a bucket that is full.
        now: the time of arrival.
        cost: cells that arrive together.
        emission_interval: time that one cell takes at the allowed rate.
        burst: cells that a full bucket lets through at once.
    """
    start = tat if tat > now else now
    after = start + cost * emission_interval
    early = after - now - burst * emission_interval
    return Decision(False, start, early) if early > 0 else Decision(True, after, 0)


class Debts(NamedTuple):
    """The state of four buckets at one moment, in ticks; 0 is a full bucket."""

    requests: int = 0
    tokens: int = 0
    input_tokens: int = 0
    output_tokens: int = 0


FULL = Debts()
BUCKETS = Debts._fields
"""Their names, in order."""


def rates(limits: SharedLimits) -> Debts:
    """How much each bucket lets through a minute; 0: without limit."""
    return Debts(
        limits.requests_per_minute,
        limits.tokens_per_minute,
        limits.input_tokens_per_minute,
        limits.output_tokens_per_minute,
    )


def costs(charge: Charge) -> Debts:
    """What a request costs in each bucket, in requests or tokens."""
    return Debts(1, charge.tokens, charge.input_tokens, charge.output_tokens)


Active = tuple[tuple[int, int], ...]
"""The buckets that have a limit: index and limit per minute."""


def active(limits: SharedLimits) -> Active:
    """Those of ``limits``."""
    return tuple((index, limit) for index, limit in enumerate(rates(limits)) if limit)


def drained(debts: Debts, elapsed_us: int, buckets: Active) -> Debts:
    """The buckets ``elapsed_us`` later. A bucket without a limit has no debt."""
    elapsed_us = max(0, elapsed_us)
    left = [0, 0, 0, 0]
    for index, limit in buckets:
        left[index] = max(0, debts[index] - elapsed_us * limit)
    return Debts(*left)


def charged(debts: Debts, elapsed_us: int, cost: Debts, buckets: Active) -> Debts | None:
    """All buckets ``elapsed_us`` later and after one more request, or None where any says no.

    For each the same as :func:`gcra` with the debt for the TAT, written out: this runs for every
    request.
    """
    if elapsed_us < 0:
        elapsed_us = 0
    after = [0, 0, 0, 0]
    for index, limit in buckets:
        owed = debts[index] - elapsed_us * limit
        if owed < 0:
            owed = 0
        owed += cost[index] * TICKS
        if owed > limit * TICKS:
            return None
        after[index] = owed
    return Debts(*after)


def corrected(
    debt: int, *, placed: int, elapsed_us: int, limit: int, reserved: int, used: int
) -> int:
    """A bucket's debt once it is known what a reservation used.

    A refund gives back at most what time has not. How much that is, is reckoned from the place
    where the reservation stood when it was made; refunds of earlier ones since then are not
    looked at. So a burst may exceed a bucket by such refunds; what is used over any long time may
    not exceed what the limit allows for it.

    Args:
        debt: of the bucket, now.
        placed: debt right after the reservation, its own cost included.
        elapsed_us: time since then.
        limit: of the bucket, per minute.
        reserved, used: tokens. What was used beyond the reservation is charged too, but never to
            more than two full buckets, so that a wrong count locks nobody out for long.
    """
    difference = (used - reserved) * TICKS
    if difference > 0:
        return max(debt, min(debt + difference, 2 * limit * TICKS))
    undrained = max(0, placed - max(0, elapsed_us) * limit)
    return max(0, debt + max(difference, -undrained))


def settled(
    debts: Debts,
    *,
    placed: Debts,
    elapsed_us: int,
    reserved: Debts,
    used: Debts,
    buckets: Active,
) -> Debts:
    """All buckets of tokens as :func:`corrected`; a request stays a request."""
    after = list(debts)
    for index, limit in buckets:
        if index and used[index] != reserved[index]:
            after[index] = corrected(
                debts[index],
                placed=placed[index],
                elapsed_us=elapsed_us,
                limit=limit,
                reserved=reserved[index],
                used=used[index],
            )
    return Debts(*after)
