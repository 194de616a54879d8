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


def _measured(seconds: float, size_bytes: int = 4 * MIB, sharing: float = 1.0) -> Outcome:
    return Outcome("delivered", seconds, size_bytes, size_bytes > 64 * 1024, size_bytes, sharing)


def test_unmeasured_sources_are_taken_in_turn_as_they_are_loaded() -> None:
    board, loads = _board(), dict.fromkeys(NAMES, 0)
    firsts = []
    for _ in range(6):
        firsts.append(board.rank(0.0, 4 * MIB, loads)[0])
        loads[firsts[-1]] += 1
    assert firsts == ["near", "far", "third"] * 2


def test_the_fastest_measured_source_comes_first() -> None:
    board = _board()
    for name, seconds in (("near", 0.9), ("far", 0.1), ("third", 0.5)):
        board.record(name, _measured(seconds), 0.0)
    assert board.rank(1.0, 4 * MIB) == ("far", "third", "near")


def test_latency_decides_for_documents_and_pace_for_chunks() -> None:
    board = _board("chatty", "bulky")
    for name, latency_s, chunk_s in (("chatty", 0.01, 2.0), ("bulky", 0.2, 0.4)):
        board.record(name, _measured(latency_s, 100), 0.0)
        board.record(name, _measured(chunk_s), 0.0)
    assert board.rank(0.0, 0)[0] == "chatty"
    assert board.rank(0.0, 8 * MIB)[0] == "bulky"


def test_a_second_source_that_is_as_good_takes_a_part() -> None:
    board = _board("one", "two")
    board.record("one", _measured(0.10), 0.0)
    board.record("two", _measured(0.11), 0.0)
    assert board.rank(0.0, 4 * MIB, {"one": 0})[0] == "one"
    assert board.rank(0.0, 4 * MIB, {"one": 1})[0] == "two"
    assert board.rank(0.0, 4 * MIB, {"one": 1, "two": 1})[0] == "one"


def test_load_does_not_drive_from_a_source_that_bears_it() -> None:
    board = _board("near", "far")
    for name, latency_s in (("near", 0.05), ("far", 0.5)):
        board.record(name, _measured(latency_s, 100), 0.0)
    for _ in range(4):  # four at once are as quick as one alone
        board.record("near", _measured(0.06, sharing=4.0), 0.0)
    assert board.rank(0.0, 4 * MIB, {"near": 7})[0] == "near"


def test_a_source_that_four_share_is_known_to_give_four_times_as_much() -> None:
    board = _board("near")
    board.record("near", _measured(0.4, sharing=4.0), 0.0)
    assert board.expected_s("near", 4 * MIB, load=0) == pytest.approx(0.1)
    assert board.expected_s("near", 4 * MIB, load=3) == pytest.approx(0.4)


def test_a_source_of_unknown_pace_is_taken_to_be_as_fast_as_the_fastest() -> None:
    board = _board("near", "far")
    board.record("near", _measured(0.02, 100), 0.0)
    board.record("far", _measured(0.05, 100), 0.0)
    board.record("near", _measured(0.12), 0.0)
    assert board.rank(0.0, 4 * MIB, {"near": 0})[0] == "near"
    assert board.rank(0.0, 4 * MIB, {"near": 1})[0] == "far"
    assert board.expected_s("far", 4 * MIB) is None


def test_what_was_not_asked_for_long_is_due_for_a_probe() -> None:
    board = _board("near", "far")
    assert board.due(0.0, chunk=True) == ("near", "far")
    board.asked("near", 0.0, chunk=True)
    board.asked("far", 5.0, chunk=False)
    assert board.due(29.0, chunk=False) == ()
    assert board.due(29.0, chunk=True) == ("far",)
    assert board.due(30.0, chunk=False) == ("near",)
    assert board.due(35.0, chunk=True) == ("far", "near")


def test_old_knowledge_fades_before_a_new_measurement() -> None:
    fresh, stale = _board("near"), _board("near")
    fresh.record("near", _measured(4.0), 0.0)
    stale.record("near", _measured(4.0), 0.0)
    fresh.record("near", _measured(0.1), 1.0)
    stale.record("near", _measured(0.1), 301.0)
    assert (fresh.expected_s("near", 4 * MIB) or 0) > 2.5
    assert (stale.expected_s("near", 4 * MIB) or 9) < 0.11


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


def test_a_delivered_chunk_forgives_half_and_a_document_nothing() -> None:
    board = _board("near")
    board.record("near", Outcome("mismatch", 0.1), 0.0)
    board.record("near", _measured(0.1, 100), 0.0)
    assert board.scores(0.0)[0].penalty_s == 60.0
    board.record("near", _measured(0.1), 0.0)
    assert board.scores(0.0)[0].penalty_s == 30.0


def test_a_punished_source_is_not_probed_until_it_is_forgiven() -> None:
    board = _board("near")
    board.asked("near", 0.0, chunk=True)
    board.record("near", Outcome("mismatch", 0.1), 0.0)
    assert board.due(60.0, chunk=True) == ()
    assert board.due(180.0, chunk=True) == ("near",)


def test_requests_that_fail_together_are_punished_once() -> None:
    board = _board("near")
    for _ in range(4):
        board.record("near", Outcome("unavailable", 2.0), 10.0)
    assert board.scores(10.0)[0].penalty_s == CONFIG.unavailable_penalty_s
    board.record("near", Outcome("unavailable", 0.1), 10.2)  # asked after that, it failed again
    assert board.scores(10.2)[0].penalty_s == pytest.approx(10.0, rel=0.01)


def test_penalties_have_a_ceiling() -> None:
    board = _board("near")
    for number in range(100):
        board.record("near", Outcome("mismatch", 0.0), number / 100)
    assert board.scores(0.99)[0].penalty_s == CONFIG.max_penalty_s


def test_what_is_missing_is_no_fault() -> None:
    board = _board("near")
    before = board.scores(0.0)
    board.record("near", Outcome("missing", 5.0), 0.0)
    assert board.scores(0.0) == before


def test_a_source_that_stalls_until_it_is_cancelled_looks_slow() -> None:
    board = _board("near", "far")
    board.record("near", _measured(0.1), 0.0)
    board.record("far", _measured(0.5), 0.0)
    board.record("near", Outcome("abandoned", 30.0, is_chunk=True), 0.0)
    assert board.rank(0.0, 4 * MIB) == ("far", "near")


def test_one_straggler_is_an_accident_and_the_second_in_a_row_is_not() -> None:
    straggler = Outcome("abandoned", 0.6, 0, True, 4 * MIB)
    board = _board("near", "far")
    board.record("far", _measured(0.5), 0.0)
    for _ in range(3):
        board.record("near", _measured(0.05), 0.0)
        board.record("near", straggler, 0.0)
    assert board.rank(0.0, 4 * MIB) == ("near", "far")
    board.record("near", straggler, 0.0)
    assert board.rank(0.0, 4 * MIB) == ("far", "near")


def test_chunks_that_were_seen_tell_the_typical_size() -> None:
    board = _board("near")
    assert board.typical_bytes == CONFIG.typical_bytes
    board.record("near", _measured(0.1, MIB), 0.0)
    assert board.typical_bytes == MIB


def test_a_quick_cancellation_tells_nothing() -> None:
    board = _board("near")
    board.record("near", _measured(0.5), 0.0)
    before = board.scores(0.0)
    board.record("near", Outcome("abandoned", 0.01, is_chunk=True), 0.0)
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
    st.booleans(),
    st.integers(0, 8 * MIB),
    st.floats(1, 8),
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
        assert sorted(board.rank(now_s, 4 * MIB, {"near": 3})) == sorted(NAMES)
    for name in NAMES:
        expected_s = board.expected_s(name, 4 * MIB)
        assert expected_s is None or 0 <= expected_s < float("inf")


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
