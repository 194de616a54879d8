"""``bench eviction``: how often the cache has what is asked for, against plain LRU.

A simulation: no disk, no time. The hot set is asked for by Zipf's law; now and then somebody reads
a whole cold model once, chunk by chunk (the scan). Beside it the same without scans, and a loop:
one model a little larger than the cache, read over and over, which is where LRU has nothing at all.
"""

from __future__ import annotations

import random
from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass

from edge_tier.cache.eviction import Eviction
from tests.benchmarks.results import Machine, Row, report

Trace = Sequence[str]


@dataclass(frozen=True, slots=True, kw_only=True)
class Workload:
    """What is asked for, in chunks of one size."""

    capacity: int = 400
    """Of the cache."""
    hot: int = 2_000
    """Chunks that are asked for by Zipf's law (exponent 1)."""
    rounds: int = 20
    """Scans, each after ``between`` requests for hot chunks."""
    between: int = 2_000
    scan: int = 1_000
    """Chunks of a cold model, each asked for once."""


class PlainLRU:
    """What S3-FIFO is measured against: least recently used, entries of one size."""

    def __init__(self, capacity: int) -> None:
        self._capacity = capacity
        self._entries: OrderedDict[str, None] = OrderedDict()

    def use(self, key: str) -> bool:
        """Ask for a chunk; whether it was there."""
        hit = key in self._entries
        self._entries[key] = None
        self._entries.move_to_end(key)
        if len(self._entries) > self._capacity:
            self._entries.popitem(last=False)
        return hit


class Ours:
    """The edge's rules, with the same interface."""

    def __init__(self, capacity: int) -> None:
        self._cache = Eviction(capacity)

    def use(self, key: str) -> bool:
        """Ask for a chunk; whether it was there."""
        if key in self._cache:
            self._cache.touch(key)
            return True
        self._cache.admit(key, 1)
        return False


def popular(rng: random.Random, count: int, universe: int) -> list[str]:
    """A few chunks are asked for often, many hardly ever."""
    weights = [1 / (rank + 1) for rank in range(universe)]
    return [f"hot-{n}" for n in rng.choices(range(universe), weights, k=count)]


def with_scans(load: Workload, seed: int) -> Trace:
    """Requests for hot chunks and for cold ones, told apart by their names."""
    rng = random.Random(seed)
    trace: list[str] = []
    for model in range(load.rounds):
        trace += popular(rng, load.between, load.hot)
        trace += [f"cold-{model}-{chunk}" for chunk in range(load.scan)]
    return trace


def without_scans(load: Workload, seed: int) -> Trace:
    """The hot set alone."""
    return popular(random.Random(seed), load.rounds * load.between, load.hot)


def looped(load: Workload) -> Trace:
    """A model a quarter larger than the cache, read from its beginning to its end ten times."""
    return [f"loop-{chunk}" for _ in range(10) for chunk in range(load.capacity * 5 // 4)]


def hit_ratio(cache: PlainLRU | Ours, trace: Trace, counted: str = "") -> float:
    """Hits by requests, of those whose names begin with ``counted``."""
    hits = requests = 0
    for key in trace:
        hit = cache.use(key)
        if key.startswith(counted):
            hits, requests = hits + hit, requests + 1
    return hits / requests


def measure(seeds: Sequence[int], load: Workload) -> list[Row]:
    """Each trace once per seed, through both."""
    scans = [with_scans(load, seed) for seed in seeds]
    plain = [without_scans(load, seed) for seed in seeds]
    return [
        _row("hot chunks, with scans", load, scans, "hot-", target=1.1),
        _row("all requests, with scans", load, scans, "", target=1.1),
        _row("hot chunks, without scans", load, plain, "", target=0.98),
        _row("a loop larger than the cache", load, [looped(load)], "", target=None),
    ]


def main(*, quick: bool) -> None:
    """Run and report."""
    machine = Machine()
    report("eviction", measure(range(1 if quick else 5), Workload()), machine)


def _row(
    name: str, load: Workload, traces: Sequence[Trace], counted: str, *, target: float | None
) -> Row:
    ours = [hit_ratio(Ours(load.capacity), trace, counted) for trace in traces]
    lru = [hit_ratio(PlainLRU(load.capacity), trace, counted) for trace in traces]
    if not all(lru):
        return Row(name=f"{name}: hit ratio (LRU: 0)", unit="", runs=ours)
    return Row(
        name=f"{name}: hit ratio", unit="", runs=ours, peer="LRU", peer_runs=lru, target=target
    )
