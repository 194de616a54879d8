"""gpu_worker.residents: who may be in memory, whoever asks and in whatever order."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from gpu_worker.residents import (
    Busy,
    Place,
    Room,
    TooLarge,
    decide,
    idle_too_long,
    next_idle_s,
    room_bytes,
)


def place(model: str, size: int = 10, used: float = 0.0, **more: Any) -> Place:
    return replace(Place(model=model, size_bytes=size, last_used_s=used), **more)


def names(decision: object) -> list[str]:
    assert isinstance(decision, Room), decision
    return [place.model for place in decision.unload]


def test_what_fits_puts_nobody_to_sleep() -> None:
    assert decide([place("a")], "b", 10, 20) == Room()


def test_the_longest_unused_goes_first() -> None:
    places = [place("new", used=9), place("old", used=1), place("mid", used=5)]
    assert names(decide(places, "x", 10, 30)) == ["old"]
    assert names(decide(places, "x", 15, 30)) == ["old", "mid"]


def test_no_more_sleep_than_it_takes() -> None:
    places = [place("small", 1, used=1), place("large", 20, used=2)]
    assert names(decide(places, "x", 20, 21)) == ["large"]


def test_pinned_busy_and_moving_ones_stay() -> None:
    for staying in ({"pinned": True}, {"in_flight": 1}, {"settled": False}):
        assert not isinstance(decide([place("a", **staying)], "x", 10, 10), Room)


def test_a_model_does_not_put_its_own_engine_to_sleep() -> None:
    places = [place("x", used=0), place("other", used=5)]
    assert names(decide(places, "x", 10, 20)) == ["other"]
    assert room_bytes(places, "x", 20) == 10


def test_who_stands_in_the_way_is_named() -> None:
    places = [place("busy", in_flight=2), place("kept", pinned=True)]
    assert decide(places, "x", 10, 20) == Busy(("busy",))
    assert decide(places, "x", 11, 20) == TooLarge(10)


def test_who_may_not_evict_takes_only_what_is_free() -> None:
    assert decide([place("a")], "x", 10, 20, evict=False) == Room()
    assert decide([place("a")], "x", 11, 20, evict=False) == Busy(("a",))


def test_idle_too_long_is_what_may_sleep_and_was_not_asked_for_its_time() -> None:
    places = [
        place("due", used=10, idle_unload_s=5),
        place("later", used=12, idle_unload_s=5),
        place("never", used=0),
        place("busy", used=0, idle_unload_s=5, in_flight=1),
        place("pinned", used=0, idle_unload_s=5, pinned=True),
    ]
    assert [p.model for p in idle_too_long(places, 15)] == ["due"]
    assert next_idle_s(places) == 15
    assert next_idle_s(places[2:]) is None


PLACES = st.lists(
    st.builds(
        Place,
        model=st.sampled_from("abcdef"),
        size_bytes=st.integers(0, 50),
        pinned=st.booleans(),
        in_flight=st.integers(0, 2),
        settled=st.booleans(),
        last_used_s=st.integers(0, 5).map(float),
    ),
    max_size=8,
)


@given(PLACES, st.sampled_from("abcx"), st.integers(0, 80), st.integers(0, 200))
def test_a_decision_keeps_every_rule(
    places: list[Place], model: str, size: int, budget: int
) -> None:
    total = sum(p.size_bytes for p in places)
    decision = decide(places, model, size, budget)
    may = [p for p in places if p.can_sleep and p.model != model]
    if not isinstance(decision, Room):
        # Honest: all that may sleep would not have been enough.
        assert total - sum(p.size_bytes for p in may) + size > budget
        return
    gone = list(decision.unload)
    assert total - sum(p.size_bytes for p in gone) + size <= budget
    for victim in gone:
        assert victim in may
        may.remove(victim)
        # Each one was needed.
        assert total - sum(p.size_bytes for p in gone) + victim.size_bytes + size > budget
    if len(gone) == 1:
        smaller = [p for p in may if p.last_used_s < gone[0].last_used_s]
        assert total - sum(p.size_bytes for p in smaller) + size > budget


@dataclass
class World:
    """Models that come and go as the decision says; the loads are instant."""

    budget: int
    awake: dict[str, Place] = field(default_factory=dict)
    now: float = 0.0

    def ask(self, model: str, size: int, *, pinned: bool) -> None:
        self.now += 1
        held = self.awake.get(model)
        if held is None:
            decision = decide(list(self.awake.values()), model, size, self.budget)
            if not isinstance(decision, Room):
                return
            for victim in decision.unload:
                assert victim.in_flight == 0
                assert not victim.pinned
                del self.awake[victim.model]
            held = place(model, size, pinned=pinned)
        self.awake[model] = replace(held, in_flight=held.in_flight + 1, last_used_s=self.now)

    def finish(self, model: str) -> None:
        held = self.awake.get(model)
        if held is not None and held.in_flight:
            self.awake[model] = replace(held, in_flight=held.in_flight - 1)


MODELS = {
    "a": (10, False),
    "b": (20, False),
    "c": (25, False),
    "p": (15, True),
    "huge": (99, False),
}


@given(
    st.lists(st.tuples(st.sampled_from(["ask", "finish"]), st.sampled_from(sorted(MODELS)))),
    st.integers(0, 60),
)
def test_the_budget_holds_and_no_request_is_lost_whoever_asks(
    steps: list[tuple[str, str]], budget: int
) -> None:
    world = World(budget)
    running: dict[str, int] = dict.fromkeys(MODELS, 0)
    for step, model in steps:
        size, pinned = MODELS[model]
        before = world.awake.get(model)
        if step == "ask":
            world.ask(model, size, pinned=pinned)
            after = world.awake.get(model)
            running[model] += (after.in_flight if after else 0) > (
                before.in_flight if before else 0
            )
        elif running[model]:
            world.finish(model)
            running[model] -= 1
        assert sum(p.size_bytes for p in world.awake.values()) <= budget
        assert {m: p.in_flight for m, p in world.awake.items()} == {
            m: running[m] for m in world.awake
        }
        assert all(not count or name in world.awake for name, count in running.items())
