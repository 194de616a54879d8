"""Which models are in memory: the decision, as pure functions over what takes memory now.

The rules, all of them here. Engines together never take more than the budget. A model that is
wanted gets its place by putting others to sleep, the one that was used longest ago first, and no
more of them than it takes. Never put to sleep is what is pinned, what has a request in flight or in
its queue, what is still being loaded or closed, and another engine of the wanted model itself:
during a roll the old one goes on. Where only requests in flight stand in the way, one can wait for
them; where even an idle worker would have no room, nobody need wait.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import TypeAlias


@dataclass(frozen=True, slots=True, kw_only=True)
class Place:
    """What one engine takes. ``last_used_s`` is of any clock that never goes back."""

    model: str
    size_bytes: int
    pinned: bool = False
    in_flight: int = 0
    """Requests that run on it or wait for it."""
    settled: bool = True
    """False while it is being loaded, retired or closed: it takes its memory and cannot go now."""
    last_used_s: float = 0.0
    idle_unload_s: float = 0.0
    """Put it to sleep when nobody asked for so long; 0: never."""

    @property
    def can_sleep(self) -> bool:
        return self.settled and not self.pinned and not self.in_flight


@dataclass(frozen=True, slots=True)
class Room:
    """There is room once these are asleep; often none has to be."""

    unload: tuple[Place, ...] = ()


@dataclass(frozen=True, slots=True)
class Busy:
    """There will be room when these are idle."""

    models: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class TooLarge:
    """There is no room even where all others sleep but the pinned: ``most_bytes`` could be had."""

    most_bytes: int


Decision: TypeAlias = Room | Busy | TooLarge


def decide(
    places: Sequence[Place], model: str, size_bytes: int, budget_bytes: int, *, evict: bool = True
) -> Decision:
    """Whether an engine of ``model`` can be loaded now, and who must sleep for it.

    Args:
        places: all that takes memory now.
        evict: False: only where nobody has to sleep for it.
    """
    missing = size_bytes + _sum(places) - budget_bytes
    if missing <= 0:
        return Room()
    sleepers = _sleepers(places, model) if evict else []
    if _sum(sleepers) >= missing:
        return Room(_fewest(sleepers, missing))
    # What is pinned stays; everything else is idle at some time.
    most_bytes = budget_bytes - _sum(p for p in places if p.pinned and p.model != model)
    if size_bytes > most_bytes:
        return TooLarge(most_bytes)
    return Busy(tuple(sorted({p.model for p in places if not p.pinned or p.model == model})))


def room_bytes(places: Sequence[Place], model: str, budget_bytes: int) -> int:
    """What a second engine of ``model`` could take beside its first, where all others that can
    sleep do."""
    return budget_bytes - _sum(places) + _sum(_sleepers(places, model))


def idle_too_long(places: Iterable[Place], now_s: float) -> list[Place]:
    """Those whose time without a request is over."""
    return [p for p in places if p.can_sleep and p.idle_unload_s and _idle_since(p) <= now_s]


def next_idle_s(places: Iterable[Place]) -> float | None:
    """When the next one would have been idle too long; None: there is none."""
    return min((_idle_since(p) for p in places if p.can_sleep and p.idle_unload_s), default=None)


def _idle_since(place: Place) -> float:
    return place.last_used_s + place.idle_unload_s


def _sleepers(places: Iterable[Place], model: str) -> list[Place]:
    """Whoever can make room for ``model``, the one used longest ago first."""
    found = [p for p in places if p.can_sleep and p.model != model]
    return sorted(found, key=lambda p: (p.last_used_s, p.model))


def _fewest(sleepers: Sequence[Place], missing: int) -> tuple[Place, ...]:
    """Of the longest unused that give ``missing`` bytes, those that are needed for it."""
    chosen: list[Place] = []
    for place in sleepers:
        if _sum(chosen) >= missing:
            break
        chosen.append(place)
    for place in reversed(chosen):
        if _sum(chosen) - place.size_bytes >= missing:
            chosen.remove(place)
    return tuple(chosen)


def _sum(places: Iterable[Place]) -> int:
    return sum(place.size_bytes for place in places)
