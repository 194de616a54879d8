"""The rules of a rollout, one by one, and over any course of events."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule
from msgspec.structs import replace

from origin.rollout import abort, cannot_point, promote, same_but_for_time, step, supersede
from origin.rollout_config import RolloutConfig
from origin.rollout_figures import Window
from origin.rollout_state import OVER, Facts, Point, Rollout
from wire.channel import Canary, ChannelPointer, pointer_to
from wire.fleet import Preheat, Preheated
from wire.workers import WorkerReport

OLD, NEW, OTHER = "a" * 64, "b" * 64, "c" * 64
NAMES = ("gpu-1", "gpu-2", "gpu-3")
CONFIG = RolloutConfig()
T0 = 1_000_000.0
POINTER = pointer_to("chat", "stable", OLD, sequence=4)


def report(name: str, revision: str = OLD, **changes: Any) -> WorkerReport:
    return WorkerReport(
        **{
            "worker": name,
            "url": f"http://{name}:1",
            "model": "chat",
            "channel": "stable",
            "revision": revision,
            "state": "ready",
            "slots": 1,
            "busy": 0,
            "queue": 0,
            "ttl_s": 3.0,
            **changes,
        }
    )


def new_rollout(**changes: Any) -> Rollout:
    made = Rollout(
        id="1",
        model="chat",
        channel="stable",
        revision=NEW,
        previous=OLD,
        sequence=4,
        percent=10,
        started=T0,
    )
    return replace(made, **changes)


class World:
    """A channel and its fleet, which do what a rollout asks."""

    def __init__(
        self,
        rollout: Rollout | None = None,
        names: tuple[str, ...] = NAMES,
        *,
        pointer: ChannelPointer | None = POINTER,
    ) -> None:
        self.rollout = rollout or new_rollout()
        self.now = T0
        self.pointer = pointer
        self.workers = {name: report(name) for name in names}
        self.preheated: dict[str, Preheated | None] = {}
        self.figures: dict[str, Window] = {}
        self.settled = True
        self.asked: list[Preheat | Point] = []
        self.config = CONFIG

    def facts(self) -> Facts:
        return Facts(
            pointer=self.pointer,
            workers=tuple(self.workers.values()),
            preheated=self.preheated,
            figures=self.figures,
            settled=self.settled,
        )

    def at(self, stage: str) -> bool:
        """Whether the rollout is in this stage now."""
        return self.rollout.stage == stage

    def look(self, seconds: float = 1.0, *, obey: bool = True) -> Rollout:
        """Some time passes, and the rollout is taken as far as it goes."""
        self.now += seconds
        for _ in range(8):
            self.rollout, actions = step(self.rollout, self.facts(), self.now, self.config)
            self.asked += actions
            points = [action for action in actions if isinstance(action, Point)]
            if not points or not obey:
                break
            self.obey(points[0])
        return self.rollout

    def obey(self, wanted: Point) -> None:
        held = self.pointer.sequence if self.pointer else 0
        assert wanted.sequence == held, "only the pointer that it knows is a rollout's to move"
        self.pointer = pointer_to(
            "chat", "stable", wanted.revision, sequence=held + 1, canary=wanted.canary
        )

    def moved(self, revision: str) -> None:
        """Somebody else moves the channel."""
        held = self.pointer.sequence if self.pointer else 0
        self.pointer = pointer_to("chat", "stable", revision, sequence=held + 1)

    @property
    def canary(self) -> Canary:
        assert self.pointer is not None
        assert self.pointer.canary is not None
        return self.pointer.canary

    def chosen(self) -> list[str]:
        return [name for name in self.workers if self.canary.takes(name)]

    def follow(self, *names: str) -> None:
        """Workers serve what the channel names for them; all of them where none is named."""
        assert self.pointer is not None
        for name in names or self.workers:
            self.workers[name] = report(name, self.pointer.revision_for(name))

    def served(self, answered: int, failed: int = 0, *, new: bool = True) -> None:
        revision = NEW if new else OLD
        held = self.figures.get(revision, Window())
        self.figures[revision] = Window(
            answered=held.answered + answered, failed=held.failed + failed
        )

    def observing(self) -> None:
        """As far as the canary being observed."""
        self.look()
        self.follow()
        self.look()
        assert self.rollout.stage == "observing"


def preheated(state: str, reason: str = "") -> Preheated:
    return Preheated(model="chat", revision=NEW, state=state, reason=reason)  # type: ignore[arg-type]


def test_a_roll_with_a_canary_from_its_beginning_to_its_end() -> None:
    world = World()
    world.preheated = {"edge-1": preheated("running")}
    assert world.look().stage == "preheating"
    assert world.asked == [Preheat(model="chat", revision=NEW)]
    world.preheated = {"edge-1": preheated("done")}
    assert world.look().stage == "canary"
    assert world.pointer is not None
    assert (world.pointer.revision, world.canary.revision) == (OLD, NEW)
    assert len(world.chosen()) == 1
    world.follow()
    assert world.look().stage == "observing"
    for _ in range(70):
        world.served(1)
        world.look()
    assert world.at("rolling")
    assert (world.pointer.revision, world.pointer.canary) == (NEW, None)
    assert len(world.rollout.waiting) == 2
    world.follow()
    assert world.look().stage == "done"
    assert world.rollout.serving == 3
    assert world.rollout.ended == world.now
    assert not world.rollout.reason
    assert not world.rollout.notes


def test_without_a_canary_the_channel_is_pointed_at_once() -> None:
    world = World(new_rollout(percent=0))
    assert world.look().stage == "rolling"
    assert world.pointer is not None
    assert world.pointer.revision == NEW
    world.follow()
    assert world.look().stage == "done"
    assert [type(action) for action in world.asked] == [Point]


@pytest.mark.parametrize("fault", ["probe_failed", "bad_file", "out_of_memory", "hung", "crashed"])
@pytest.mark.parametrize("stage", ["canary", "observing"])
def test_a_worker_of_the_canary_that_refuses_ends_it_at_once(fault: str, stage: str) -> None:
    world = World()
    world.look()
    if stage == "observing":
        world.follow()
        world.look()
    assert world.at(stage)
    (name,) = world.chosen()
    world.workers[name] = report(name, OLD, refused=NEW, fault=fault, reason="why not")
    after = world.look(0.0)
    assert after.stage == "aborted"
    assert after.reason == f"worker {name} refused it: {fault}: why not"
    assert world.pointer is not None
    assert (world.pointer.revision, world.pointer.canary) == (OLD, None)


def test_an_engine_that_ends_with_the_revision_ends_the_canary() -> None:
    world = World()
    world.observing()
    (name,) = world.chosen()
    world.workers[name] = report(name, "", state="booting", fault="crashed", reason="signal 11")
    after = world.look()
    assert after.stage == "aborted"
    assert "failed with it: crashed: signal 11" in after.reason


def test_what_a_worker_suffered_before_does_not_count() -> None:
    world = World()
    for name in NAMES:
        world.workers[name] = report(name, OLD, fault="hung")
    world.look()
    for name in world.chosen():
        world.workers[name] = report(name, NEW, fault="hung")
    assert world.look().stage == "observing"


def test_a_refusal_from_before_is_excused_until_it_comes_anew() -> None:
    world = World()
    for name in NAMES:
        world.workers[name] = report(name, OLD, refused=NEW, fault="out_of_memory")
    assert world.look().stage == "canary"
    (name,) = world.chosen()
    world.workers[name] = report(name, OLD, target=NEW, refused=NEW, phase="load")
    assert world.look().stage == "canary"
    world.workers[name] = report(name, OLD, refused=NEW, fault="out_of_memory")
    assert world.look().stage == "aborted"


def test_a_refusal_from_before_is_not_excused_for_long() -> None:
    world = World()
    for name in NAMES:
        world.workers[name] = report(name, OLD, refused=NEW, fault="out_of_memory")
    for _ in range(9):
        assert world.look().stage == "canary"
    for _ in range(4):
        world.look()
    assert world.at("aborted")


def test_workers_outside_the_canary_have_no_say_in_it() -> None:
    world = World()
    world.observing()
    outside = [name for name in NAMES if name not in world.chosen()]
    world.workers[outside[0]] = report(outside[0], OLD, fault="crashed")
    world.workers[outside[1]] = report(outside[1], OLD, refused=NEW)
    assert world.look().stage == "observing"


def test_a_canary_that_nobody_comes_to_serve_is_withdrawn() -> None:
    world = World()
    for _ in range(int(CONFIG.canary_start_timeout_s / 5) + 3):
        world.look(5.0)
    assert world.at("aborted")
    assert "came to serve it in time" in world.rollout.reason


def test_failures_end_a_canary_before_its_time() -> None:
    world = World()
    world.observing()
    world.served(100, new=False)
    world.served(1, 3)
    after = world.look()
    assert after.stage == "aborted"
    assert "error rate 75.0% (3 of 4), against 0.0% (0 of 100)" in after.reason
    assert (after.trial.failed, after.stable.answered) == (3, 100)


def test_what_was_counted_before_the_observation_is_not_its() -> None:
    world = World()
    world.served(0, 1_000)
    world.observing()
    world.served(10)
    assert world.look().stage == "observing"
    assert world.rollout.trial == Window(answered=10)


def test_a_slow_canary_is_withdrawn_when_there_is_enough_to_compare() -> None:
    world = World()
    world.observing()
    quick = (0,) * 4 + (100,)
    slow = (0,) * 10 + (100,)
    world.figures = {
        OLD: Window(answered=100, first_token=quick),
        NEW: Window(answered=100, first_token=slow),
    }
    assert world.look().stage == "observing"
    for _ in range(61):
        world.look()
    assert world.at("aborted")
    assert "time to first token p50" in world.rollout.reason


@pytest.mark.parametrize(("strict", "stage"), [(False, "rolling"), (True, "aborted")])
def test_a_canary_with_too_few_requests_is_decided_at_the_end(strict: bool, stage: str) -> None:
    world = World()
    world.config = RolloutConfig(require_requests=strict)
    world.observing()
    world.served(3)
    for _ in range(int(CONFIG.observe_max_s / 5) + 1):
        world.look(5.0)
    assert world.at(stage)
    assert "the canary saw 3 requests" in (world.rollout.reason or world.rollout.notes[-1])


def test_a_canary_that_is_gone_is_not_promoted() -> None:
    world = World()
    world.observing()
    world.served(1_000)
    del world.workers[world.chosen()[0]]
    for _ in range(100):
        world.look()
    assert world.at("observing")
    for _ in range(200):
        world.look(5.0)
    assert world.at("aborted")
    assert "no worker of the canary serves it any more" in world.rollout.reason


def test_only_watched_time_counts() -> None:
    world = World()
    world.observing()
    world.served(1_000)
    world.look(86_400.0)
    assert world.at("observing")
    assert world.rollout.stage_s <= 5 * CONFIG.tick_s + 1
    world.look(-86_400.0)
    assert world.at("observing")


def test_preheating_has_a_deadline_and_says_who_was_late() -> None:
    world = World(new_rollout(percent=0))
    world.preheated = {
        "edge-1": preheated("running"),
        "edge-2": preheated("failed", "disk full"),
        "edge-3": None,
    }
    for _ in range(int(CONFIG.preheat_timeout_s / 5) - 1):
        assert world.look(5.0).stage == "preheating"
    world.look(5.0)
    assert world.look(5.0).stage == "rolling"
    assert world.rollout.notes == (
        "went on without 1 edges preheated: edge-1",
        "edge edge-2 is not preheated: disk full",
        "edge edge-3 is not preheated: it does not say that it has begun",
    )


def test_an_edge_that_does_not_begin_is_not_waited_for_long() -> None:
    world = World(new_rollout(percent=0))
    world.preheated = {"edge-1": None}
    for _ in range(int(CONFIG.preheat_begin_s) - 1):
        assert world.look().stage == "preheating"
    for _ in range(2):
        world.look()
    assert world.at("rolling")


def test_an_origin_that_just_started_does_not_believe_that_nobody_is_there() -> None:
    world = World(names=())
    world.settled = False
    for _ in range(50):
        assert world.look().stage == "preheating"
    world.settled = True
    assert world.look().stage == "aborted"
    assert "nobody could try it" in world.rollout.reason
    assert world.pointer == POINTER


def test_without_a_canary_nobody_need_be_there() -> None:
    world = World(new_rollout(percent=0), ())
    assert world.look().stage == "rolling"
    for _ in range(3):
        world.look()
    assert world.at("done")
    assert world.rollout.notes == ("no worker of this channel can be reached",)


def test_too_many_refusals_turn_the_whole_roll_back() -> None:
    world = World(new_rollout(percent=0))
    world.look()
    world.workers["gpu-2"] = report("gpu-2", OLD, refused=NEW, fault="bad_file")
    after = world.look()
    assert after.stage == "aborted"
    assert after.reason == "1 of 3 workers refused it: gpu-2: bad_file"
    assert world.pointer is not None
    assert world.pointer.revision == OLD


def test_a_roll_that_shall_not_turn_back_reports_refusals_and_ends() -> None:
    world = World(new_rollout(percent=0, abort_on_failure=False))
    world.look()
    world.follow("gpu-1", "gpu-3")
    world.workers["gpu-2"] = report("gpu-2", OLD, refused=NEW, fault="bad_file")
    after = world.look()
    assert after.stage == "done"
    assert after.refused == {"gpu-2": "bad_file"}
    assert after.serving == 2


def test_few_refusals_among_many_are_reported() -> None:
    names = tuple(f"gpu-{number}" for number in range(8))
    world = World(new_rollout(percent=0), names)
    world.look()
    world.follow()
    world.workers["gpu-3"] = report("gpu-3", OLD, refused=NEW, fault="out_of_memory")
    after = world.look()
    assert (after.stage, after.refused) == ("done", {"gpu-3": "out_of_memory"})


def test_stragglers_are_named_at_the_end() -> None:
    world = World(new_rollout(percent=0))
    world.look()
    world.follow("gpu-1", "gpu-2")
    for _ in range(int(CONFIG.rolling_timeout_s / 5) + 1):
        world.look(5.0)
    assert world.at("done")
    assert world.rollout.notes[-1] == "1 workers do not serve it: gpu-3"


def test_a_channel_that_somebody_else_moved_is_left_to_them() -> None:
    world = World()
    world.observing()
    world.moved(OTHER)
    after = world.look()
    assert after.stage == "superseded"
    assert "somebody else" in after.reason
    assert world.pointer is not None
    assert world.pointer.revision == OTHER


def test_an_aborted_rollout_does_not_move_a_channel_that_is_not_its_any_more() -> None:
    world = World()
    world.observing()
    world.moved(OTHER)
    world.rollout = abort(world.rollout, "enough", world.now)
    after = world.look()
    assert (after.stage, after.reason) == ("aborted", "enough")
    assert world.pointer is not None
    assert world.pointer.revision == OTHER


def test_a_left_over_canary_is_withdrawn_before_anything_else() -> None:
    world = World()
    left = Canary(revision=OTHER, percent=50)
    world.pointer = pointer_to("chat", "stable", OLD, sequence=4, canary=left)
    world.look()
    points = [action for action in world.asked if isinstance(action, Point)]
    assert (points[0].revision, points[0].canary) == (OLD, None)
    assert world.at("canary")


def test_a_new_channel_has_no_canary_and_no_way_back() -> None:
    world = World(new_rollout(previous="", sequence=0), pointer=None)
    world.look()
    assert world.at("rolling")
    world.rollout = abort(world.rollout, "no", world.now)
    assert world.look().stage == "aborted"
    assert world.pointer == pointer_to("chat", "stable", NEW, sequence=1)


def test_a_roll_to_where_the_channel_points_is_soon_done() -> None:
    world = World(new_rollout(revision=OLD))
    assert world.look().stage == "done"
    assert world.pointer is not None
    assert world.pointer.sequence == 4


def test_an_operator_may_promote_and_abort_at_any_time() -> None:
    world = World()
    world.observing()
    world.rollout = promote(world.rollout, world.now, "ann")
    assert world.look().stage == "rolling"
    assert world.rollout.notes == ("promoted by ann",)
    assert promote(world.rollout, world.now) is world.rollout
    world.rollout = abort(world.rollout, "changed my mind", world.now)
    assert world.look().stage == "aborted"
    assert abort(world.rollout, "again", world.now) is world.rollout
    assert supersede(world.rollout, "late", world.now) is world.rollout


def test_a_revision_that_cannot_be_pointed_at_ends_it() -> None:
    world = World()
    world.look(obey=False)
    world.rollout = cannot_point(world.rollout, "it was taken down", world.now)
    assert world.look().stage == "aborted"
    stuck = replace(new_rollout(), stage="aborting")
    assert cannot_point(stuck, "gone too", T0).notes == ("the channel stays where it is: gone too",)


def test_a_worker_that_crashes_as_it_once_did_has_crashed_anew() -> None:
    world = World()
    for name in NAMES:
        world.workers[name] = report(name, fault="crashed")  # long ago
    world.look()
    assert world.at("canary")
    (name,) = [name for name in NAMES if world.canary.takes(name)]
    world.workers[name] = report(name, NEW)
    world.look()
    assert world.at("observing")
    world.workers[name] = report(name, NEW, state="booting", fault="crashed")
    assert world.look().stage == "aborted"
    assert f"worker {name} failed with it: crashed" in world.rollout.reason


def test_of_many_edges_without_it_the_notes_keep_the_number() -> None:
    world = World()
    failed = Preheated(model="chat", revision=NEW, state="failed", reason="does not fit")
    world.preheated = {f"edge-{number:02}": failed for number in range(40)}
    notes = world.look().notes
    assert notes[0] == "edge edge-00 is not preheated: does not fit"
    assert notes[-1] == "32 more edges are not preheated"
    assert len(notes) == 9


def test_mere_time_and_requests_are_no_news() -> None:
    world = World()
    world.observing()
    before = world.rollout
    world.served(5)
    after = world.look()
    assert same_but_for_time(before, after)
    assert before != after
    assert not same_but_for_time(before, promote(after, T0))


class AnyCourse(RuleBasedStateMachine):
    """Whatever happens, in any order, with crashes between deciding, writing down and doing."""

    @initialize(percent=st.sampled_from([0, 10, 50]), workers=st.integers(0, 5))
    def begin(self, percent: int, workers: int) -> None:
        names = tuple(f"gpu-{number}" for number in range(workers))
        self.world = World(new_rollout(percent=percent), names)
        self.seen: list[str] = []
        self.foreign = False

    @rule(seconds=st.sampled_from([0.0, 0.2, 1.0, 5.0, 500.0, -30.0]))
    def look(self, seconds: float) -> None:
        self.world.look(seconds)

    @rule()
    def crash_before_acting(self) -> None:
        """What was decided was written down; what follows from it was not done."""
        self.world.look(obey=False)

    @rule()
    def crash_before_writing(self) -> None:
        """Nothing was written down, so nothing was done."""
        before = self.world.rollout
        self.world.look(obey=False)
        self.world.rollout = before

    @rule(number=st.integers(0, 4))
    def a_worker_follows(self, number: int) -> None:
        if (name := f"gpu-{number}") in self.world.workers:
            self.world.follow(name)

    @rule(number=st.integers(0, 4), fault=st.sampled_from(["probe_failed", "hung"]))
    def a_worker_refuses(self, number: int, fault: str) -> None:
        if (name := f"gpu-{number}") in self.world.workers:
            self.world.workers[name] = report(name, OLD, refused=NEW, fault=fault)

    @rule(number=st.integers(0, 4))
    def a_worker_goes(self, number: int) -> None:
        self.world.workers.pop(f"gpu-{number}", None)

    @rule(answered=st.integers(0, 60), failed=st.integers(0, 4), new=st.booleans())
    def requests(self, answered: int, failed: int, new: bool) -> None:
        self.world.served(answered, failed, new=new)

    @rule(state=st.sampled_from(["running", "done", "failed"]))
    def an_edge(self, state: str) -> None:
        self.world.preheated = {"edge-1": preheated(state)}

    @rule(settled=st.booleans())
    def settle(self, settled: bool) -> None:
        self.world.settled = settled

    @rule()
    def an_operator_aborts(self) -> None:
        self.world.rollout = abort(self.world.rollout, "an operator", self.world.now)

    @rule()
    def an_operator_promotes(self) -> None:
        self.world.rollout = promote(self.world.rollout, self.world.now)

    @rule()
    def somebody_else_moves_the_channel(self) -> None:
        self.world.moved(OTHER)
        self.foreign = True

    @invariant()
    def what_is_over_stays_over(self) -> None:
        if not hasattr(self, "world"):
            return
        stage = self.world.rollout.stage
        if self.seen and self.seen[-1] in OVER:
            assert stage == self.seen[-1]
        if not self.seen or self.seen[-1] != stage:
            self.seen.append(stage)

    @invariant()
    def the_channel_is_where_the_end_says(self) -> None:
        if not hasattr(self, "world") or self.foreign:
            return
        world, stage = self.world, self.world.rollout.stage
        assert world.pointer is not None
        at = (world.pointer.revision, world.pointer.canary)
        if stage == "aborted":
            assert at == (OLD, None)
            assert world.rollout.reason
        if stage == "done":
            assert at == (NEW, None)
        assert stage != "superseded"

    @invariant()
    def time_is_never_more_than_was_watched(self) -> None:
        if hasattr(self, "world"):
            assert 0.0 <= self.world.rollout.stage_s <= 10_000.0


AnyCourse.TestCase.settings = settings(max_examples=60, stateful_step_count=30, deadline=None)
TestAnyCourse = AnyCourse.TestCase


def test_facts_need_no_more_than_they_say() -> None:
    empty: Mapping[str, Window] = {}
    facts = Facts(pointer=None, preheated={}, figures=empty)
    assert facts.settled
    over = replace(new_rollout(), stage="done")
    assert step(over, facts, T0, CONFIG) == (over, ())
