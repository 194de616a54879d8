from __future__ import annotations

from typing import Any

from edge_tier.gateway.fleet import MAX_WORKERS, Fleet
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
    fleet = Fleet(ManualClock())
    for number in range(MAX_WORKERS):
        assert fleet.report(report(f"w{number}"))
    assert not fleet.report(report("one-more"))
    assert fleet.report(report("w7"))
