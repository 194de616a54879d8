"""Counts by bucket: sums, differences and quantiles. Pure.

A histogram is a tuple of counts, one for each upper bound and one more for what is over. One that
is shorter has nothing in the rest.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from itertools import zip_longest

Counts = tuple[int, ...]


def total(rows: Iterable[Counts]) -> Counts:
    """Bucket by bucket."""
    return tuple(map(sum, zip_longest(*rows, fillvalue=0)))


def since(now: Counts, before: Counts) -> Counts:
    """What came after ``before``; never less than nothing."""
    return tuple(max(0, n - b) for n, b in zip_longest(now, before, fillvalue=0))


def quantile(bounds: Sequence[float], counts: Counts, share: float) -> float | None:
    """The value that this share does not exceed, spread evenly inside a bucket; of what is over the
    last bound no more than that is known. None where nothing was counted."""
    left = sum(counts) * share
    if left <= 0:
        return None
    lower = 0.0
    for bound, count in zip(bounds, counts, strict=False):
        if count and left <= count:
            return lower + (bound - lower) * left / count
        left -= count
        lower = float(bound)
    return lower
