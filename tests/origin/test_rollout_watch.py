"""What an origin takes for the facts of a channel."""

from __future__ import annotations

import pytest

from origin.announce import Publisher
from origin.fleet import FleetConfig, FleetView
from origin.rollout_config import RolloutConfig
from origin.rollout_state import Rollout
from origin.rollout_watch import Watch
from tests.fakes.clock import ManualClock
from tests.fakes.reports import edge_report, worker_report
from tests.fakes.revisions import chunk_of, make_revision
from tests.fakes.upkeep import Shelf
from wire.fleet import Preheated, RevisionFigures

ONE, TWO = (make_revision({"m.gguf": [chunk_of(number)]}) for number in (1, 2))
ROLLOUT = Rollout(
    id="1", model="chat", channel="stable", revision=TWO.id, previous=ONE.id, started=1.0
)


class Rig:
    def __init__(self, publisher: Publisher, clock: ManualClock) -> None:
        self.publisher, self.clock = publisher, clock
        self.fleet = FleetView(FleetConfig(), clock=clock)
        self.watch = self.watching(self.fleet)

    def watching(self, fleet: FleetView) -> Watch:
        return Watch(self.publisher, fleet, RolloutConfig(), ticking=self.clock)


@pytest.fixture
async def rig() -> Rig:
    shelf, clock = Shelf(), ManualClock()
    publisher = await shelf.origin()
    await shelf.publish(publisher, ONE)
    return Rig(publisher, clock)


def test_workers_are_those_that_are_here_and_follow_the_channel(rig: Rig) -> None:
    rig.fleet.report(
        edge_report(
            "e1",
            worker_report("w1"),
            worker_report("w2", channel="beta"),
            worker_report("w3", model="other"),
        )
    )
    assert [r.worker for r in rig.watch.facts(ROLLOUT).workers] == ["w1"]
    rig.clock.advance(60)
    facts = rig.watch.facts(ROLLOUT)
    assert (facts.workers, facts.preheated) == ((), {})


def test_edges_that_have_not_begun_are_named_too(rig: Rig) -> None:
    done = Preheated(model="chat", revision=TWO.id, state="done")
    rig.fleet.report(edge_report("e1", preheated=(done,)))
    rig.fleet.report(edge_report("e2"))
    assert rig.watch.facts(ROLLOUT).preheated == {"e1": done, "e2": None}


def test_figures_are_those_of_both_revisions(rig: Rig) -> None:
    figures = RevisionFigures(model="chat", revision=TWO.id, answered=3, failed=1)
    rig.fleet.report(edge_report("e1", figures=(figures,)))
    found = rig.watch.facts(ROLLOUT).figures
    assert (found[TWO.id].answered, found[TWO.id].failed, found[ONE.id].requests) == (3, 1, 0)


def test_the_view_is_settled_a_while_after_the_start(rig: Rig) -> None:
    assert not rig.watch.facts(ROLLOUT).settled
    rig.clock.advance(RolloutConfig().settle_s)
    assert rig.watch.facts(ROLLOUT).settled


def test_who_was_here_before_a_restart_is_waited_for(rig: Rig) -> None:
    rig.fleet.report(edge_report("e1"))
    kept = rig.fleet.snapshot()
    again = FleetView(FleetConfig(), clock=rig.clock)
    again.restore(kept, elapsed_s=0.5)
    watch = rig.watching(again)
    rig.clock.advance(RolloutConfig().settle_s)
    assert not watch.facts(ROLLOUT).settled
    again.report(edge_report("e1"))
    assert watch.facts(ROLLOUT).settled


def test_a_channel_that_is_not_there_has_no_pointer(rig: Rig) -> None:
    assert rig.watch.pointer("chat", "beta") is None
    pointer = rig.watch.pointer("chat", "stable")
    assert pointer is not None
    assert pointer.revision == ONE.id
