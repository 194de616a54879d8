from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from wire.sources.member import Outcome, OutcomeKind
from wire.sources.scoreboard import Scoreboard, ScoreConfig

CONFIG = ScoreConfig()
MIB = 1024 * 1024
NAMES = ("near", "far", "third")


def _board(*names: str) -> Scoreboard:
    return Scoreboard(names or NAMES, CONFIG)


def _measured(seconds: float, size_bytes: int = 4 * MIB) -> Outcome:
    return Outcome("delivered", seconds, size_bytes)


def _all_asked(board: Scoreboard, now_s: float) -> None:
    """Use up the first probe of every source."""
    for _ in NAMES:
        board.choose(now_s)


def test_each_source_is_probed_once_at_first() -> None:
    board = _board()
    assert [board.choose(0.0)[0] for _ in range(5)] == ["near", "far", "third", "near", "near"]


def test_the_fastest_measured_source_comes_first() -> None:
    board = _board()
    _all_asked(board, 0.0)
    for name, seconds in (("near", 0.9), ("far", 0.1), ("third", 0.5)):
        board.record(name, _measured(seconds), 0.0)
    assert board.choose(1.0) == ("far", "third", "near")


def test_latency_decides_for_documents_and_pace_for_chunks() -> None:
    board = _board("chatty", "bulky")
    for name, latency_s, chunk_s in (("chatty", 0.01, 2.0), ("bulky", 0.2, 0.4)):
        board.record(name, _measured(latency_s, 100), 0.0)
        board.record(name, _measured(chunk_s), 0.0)
    assert board.rank(0.0, 0)[0] == "chatty"
    assert board.rank(0.0, 8 * MIB)[0] == "bulky"


def test_a_source_that_lost_is_probed_again_after_the_interval() -> None:
    board = _board("near", "far")
    board.choose(0.0), board.choose(0.0)
    board.record("near", _measured(0.1), 0.0)
    board.record("far", _measured(0.9), 0.0)
    assert board.choose(29.0)[0] == "near"
    assert board.choose(30.0)[0] == "far"
    assert board.choose(30.0)[0] == "near"


@pytest.mark.parametrize("kind", ["unavailable", "mismatch"])
def test_a_fault_sends_the_best_source_back(kind: OutcomeKind) -> None:
    board = _board("near", "far")
    board.record("near", _measured(0.1), 0.0)
    board.record("far", _measured(0.9), 0.0)
    board.record("near", Outcome(kind, 0.1), 0.0)
    assert board.rank(0.0, 4 * MIB) == ("far", "near")


def test_a_mismatch_weighs_more_than_an_outage() -> None:
    board = _board("liar", "lazy")
    board.record("liar", Outcome("mismatch", 0.1), 0.0)
    board.record("lazy", Outcome("unavailable", 0.1), 0.0)
    assert board.rank(0.0, 0) == ("lazy", "liar")


def test_faults_are_forgiven_by_half_lives() -> None:
    board = _board("near")
    board.record("near", Outcome("mismatch", 0.1), 100.0)
    penalties = [board.scores(100.0 + half * 30.0)[0].penalty_s for half in range(4)]
    assert penalties == pytest.approx([60.0, 30.0, 15.0, 7.5])


def test_a_punished_source_is_not_probed_until_it_is_forgiven() -> None:
    board = _board("near", "far")
    board.choose(0.0), board.choose(0.0)
    board.record("near", _measured(0.1), 0.0)
    board.record("far", Outcome("mismatch", 0.1), 0.0)
    assert board.choose(60.0)[0] == "near"
    assert board.choose(180.0)[0] == "far"


def test_penalties_have_a_ceiling() -> None:
    board = _board("near")
    for _ in range(100):
        board.record("near", Outcome("mismatch", 0.1), 0.0)
    assert board.scores(0.0)[0].penalty_s == CONFIG.max_penalty_s


def test_what_is_missing_is_no_fault() -> None:
    board = _board("near")
    before = board.scores(0.0)
    board.record("near", Outcome("missing", 5.0), 0.0)
    assert board.scores(0.0) == before


def test_a_source_that_stalls_until_it_is_cancelled_looks_slow() -> None:
    board = _board("near", "far")
    board.record("near", _measured(0.1), 0.0)
    board.record("far", _measured(0.5), 0.0)
    board.record("near", Outcome("abandoned", 30.0), 0.0)
    assert board.rank(0.0, 4 * MIB) == ("far", "near")


def test_a_quick_cancellation_tells_nothing() -> None:
    board = _board("near")
    board.record("near", _measured(0.5), 0.0)
    before = board.scores(0.0)
    board.record("near", Outcome("abandoned", 0.01), 0.0)
    assert board.scores(0.0) == before


def test_an_unmeasured_source_stands_between_good_and_punished() -> None:
    board = _board("good", "unknown", "punished")
    board.record("good", _measured(0.2), 0.0)
    board.record("punished", _measured(0.1), 0.0)
    board.record("punished", Outcome("mismatch", 0.1), 0.0)
    assert board.rank(0.0, 4 * MIB) == ("good", "unknown", "punished")


def test_one_slow_answer_does_not_overturn_a_history() -> None:
    board = _board("near", "far")
    for _ in range(20):
        board.record("near", _measured(0.1), 0.0)
        board.record("far", _measured(0.5), 0.0)
    board.record("near", _measured(0.9), 0.0)
    assert board.rank(0.0, 4 * MIB)[0] == "near"


def test_scores_show_what_was_measured() -> None:
    board = _board("near")
    board.record("near", _measured(0.05, 10), 0.0)
    board.record("near", _measured(0.55, 5 * MIB), 0.0)
    (score,) = board.scores(0.0)
    assert score.latency_s == pytest.approx(0.05)
    assert score.bytes_per_s == pytest.approx(10 * MIB)


outcomes = st.builds(
    Outcome,
    st.sampled_from(["delivered", "missing", "mismatch", "unavailable", "abandoned"]),
    st.floats(0, 100),
    st.integers(0, 8 * MIB),
)
histories = st.lists(st.tuples(st.sampled_from(NAMES), outcomes, st.floats(0, 50)), max_size=40)


@settings(deadline=None)
@given(histories)
def test_any_history_gives_a_whole_order_with_finite_costs(
    history: list[tuple[str, Outcome, float]],
) -> None:
    board, now_s = _board(), 0.0
    for name, outcome, step_s in history:
        now_s += step_s
        board.record(name, outcome, now_s)
        assert sorted(board.choose(now_s)) == sorted(NAMES)
    for name in NAMES:
        assert 0 <= board.expected_s(name, now_s, 4 * MIB) < float("inf")


@settings(deadline=None)
@given(histories)
def test_penalties_never_grow_by_themselves_and_vanish(
    history: list[tuple[str, Outcome, float]],
) -> None:
    board, now_s = _board(), 0.0
    for name, outcome, step_s in history:
        now_s += step_s
        board.record(name, outcome, now_s)
    series = [[score.penalty_s for score in board.scores(now_s + later)] for later in (0, 60, 900)]
    assert all(a >= b >= c for a, b, c in zip(*series, strict=True))
    assert max(series[2]) < 0.001


@settings(deadline=None)
@given(histories)
def test_a_fault_never_improves_a_place(history: list[tuple[str, Outcome, float]]) -> None:
    board, now_s = _board(), 0.0
    for name, outcome, step_s in history:
        now_s += step_s
        board.record(name, outcome, now_s)
    before = board.rank(now_s, 4 * MIB).index("far")
    board.record("far", Outcome("mismatch", 0.1), now_s)
    assert board.rank(now_s, 4 * MIB).index("far") >= before
