from __future__ import annotations

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from edge_tier.cache.eviction import MAX_SWEEP, Eviction
from tests.benchmarks.eviction import (
    Ours,
    PlainLRU,
    Workload,
    hit_ratio,
    looped,
    with_scans,
    without_scans,
)

LOAD = Workload()


def test_a_scan_costs_less_than_under_plain_lru() -> None:
    """Popular chunks, interrupted by one cold model after the other that is read just once."""
    trace = with_scans(LOAD, seed=20240917)
    ours = hit_ratio(Ours(LOAD.capacity), trace, "hot-")
    assert ours > hit_ratio(PlainLRU(LOAD.capacity), trace, "hot-") + 0.05


@pytest.mark.parametrize("capacity", [50, 400, 1_600])
def test_without_a_scan_it_is_no_worse_than_plain_lru(capacity: int) -> None:
    trace = without_scans(LOAD, seed=7)
    ours = hit_ratio(Ours(capacity), trace)
    assert ours > 0.98 * hit_ratio(PlainLRU(capacity), trace)


def test_a_scan_hardly_costs_the_hot_set_anything() -> None:
    """The same requests for hot chunks, with the scans taken out."""
    trace = with_scans(LOAD, seed=3)
    alone = [key for key in trace if key.startswith("hot-")]
    ours = hit_ratio(Ours(LOAD.capacity), trace, "hot-")
    assert ours > 0.95 * hit_ratio(Ours(LOAD.capacity), alone)


def test_of_a_loop_larger_than_the_cache_a_part_stays() -> None:
    trace = looped(LOAD)
    assert hit_ratio(PlainLRU(LOAD.capacity), trace) == 0
    assert hit_ratio(Ours(LOAD.capacity), trace) > 0.3


def test_what_was_used_often_survives_a_scan() -> None:
    cache = Eviction(100)
    for key in ("a", "b", "c"):
        cache.admit(key, 1)
        cache.touch(key)
        cache.touch(key)
    for number in range(1_000):
        cache.admit(f"scan-{number}", 1)
    assert all(key in cache for key in ("a", "b", "c"))


def test_who_comes_back_soon_after_eviction_enters_the_main_queue() -> None:
    cache = Eviction(10)
    cache.admit("back", 1)
    for number in range(10):
        cache.admit(f"first-{number}", 1)
    assert "back" not in cache
    cache.admit("back", 1)
    for number in range(100):
        cache.admit(f"second-{number}", 1)
    assert "back" in cache


def test_pins_stay_and_unpinned_leave_again() -> None:
    cache = Eviction(10)
    cache.pin("chat@stable", ["a", "later"])
    cache.admit("a", 1)
    for number in range(50):
        cache.admit(f"x-{number}", 1)
    cache.admit("later", 1)
    for number in range(50, 100):
        cache.admit(f"x-{number}", 1)
    assert "a" in cache
    assert "later" in cache
    assert cache.pinned_bytes == 2
    cache.unpin("chat@stable")
    assert cache.pinned_bytes == 0
    cache.reclaim(10)
    assert len(cache) == 0


def test_a_key_is_pinned_while_any_owner_wants_it() -> None:
    cache = Eviction(10)
    cache.admit("shared", 1)
    cache.pin("one", ["shared"])
    cache.pin("two", ["shared"])
    cache.unpin("one")
    assert cache.pinned_bytes == 1
    cache.pin("two", ["other"])
    assert cache.pinned_bytes == 0


def test_when_pins_fill_the_cache_nothing_else_is_admitted() -> None:
    cache = Eviction(10)
    cache.pin("all", [f"pin-{n}" for n in range(9)])
    for number in range(9):
        assert cache.admit(f"pin-{number}", 1) == []
    assert cache.admit("large", 2) is None
    assert cache.admit("small", 1) == []


def test_pins_never_take_more_than_their_share() -> None:
    cache = Eviction(10, pinned_share=0.5)
    cache.pin("one", [f"pin-{n}" for n in range(8)])
    for number in range(8):
        assert cache.admit(f"pin-{number}", 1) == []
    assert cache.pinned_bytes == 5
    for number in range(100):
        cache.admit(f"x-{number}", 1)
    assert [f"pin-{n}" in cache for n in range(8)] == [True] * 5 + [False] * 3


def test_of_too_many_pins_the_first_ones_are_kept_and_room_is_used_when_it_comes() -> None:
    cache = Eviction(10, pinned_share=0.5)
    for number in range(8):
        cache.admit(f"pin-{number}", 1)
    cache.pin("one", [f"pin-{n}" for n in range(7, -1, -1)])
    assert cache.pinned_bytes == 5
    cache.reclaim(10)
    assert [f"pin-{n}" in cache for n in range(8)] == [False] * 3 + [True] * 5
    cache.pin("one", ["pin-7"])
    cache.admit("late", 1)
    cache.pin("two", ["late"])
    assert cache.pinned_bytes == 2


def test_what_exceeds_the_whole_cache_is_not_admitted() -> None:
    cache = Eviction(10)
    assert cache.admit("giant", 11) is None
    assert cache.used_bytes == 0


def test_one_eviction_never_walks_the_whole_cache() -> None:
    cache = Eviction(10_000)
    for number in range(10_000):
        cache.restore(f"x-{number}", 1)
        for _ in range(3):
            cache.touch(f"x-{number}")
    assert cache.admit("new", 1) == [f"x-{MAX_SWEEP}"]


def test_reclaim_frees_what_was_asked_for() -> None:
    cache = Eviction(100)
    for number in range(100):
        cache.admit(f"x-{number}", 1)
    assert len(cache.reclaim(30)) == 30
    assert cache.used_bytes == 70
    assert cache.reclaim(1_000) != []
    assert cache.used_bytes == 0


def test_admitting_again_replaces_the_size() -> None:
    cache = Eviction(100)
    cache.admit("a", 10)
    cache.admit("a", 30)
    assert (cache.used_bytes, len(cache)) == (30, 1)


keys = st.sampled_from([f"k{number}" for number in range(30)])
sizes = st.integers(1, 40)


class EvictionMachine(RuleBasedStateMachine):
    """Against a model: a plain dictionary of what must be there."""

    pinned_share = 1.0

    def __init__(self) -> None:
        super().__init__()
        self.cache = Eviction(100, pinned_share=self.pinned_share)
        self.sizes: dict[str, int] = {}
        self.pins: dict[str, set[str]] = {"one": set(), "two": set()}

    @property
    def pinned(self) -> set[str]:
        return self.pins["one"] | self.pins["two"]

    @rule(key=keys, size=sizes, again=st.booleans())
    def take(self, key: str, size: int, again: bool) -> None:
        victims = (self.cache.restore if again else self.cache.admit)(key, size)
        self.sizes.pop(key, None)
        if victims is None:
            assert size + self.cache.pinned_bytes > 100
            return
        self.check_victims(victims)
        for victim in victims:
            del self.sizes[victim]
        self.sizes[key] = size

    @rule(key=keys)
    def touch(self, key: str) -> None:
        self.cache.touch(key)

    @rule(key=keys)
    def remove(self, key: str) -> None:
        assert self.cache.remove(key) == (self.sizes.pop(key, None) is not None)

    @rule(owner=st.sampled_from(["one", "two"]), wanted=st.sets(keys, max_size=5))
    def pin(self, owner: str, wanted: set[str]) -> None:
        self.cache.pin(owner, wanted)
        self.pins[owner] = wanted

    @rule(size=sizes)
    def reclaim(self, size: int) -> None:
        victims = self.cache.reclaim(size)
        self.check_victims(victims)
        for victim in victims:
            del self.sizes[victim]

    def check_victims(self, victims: list[str]) -> None:
        assert not set(victims) & self.pinned

    @invariant()
    def it_holds_what_the_model_holds(self) -> None:
        assert len(self.cache) == len(self.sizes)
        assert all(key in self.cache for key in self.sizes)
        assert self.cache.used_bytes == sum(self.sizes.values()) <= 100

    @invariant()
    def pinned_bytes_are_those_of_the_pins(self) -> None:
        here = self.pinned & self.sizes.keys()
        assert self.cache.pinned_bytes == sum(self.sizes[key] for key in here)


class BoundedPinsMachine(EvictionMachine):
    """With a share for pins: pinned bytes stay within it, and all else stands as above."""

    pinned_share = 0.5

    def check_victims(self, victims: list[str]) -> None:
        """What found no room among the pinned may go; there was pinned more than the share then."""

    @invariant()
    def pinned_bytes_are_those_of_the_pins(self) -> None:
        here = self.pinned & self.sizes.keys()
        assert self.cache.pinned_bytes <= min(50, sum(self.sizes[key] for key in here))


BoundedPinsMachine.TestCase.settings = settings(
    max_examples=60, stateful_step_count=40, deadline=None
)
TestBoundedPinsMachine = BoundedPinsMachine.TestCase
EvictionMachine.TestCase.settings = settings(max_examples=60, stateful_step_count=40, deadline=None)
TestEvictionMachine = EvictionMachine.TestCase
