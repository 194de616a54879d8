from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from wire.sources.contest import Ask, Contest

NAMES = ("a", "b", "c", "d")


def _sources(asks: tuple[Ask, ...]) -> list[tuple[str, str]]:
    return [(ask.source, ask.reason) for ask in asks]


def test_the_best_source_is_asked_first_and_alone() -> None:
    contest = Contest(NAMES, buffer=True)
    assert contest.start() == (Ask("a", "first", buffer=True),)


def test_a_probe_runs_beside_and_never_into_the_buffer() -> None:
    contest = Contest(NAMES, probe="c", buffer=True)
    assert contest.start() == (Ask("a", "first", buffer=True), Ask("c", "probe"))


def test_a_failure_is_followed_by_the_next_who_gets_the_buffer() -> None:
    contest = Contest(NAMES, buffer=True)
    (first,) = contest.start()
    assert contest.failed(first) == (Ask("b", "failover", buffer=True),)


def test_a_failed_probe_is_followed_by_nobody_while_the_first_runs() -> None:
    contest = Contest(NAMES, probe="c")
    first, probe = contest.start()
    assert contest.failed(probe) == ()
    assert _sources(contest.failed(first)) == [("b", "failover")]


def test_rot_gets_a_second_chance_beside_the_next_source() -> None:
    contest = Contest(NAMES, buffer=True)
    (first,) = contest.start()
    assert contest.failed(first, rotten=True) == (
        Ask("b", "failover", buffer=True),
        Ask("a", "second-chance", revalidate=True),
    )
    assert contest.failed(contest.running[1], rotten=True) == (Ask("c", "failover"),)


def test_who_distrusts_stored_copies_gives_no_second_chance() -> None:
    contest = Contest("a", buffer=True, revalidate=True)
    (first,) = contest.start()
    assert first.revalidate
    assert contest.failed(first, rotten=True) == ()
    assert not contest.running


def test_a_hedge_gets_no_buffer_and_what_follows_it_neither_while_the_first_runs() -> None:
    contest = Contest(NAMES, buffer=True)
    contest.start()
    hedge = contest.hedge()
    assert hedge == Ask("b", "hedge")
    assert contest.failed(hedge) == (Ask("c", "failover"),)


def _after_hedges(contest: Contest, count: int) -> Contest:
    contest.start()
    for _ in range(count):
        contest.hedge()
    return contest


def test_hedges_are_bounded_by_who_runs_and_by_who_is_left() -> None:
    assert _after_hedges(Contest(NAMES, at_once=2), 0).may_hedge
    assert not _after_hedges(Contest(NAMES, at_once=2), 1).may_hedge
    assert not _after_hedges(Contest("ab"), 1).may_hedge
    assert not _after_hedges(Contest("a"), 0).may_hedge


@given(st.integers(1, 4), st.booleans(), st.data())
def test_everybody_is_asked_before_a_contest_is_lost(
    count: int, probe: bool, data: st.DataObject
) -> None:
    names = NAMES[:count]
    contest = Contest(names, probe=names[-1] if probe and count > 1 else None, buffer=True)
    contest.start()
    asked = {ask.source for ask in contest.running}
    while contest.running:
        ask = data.draw(st.sampled_from(contest.running))
        asked |= {new.source for new in contest.failed(ask, rotten=data.draw(st.booleans()))}
    assert asked == set(names)


class AnyContest(RuleBasedStateMachine):
    """Whatever happens, in whatever order, the rules hold."""

    @initialize(
        count=st.integers(1, 4),
        probe=st.booleans(),
        buffer=st.booleans(),
        revalidate=st.booleans(),
        at_once=st.integers(1, 4),
    )
    def begin(self, count: int, probe: bool, buffer: bool, revalidate: bool, at_once: int) -> None:
        names = NAMES[:count]
        self.buffer, self.at_once = buffer, at_once
        self.contest = Contest(
            names,
            probe=names[-1] if probe and count > 1 else None,
            buffer=buffer,
            revalidate=revalidate,
            at_once=at_once,
        )
        self.asked = list(self.contest.start())
        self.rotten: set[str] = set()

    @precondition(lambda self: self.contest.may_hedge)
    @rule()
    def hedge(self) -> None:
        assert len(self.contest.running) < self.at_once
        self.asked.append(self.contest.hedge())

    @precondition(lambda self: self.contest.running)
    @rule(data=st.data(), rotten=st.booleans())
    def fail(self, data: st.DataObject, rotten: bool) -> None:
        ask = data.draw(st.sampled_from(self.contest.running))
        if rotten:
            self.rotten.add(ask.source)
        asks = self.contest.failed(ask, rotten=rotten)
        self.asked.extend(asks)
        assert ask not in self.contest.running
        assert set(asks) <= set(self.contest.running)

    @precondition(lambda self: not self.contest.running)
    @rule()
    def stay_lost(self) -> None:
        assert not self.contest.may_hedge

    @invariant()
    def nobody_is_asked_twice_in_the_same_way(self) -> None:
        ways = [(ask.source, ask.reason == "second-chance") for ask in self.asked]
        assert len(ways) == len(set(ways))

    @invariant()
    def at_most_one_receives_into_the_buffer(self) -> None:
        holders = [ask for ask in self.contest.running if ask.buffer]
        assert len(holders) <= self.buffer
        assert not any(ask.buffer for ask in self.asked if ask.reason in {"probe", "hedge"})

    @invariant()
    def second_chances_are_for_rot_and_check_what_is_stored(self) -> None:
        for ask in self.asked:
            if ask.reason == "second-chance":
                assert ask.revalidate
                assert ask.source in self.rotten


TestAnyContest = AnyContest.TestCase
