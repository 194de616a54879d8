"""Which workers try a revision first: the seed of a canary. Pure.

A worker belongs to a canary by the hash of its name under the canary's seed
(``wire.channel.Canary.takes``), so a share of a small fleet could be nobody, or everybody. The
origin knows the workers, and takes the first of many seeds that comes close to the share: of a
small fleet to the worker, of a large one to a fiftieth, which takes no long search.
"""

from __future__ import annotations

from collections.abc import Collection

from wire.channel import Canary

_TRIED = 4_096
"""Seeds. A single worker at 1 % needs a hundred of them; a large fleet needs a few."""
_MAX_HASHES = 200_000
"""Of all seeds together: a fifth of a second, in which the origin answers nobody."""
_CLOSE = 50
"""A share is met where no more than this part of it is missing or too much."""


def share_of(workers: int, percent: int) -> int:
    """How many of so many workers a share should be: at least one, and where there are two or more
    never all."""
    wanted = round(workers * percent / 100)
    return min(max(wanted, 1), max(workers - 1, 1))


def choose_seed(workers: Collection[str], percent: int, *, first: int = 0) -> int:
    """The first seed under which the canary's share of these workers is close to ``percent``, else
    the closest of those that were tried.

    Args:
        workers: names.
        first: the seeds from here on are tried, so that not every canary hits the same workers.
    """
    wanted = share_of(len(workers), percent)
    best, best_gap = first, len(workers) + 1
    for seed in range(first, first + min(_TRIED, _MAX_HASHES // max(len(workers), 1) + 1)):
        gap = _gap(taken(workers, percent, seed), len(workers), wanted)
        if gap < best_gap:
            best, best_gap = seed, gap
        if gap <= wanted // _CLOSE:
            break
    return best


def taken(workers: Collection[str], percent: int, seed: int) -> int:
    """How many of these workers such a canary takes."""
    canary = Canary(revision="", percent=percent, seed=seed)
    return sum(canary.takes(name) for name in workers)


def _gap(count: int, workers: int, wanted: int) -> int:
    """How far from what is wanted; nobody, or all of several, is the furthest."""
    if count == 0 or (count == workers and workers > 1):
        return workers
    return abs(count - wanted)
