from __future__ import annotations

import random
from typing import Any

from edge_tier.gateway.breaker import BreakerConfig
from edge_tier.gateway.fleet import Fleet, Pressure
from tests.fakes.clock import ManualClock
from wire.workers import WorkerReport


def report(worker: str = "w1", **changes: Any) -> WorkerReport:
    fields: dict[str, Any] = {
        "url": "http://127.0.0.1:1",
        "model": "m",
        "channel": "stable",
        "revision": "r1",
        "state": "ready",
        "slots": 4,
        "busy": 0,
        "queue": 0,
        "ttl_s": 4.0,
    }
    return WorkerReport(worker=worker, **(fields | changes))


def test_a_worker_lives_as_long_as_its_heartbeats() -> None:
    clock = ManualClock()
    fleet = Fleet(clock)
    fleet.report(report())
    clock.advance(3.9)
    assert fleet.models() == {"m"}
    fleet.report(report())
    clock.advance(3.9)
    assert fleet.revision("m") == "r1"
    clock.advance(0.2)
    assert fleet.workers() == []
    assert fleet.pick("m") is None
    assert fleet.revision("m") is None


def test_only_ready_workers_of_the_model_are_picked() -> None:
    fleet = Fleet(ManualClock())
    fleet.report(report("a", state="draining"))
    fleet.report(report("b", state="booting"))
    fleet.report(report("c", model="other"))
    assert fleet.pick("m") is None
    assert fleet.models() == {"other"}


def test_the_least_loaded_per_slot_is_picked() -> None:
    fleet = Fleet(ManualClock())
    fleet.report(report("small", slots=2, busy=1))
    fleet.report(report("large", slots=8, busy=2))
    picked = fleet.pick("m")
    assert picked is not None
    assert picked.report.worker == "large"


def test_a_burst_spreads_before_the_next_heartbeat() -> None:
    fleet = Fleet(ManualClock())
    for name in ("a", "b"):
        fleet.report(report(name))
    picked = []
    for _ in range(6):
        member = fleet.pick("m")
        assert member is not None
        member.in_flight += 1
        picked.append(member.report.worker)
    assert picked.count("a") == picked.count("b") == 3


def test_a_heartbeat_does_not_forget_what_is_in_flight() -> None:
    fleet = Fleet(ManualClock())
    fleet.report(report())
    member = fleet.pick("m")
    assert member is not None
    member.in_flight = 3
    fleet.report(report(busy=1))
    assert member.load == 3 / 4
    assert fleet.pick("m") is member


def test_a_worker_that_failed_is_the_last_choice_for_a_moment() -> None:
    clock = ManualClock()
    fleet = Fleet(clock, penalty_s=2)
    fleet.report(report("a", ttl_s=100))
    fleet.report(report("b", busy=3, ttl_s=100))
    member = fleet.pick("m")
    assert member is not None
    fleet.penalize(member)
    assert (other := fleet.pick("m")) is not None
    assert other.report.worker == "b"
    clock.advance(2.1)
    assert fleet.pick("m") is member


def test_the_fleet_is_bounded_but_known_workers_stay_welcome() -> None:
    fleet = Fleet(ManualClock(), max_workers=64)
    for number in range(64):
        assert fleet.report(report(f"w{number}"))
    assert not fleet.report(report("one-more"))
    assert fleet.report(report("w7"))


def test_a_faster_worker_is_picked_where_both_have_room() -> None:
    fleet = Fleet(ManualClock())
    for name in ("slow", "fast"):
        fleet.report(report(name))
    for name, seconds in (("slow", 10.0), ("fast", 1.0)):
        member = fleet.pick("m", avoid=frozenset({"slow", "fast"} - {name}))
        assert member is not None
        member.measured(100, seconds)
    picked = fleet.pick("m")
    assert picked is not None
    assert picked.report.worker == "fast"


def a_slow_and_a_fast_one() -> Fleet:
    fleet = Fleet(ManualClock())
    for name, seconds in (("slow", 10.0), ("fast", 1.0)):
        fleet.report(report(name))
        member = fleet.member(name, "m")
        assert member is not None
        member.measured(100, seconds)
    return fleet


def test_one_that_was_slow_is_tried_again_after_many_requests() -> None:
    fleet = a_slow_and_a_fast_one()
    asked = 0
    while True:
        member = fleet.pick("m")
        assert member is not None
        if member.report.worker == "slow":
            break
        asked += 1
        assert asked < 1_000, "it is never asked again"
        member.measured(100, 1.0)
        fleet.report(report("slow"))
        fleet.report(report("fast", busy=1))
    assert asked >= 32
    member.measured(100, 10.0)
    picked = fleet.pick("m")
    assert picked is not None
    assert picked.report.worker == "fast"


def test_another_revision_may_be_as_fast_as_the_others() -> None:
    fleet = a_slow_and_a_fast_one()
    fleet.report(report("fast", busy=1))
    fleet.report(report("slow", revision="r2"))
    picked = fleet.pick("m")
    assert picked is not None
    assert picked.report.worker == "slow"


def test_a_worker_whose_breaker_is_open_comes_last() -> None:
    clock = ManualClock()
    fleet = Fleet(clock, penalty_s=0, breaker=BreakerConfig(failures=2, open_s=5))
    fleet.report(report("broken", ttl_s=100))
    fleet.report(report("busy", busy=4, queue=9, ttl_s=100))
    broken = fleet.pick("m")
    assert broken is not None
    for _ in range(2):
        fleet.penalize(broken)
    assert (picked := fleet.pick("m")) is not None
    assert picked.report.worker == "busy"
    clock.advance(5)
    assert fleet.pick("m") is broken


def test_only_workers_that_can_do_it_are_picked() -> None:
    fleet = Fleet(ManualClock())
    fleet.report(report("plain"))
    fleet.report(report("able", busy=3, features=frozenset({"tools", "n"})))
    assert fleet.features("m") == {"tools", "n", "logprobs"}
    picked = fleet.pick("m", features=frozenset({"tools"}))
    assert picked is not None
    assert picked.report.worker == "able"
    assert fleet.pick("m", features=frozenset({"embeddings"})) is None


def test_a_large_fleet_is_spread_over_without_comparing_all() -> None:
    fleet = Fleet(ManualClock(), rng=random.Random(7))
    for number in range(200):
        fleet.report(report(f"w{number}", slots=1))
    for _ in range(200):
        member = fleet.pick("m")
        assert member is not None
        member.in_flight += 1
    members = [fleet.member(f"w{number}", "m") for number in range(200)]
    loads = [member.in_flight for member in members if member]
    assert max(loads) <= 2
    assert loads.count(0) < 40


def test_pressure_is_the_load_of_all_and_the_wait_behind_it() -> None:
    fleet = Fleet(ManualClock())
    assert fleet.pressure("m") == Pressure()
    fleet.report(report("a", slots=2, busy=2, queue=4))
    fleet.report(report("b", slots=2))
    member = fleet.member("a", "m")
    assert member is not None
    member.measured(10, 3.0)
    assert fleet.pressure("m") == Pressure(load=1.5, wait_s=1.5)
    fleet.report(report("a", slots=2))
    assert fleet.pressure("m") == Pressure(load=0.0, wait_s=0.0)


def test_the_version_changes_with_what_is_served_and_not_with_how_busy_it_is() -> None:
    clock = ManualClock()
    fleet = Fleet(clock)
    fleet.report(report(ttl_s=4))
    before = fleet.refresh()
    fleet.report(report(busy=3))
    assert fleet.refresh() == before
    fleet.report(report(state="draining"))
    assert fleet.refresh() > before
    before = fleet.refresh()
    clock.advance(5)
    assert fleet.refresh() > before


def test_a_worker_is_chosen_by_the_revision_that_it_serves() -> None:
    fleet = Fleet(ManualClock())
    fleet.report(report("old", revision="r1"))
    fleet.report(report("new", revision="r2"))
    for _ in range(4):
        assert (only := fleet.pick("m", only="r2")) is not None
        assert (never := fleet.pick("m", never="r2")) is not None
        assert (only.report.worker, never.report.worker) == ("new", "old")
    assert fleet.pick("m", only="r3") is None


def test_one_that_sleeps_comes_after_those_that_are_awake() -> None:
    fleet = Fleet(ManualClock())
    fleet.report(report("sleeper", state="asleep"))
    assert (alone := fleet.pick("m")) is not None
    assert alone.report.worker == "sleeper"
    fleet.report(report("busy", busy=4, queue=9))
    assert (awake := fleet.pick("m")) is not None
    assert awake.report.worker == "busy"


def test_a_worker_with_two_models_is_two_members() -> None:
    fleet = Fleet(ManualClock())
    fleet.report(report("w"))
    fleet.report(report("w", model="other"))
    assert fleet.models() == {"m", "other"}
    assert len(fleet.workers()) == 2


def test_who_drains_by_command_gets_nothing() -> None:
    fleet = Fleet(ManualClock())
    fleet.report(report("w", draining=True))
    assert fleet.pick("m") is None
    fleet.report(report("w"))
    assert fleet.pick("m") is not None


def test_who_has_started_again_is_asked_at_once() -> None:
    fleet = Fleet(ManualClock(), breaker=BreakerConfig(failures=1, open_s=60))
    fleet.report(report("w"))
    member = fleet.pick("m")
    assert member is not None
    fleet.penalize(member)
    fleet.report(report("w", busy=1))
    assert fleet.passed_over() == 1
    assert not member.breaker.passable, "a heartbeat alone is no reason to trust it again"
    fleet.report(report("w", state="booting"))
    fleet.report(report("w"))
    assert (again := fleet.pick("m")) is not None
    assert again.breaker.passable
    assert fleet.passed_over() == 0
    assert again.failed_until == 0.0
