"""gpu_worker.roll_rules: the examples of its rules, and any order of events whatever."""

from __future__ import annotations

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from gpu_worker.roll_events import (
    Action,
    Event,
    Failed,
    Flip,
    Flipped,
    GivenUp,
    GiveUp,
    ListDisk,
    Load,
    Looked,
    LookFailed,
    MakeRoom,
    MovedOn,
    OnDisk,
    Proven,
    Pull,
    Pulled,
    Rest,
    Restart,
    RoomMade,
    Tidied,
    Tidy,
)
from gpu_worker.roll_rules import RollRules, RuleBrokenError
from wire.channel import Canary, ChannelPointer, pointer_to

REVISIONS = tuple(digit * 64 for digit in "abcd")
ONE, TWO, THREE, UNSIGNED = REVISIONS
SIGNED = frozenset((ONE, TWO, THREE))
RETRY_S = 60.0
BAD = Failed("load_failed: no", refuses=True, fault="crashed")
AWAY = Failed("source_unavailable: away")


def pointing(revision: str, sequence: int = 1, canary: str = "") -> ChannelPointer:
    """With a canary that takes the worker ``w``."""
    seed = next(s for s in range(999) if Canary(revision=TWO, percent=10, seed=s).takes("w"))
    share = Canary(revision=canary, percent=10, seed=seed) if canary else None
    return pointer_to("chat", "stable", revision, sequence=sequence, canary=share)


class Driver:
    """Does what the rules say as if by magic, and keeps what a worker would have."""

    def __init__(self, worker: str = "w") -> None:
        self.rules = RollRules(worker, retry_failed_s=RETRY_S)
        self.now_s = 0.0
        self.alive = False
        self.asked: list[Action] = []

    def on(self, event: Event) -> Action:
        action = self.rules.on(event, alive=self.alive, now_s=self.now_s)
        if isinstance(action, Flip):
            self.alive = True
        elif isinstance(action, MakeRoom):
            self.alive = False
        self.asked.append(action)
        return action

    def look(self, pointer: ChannelPointer, *events: Event) -> Action:
        """Look, and let these things happen one after the other; the last action."""
        self.asked = []
        action = self.on(Looked(pointer=pointer, signed=SIGNED))
        for event in events:
            action = self.on(event)
        return action

    def serve(self, revision: str, sequence: int = 1) -> None:
        pointer = pointing(revision, sequence)
        assert self.look(pointer, Pulled(room=True), Proven(), Flipped(), Tidied()) == Rest()


def test_a_boot_pulls_loads_proves_flips_and_tidies() -> None:
    driver = Driver()
    driver.serve(ONE)
    tidy = Tidy(ONE, "", frozenset((ONE,)))
    assert driver.asked == [Pull(ONE), Load(ONE), Flip(ONE), tidy, Rest()]
    assert driver.look(pointing(ONE)) == Rest()


def test_a_member_of_the_canary_takes_its_revision_and_others_the_stable_one() -> None:
    pointer = pointing(ONE, 2, canary=TWO)
    assert pointer.canary is not None
    member, other = Driver("w"), Driver(next(n for n in "xyz" if not pointer.canary.takes(n)))
    for driver in (member, other):
        driver.serve(ONE)
    assert (other.look(pointer), other.rules.canary) == (Rest(), False)
    assert (member.look(pointer), member.rules.canary) == (Pull(TWO), True)
    member.on(Pulled(room=True))
    member.on(Proven())
    assert member.on(Flipped()) == Tidy(TWO, ONE, frozenset((ONE, TWO)))


def test_an_aborted_canary_takes_its_members_back_and_a_promoted_one_leaves_them() -> None:
    driver = Driver()
    driver.serve(ONE)
    driver.look(pointing(ONE, 2, canary=TWO), Pulled(room=True), Proven(), Flipped(), Tidied())
    assert (driver.look(pointing(TWO, 3)), driver.rules.canary) == (Rest(), False)
    assert driver.look(pointing(ONE, 4)) == Pull(ONE)


def test_a_canary_that_is_aborted_while_it_is_brought_is_given_up_at_once() -> None:
    driver = Driver()
    driver.serve(ONE)
    driver.look(pointing(ONE, 2, canary=TWO))
    assert not driver.rules.has_moved(pointing(TWO, 3))
    assert driver.rules.has_moved(pointing(ONE, 3))
    assert driver.on(MovedOn()) == Rest(again=True)
    assert (driver.look(pointing(ONE, 3)), driver.rules.target) == (Rest(), "")


def test_a_failure_leaves_the_old_one_and_names_what_is_refused() -> None:
    driver = Driver()
    driver.serve(ONE)
    assert driver.look(pointing(TWO, 2), Pulled(room=True), BAD) == Rest()
    rules = driver.rules
    assert rules.refused is not None
    assert (rules.refused.revision, rules.serving, rules.fault) == (TWO, ONE, "crashed")
    assert (rules.reason, rules.failures) == (BAD.why, 1)
    assert driver.look(pointing(TWO, 2)) == Rest()
    driver.now_s += RETRY_S
    assert driver.look(pointing(TWO, 2)) == Pull(TWO)


def test_a_pointer_that_moved_is_another_one_and_success_forgets_the_refusal() -> None:
    driver = Driver()
    driver.serve(ONE)
    driver.look(pointing(TWO, 2), Pulled(room=True), BAD)
    driver.look(pointing(TWO, 3), Pulled(room=True))
    assert driver.on(Proven()) == Flip(TWO)
    rules = driver.rules
    assert (rules.refused, rules.reason, rules.fault) == (None, "", "")


def test_a_pointer_that_moves_back_forgets_the_refusal_too() -> None:
    driver = Driver()
    driver.serve(ONE)
    driver.look(pointing(TWO, 2), Pulled(room=True), BAD)
    driver.look(pointing(ONE, 3))
    rules = driver.rules
    assert (rules.refused, rules.reason, rules.fault, rules.failures) == (None, "", "", 0)


def test_who_made_room_serves_nothing_until_the_flip() -> None:
    driver = Driver()
    driver.serve(ONE)
    assert driver.look(pointing(TWO, 2), Pulled(room=False), RoomMade()) == Load(TWO)
    assert (driver.rules.serving, driver.rules.good) == ("", ONE)


def test_a_source_that_is_away_refuses_nothing() -> None:
    driver = Driver()
    driver.serve(ONE)
    assert driver.look(pointing(TWO, 2), AWAY) == Rest()
    assert driver.look(pointing(TWO, 2)) == Pull(TWO)


def test_trying_again_at_the_cost_of_the_old_one_becomes_rarer() -> None:
    driver = Driver()
    driver.serve(ONE)
    waits = []
    for _ in range(8):
        back = (OnDisk((TWO, ONE)), Pulled(room=True), Proven(), Flipped())
        driver.look(pointing(TWO, 2), Pulled(room=False), RoomMade(), BAD, *back)
        assert driver.rules.serving == ONE
        assert driver.rules.refused is not None
        waits.append(driver.rules.refused.retry_at_s - driver.now_s)
        driver.now_s += waits[-1]
    assert waits == [60, 120, 240, 480, 960, 1920, 1920, 1920]


def test_an_engine_that_dies_while_its_successor_is_refused_comes_back_at_once() -> None:
    driver = Driver()
    driver.serve(ONE)
    driver.look(pointing(TWO, 2), Pulled(room=True), BAD)
    driver.alive = False
    assert driver.look(pointing(TWO, 2)) == ListDisk()
    assert driver.on(OnDisk((TWO, ONE))) == Pull(ONE)
    assert driver.on(AWAY) == GiveUp(BAD.why)
    driver.on(GivenUp())
    assert driver.look(pointing(TWO, 2)) == Rest()


def test_a_canary_that_fails_at_a_first_boot_leaves_the_stable_one() -> None:
    driver = Driver()
    pointer = pointing(ONE, 1, canary=TWO)
    assert driver.look(pointer, Pulled(room=True), BAD, OnDisk(())) == Pull(ONE)
    driver.on(Pulled(room=True))
    assert driver.on(Proven()) == Flip(ONE)
    assert driver.on(Flipped()) == Rest()
    assert driver.rules.refused is not None
    assert driver.look(pointer) == Rest()


def test_a_restart_brings_the_same_revision_again_and_a_failed_one_changes_nothing() -> None:
    driver = Driver()
    driver.serve(ONE)
    news = Looked(pointer=pointing(ONE), signed=SIGNED)
    assert driver.on(Restart(news, fresh=True)) == Pull(ONE, fresh=True)
    driver.on(Pulled(room=True))
    assert driver.on(Proven()) == Flip(ONE)
    assert (driver.on(Flipped()), driver.rules.problem) == (Rest(), "")
    driver.on(Restart(news))
    assert driver.on(BAD) == Rest()
    assert (driver.rules.problem, driver.rules.refused) == (BAD.why, None)


def test_a_restart_where_nothing_serves_tries_what_was_refused() -> None:
    driver = Driver()
    assert driver.look(pointing(ONE), Pulled(room=True), BAD, OnDisk(()), GivenUp()) == Rest()
    assert driver.look(pointing(ONE)) == Rest()
    news = Looked(pointer=pointing(ONE), signed=SIGNED)
    assert driver.on(Restart(news, fresh=True)) == Pull(ONE, fresh=True)


@pytest.mark.parametrize(
    ("news", "problem"),
    [
        (Looked(pointer=pointing(ONE), signed=SIGNED, stale="trust_expired: long"), "trust_exp"),
        (Looked(pointer=pointing(ONE), signed=frozenset()), "no longer signed"),
    ],
)
def test_a_restart_that_may_not_be_is_refused_with_the_reason(news: Looked, problem: str) -> None:
    driver = Driver()
    driver.serve(ONE)
    assert driver.on(Restart(news)) == Rest()
    assert problem in driver.rules.problem


def test_beyond_the_grace_nothing_is_started_and_what_runs_goes_on() -> None:
    driver = Driver()
    stale = Looked(pointer=pointing(ONE), signed=SIGNED, stale="trust_expired: long ago")
    assert driver.on(stale) == Rest()
    assert (driver.rules.reason, driver.rules.failures) == ("trust_expired: long ago", 1)
    driver.serve(ONE)
    assert driver.on(stale) == Rest()
    assert (driver.rules.reason, driver.rules.serving) == ("", ONE)


def test_an_event_out_of_turn_is_the_drivers_fault() -> None:
    driver = Driver()
    with pytest.raises(RuleBrokenError, match="Proven while resting"):
        driver.on(Proven())
    driver.look(pointing(ONE))
    with pytest.raises(RuleBrokenError, match="Flipped while pulling"):
        driver.on(Flipped())
    driver.rules.abandon()
    assert driver.look(pointing(ONE)) == Pull(ONE)


class AnyOrder(RuleBasedStateMachine):
    """A worker in a world where anything may happen at any time."""

    @initialize()
    def begin(self) -> None:
        self.machine = RollRules("w", retry_failed_s=RETRY_S)
        self.now_s = 0.0
        self.sequence = 1
        self.pointer = pointing(ONE)
        self.engine = ""
        """What serves; empty: nothing."""
        self.proven = ""
        self.disk: list[str] = []
        self.failed_now = ""
        """What failed in this attempt."""
        self.stale = False
        self.action: Action = Rest()

    def give(self, event: Event) -> None:
        self.action = self.machine.on(event, alive=bool(self.engine), now_s=self.now_s)

    @rule(revision=st.sampled_from(REVISIONS), canary=st.sampled_from(("", *REVISIONS)))
    def the_pointer_moves(self, revision: str, canary: str) -> None:
        self.sequence += 1
        self.pointer = pointing(revision, self.sequence, canary)

    @rule(seconds=st.sampled_from((1.0, RETRY_S, 40 * RETRY_S)))
    def time_passes(self, seconds: float) -> None:
        self.now_s += seconds

    @rule()
    def the_grace_ends_or_begins(self) -> None:
        self.stale = not self.stale

    @precondition(lambda self: self.engine and not isinstance(self.action, Tidy))
    @rule()
    def the_engine_dies(self) -> None:
        self.engine = ""

    @precondition(lambda self: isinstance(self.action, Rest))
    @rule()
    def look(self) -> None:
        refused, before = self.machine.refused, self.engine
        target = self.pointer.revision_for("w")
        self.failed_now = ""
        if refused and refused.pointer == self.pointer and self.now_s < refused.retry_at_s:
            self.failed_now = refused.revision
        self.give(self.news())
        tried = Pull(target)
        if target not in SIGNED or self.stale or (before and before == target):
            assert self.action != tried
        elif self.failed_now:
            assert self.action != tried, "the same pointer is not tried again for a while"
        else:
            assert self.action == tried, "a pointer that moved is tried at once"

    @precondition(lambda self: isinstance(self.action, Rest))
    @rule()
    def look_in_vain(self) -> None:
        self.give(LookFailed("source_unavailable: away"))
        assert isinstance(self.action, Rest | GiveUp)

    @precondition(lambda self: isinstance(self.action, Rest))
    @rule(fresh=st.booleans())
    def restart(self, fresh: bool) -> None:
        before = self.engine
        self.failed_now = ""
        self.give(Restart(self.news(), fresh))
        if before and before in SIGNED and not self.stale:
            assert self.action == Pull(before, fresh)

    @precondition(lambda self: isinstance(self.action, Pull | Load))
    @rule(refuses=st.booleans())
    def it_fails(self, refuses: bool) -> None:
        assert isinstance(self.action, Pull | Load)
        self.failed_now = self.failed_now or self.action.revision
        self.give(Failed("load_failed: x" if refuses else "away: x", refuses))
        if self.engine:
            assert isinstance(self.action, Rest | Pull), "the old one goes on"

    @precondition(lambda self: self.machine.has_moved(self.pointer))
    @rule()
    def it_is_wanted_no_more(self) -> None:
        self.proven = ""
        self.give(MovedOn())
        assert self.action == Rest(again=True)

    @precondition(lambda self: not isinstance(self.action, Rest))
    @rule(room=st.booleans())
    def it_is_done(self, room: bool) -> None:
        match self.action:
            case Pull(revision):
                assert revision in SIGNED
                self.disk = [revision, *(r for r in self.disk if r != revision)]
                self.give(Pulled(room))
                assert not isinstance(self.action, MakeRoom) or (self.engine and not room)
            case MakeRoom():
                self.engine = ""
                self.give(RoomMade())
            case Load(revision):
                self.proven = revision
                self.give(Proven())
            case Flip(revision):
                assert self.proven == revision, "no flip without a proof of that very load"
                assert revision != self.failed_now, "what failed does not come back"
                self.engine, self.proven = revision, ""
                self.give(Flipped())
            case Tidy(serving, previous, also):
                assert serving == self.engine
                kept = {serving, previous, *also}
                assert set(self.pointer_seen.revisions) <= kept
                self.disk = [revision for revision in self.disk if revision in kept]
                self.give(Tidied())
            case ListDisk():
                assert not self.engine
                self.give(OnDisk(tuple(self.disk)))
                others = {r for r in self.disk if r in SIGNED and r != self.failed_now}
                assert isinstance(self.action, Pull) or not others
            case GiveUp():
                assert not self.engine
                self.give(GivenUp())

    def news(self) -> Looked:
        self.pointer_seen = self.pointer
        stale = "trust_expired: long ago" if self.stale else ""
        return Looked(pointer=self.pointer, signed=SIGNED, stale=stale)

    @invariant()
    def the_target_is_told_while_it_is_brought(self) -> None:
        bringing = isinstance(self.action, Pull | Load | Flip | MakeRoom)
        assert bool(self.machine.target) == bringing

    @invariant()
    def what_serves_was_proven_and_is_known(self) -> None:
        if self.engine and not isinstance(self.action, Flip):
            assert self.machine.good == self.machine.serving == self.engine


AnyOrder.TestCase.settings = settings(max_examples=25, stateful_step_count=40, deadline=None)
TestAnyOrder = AnyOrder.TestCase
