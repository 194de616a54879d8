from __future__ import annotations

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from origin.fleet import FleetConfig, FleetFullError, FleetView
from origin.fleet_nodes import FleetKept
from tests.fakes.clock import ManualClock
from tests.fakes.reports import REVISIONS, edge_report, worker_report
from wire.fleet import Preheat, Preheated, PromptFigures, RevisionFigures, WorkerBoot
from wire.workers import BootSpan, WorkerRoll

OLD, NEW = REVISIONS[:2]


@pytest.fixture
def clock() -> ManualClock:
    return ManualClock()


@pytest.fixture
def view(clock: ManualClock) -> FleetView:
    return FleetView(FleetConfig(), clock=clock)


def presences(view: FleetView) -> dict[str, str]:
    edges = {edge.name: str(edge.presence) for edge in view.edges()}
    return edges | {worker.name: worker.presence for worker in view.workers()}


def counted(revision: str, answered: int, failed: int = 0) -> RevisionFigures:
    return RevisionFigures(
        model="chat", revision=revision, answered=answered, failed=failed, first_token=(answered,)
    )


def restarted(view: FleetView, clock: ManualClock, elapsed_s: float = 0.0) -> FleetView:
    """The view of the origin's next life, through the bytes that it keeps."""
    kept = msgspec.json.decode(msgspec.json.encode(view.snapshot()), type=FleetKept)
    again = FleetView(FleetConfig(), clock=clock)
    again.restore(kept, elapsed_s=elapsed_s)
    return again


# Who is here


def test_a_report_makes_an_edge_and_its_workers_known(view: FleetView) -> None:
    view.report(edge_report("e1", worker_report("w1"), worker_report("w1", model="other")))
    assert presences(view) == {"e1": "here", "w1": "here"}
    assert [(w.report.model, w.edges) for w in view.workers()] == [
        ("chat", ("e1",)),
        ("other", ("e1",)),
    ]


def test_a_worker_that_several_edges_see_is_one_and_the_newest_sighting_counts(
    view: FleetView,
) -> None:
    view.report(edge_report("e1", worker_report(busy=3), age_s=0.1))
    view.report(edge_report("e2", worker_report(busy=1), age_s=2.0))
    (worker,) = view.workers()
    assert (worker.report.busy, worker.edges) == (3, ("e1", "e2"))
    assert worker.age_s == pytest.approx(0.1)


def test_an_edge_that_falls_silent_is_missing_with_its_workers_and_comes_back(
    view: FleetView, clock: ManualClock
) -> None:
    view.report(edge_report("e1", worker_report("w1")))
    clock.advance(3.0)
    assert presences(view) == {"e1": "here", "w1": "here"}
    clock.advance(0.1)
    assert presences(view) == {"e1": "missing", "w1": "missing"}
    assert view.edges()[0].age_s == pytest.approx(3.1)
    view.report(edge_report("e1", worker_report("w1")))
    assert presences(view) == {"e1": "here", "w1": "here"}


def test_a_worker_that_its_edge_no_longer_sees_is_missing_at_once(view: FleetView) -> None:
    view.report(edge_report("e1", worker_report("w1"), worker_report("w2")))
    view.report(edge_report("e2", worker_report("w2")))
    view.report(edge_report("e1"))
    assert presences(view) == {"e1": "here", "e2": "here", "w1": "missing", "w2": "here"}
    assert {w.name: w.edges for w in view.workers()} == {"w1": ("e1",), "w2": ("e2",)}


def test_who_goes_in_good_order_has_left_and_is_soon_forgotten(
    view: FleetView, clock: ManualClock
) -> None:
    view.report(edge_report("e1", worker_report("w1", state="draining"), worker_report("w2")))
    view.report(edge_report("e1", leaving=True, ready=False))
    assert presences(view) == {"e1": "left", "w1": "left", "w2": "missing"}
    clock.advance(601)
    assert presences(view) == {"w2": "missing"}


def test_who_is_missing_is_forgotten_after_a_day_or_when_an_operator_says_so(
    view: FleetView, clock: ManualClock
) -> None:
    view.report(edge_report("e1", worker_report("w1"), worker_report("w2")))
    assert not view.forget("w1")
    view.report(edge_report("e1"))
    assert view.forget("w1")
    assert not view.forget("w1")
    clock.advance(86_399)
    assert presences(view) == {"e1": "missing", "w2": "missing"}
    clock.advance(2)
    assert presences(view) == {}


# What a hostile edge can do


def test_new_edges_take_the_room_of_those_gone_and_never_of_the_living(clock: ManualClock) -> None:
    view = FleetView(FleetConfig(max_edges=2), clock=clock)
    view.report(edge_report("e1", worker_report("w1")))
    clock.advance(2)
    view.report(edge_report("e2"))
    with pytest.raises(FleetFullError, match="max_edges"):
        view.report(edge_report("e3"))
    clock.advance(2)
    view.report(edge_report("e3"))
    assert presences(view) == {"e2": "here", "e3": "here", "w1": "missing"}


def test_workers_are_bounded_over_all_edges(clock: ManualClock) -> None:
    view = FleetView(FleetConfig(max_workers=3), clock=clock)
    view.report(edge_report("e1", *(worker_report(f"a{n}") for n in range(5))))
    assert [w.name for w in view.workers()] == ["a0", "a1", "a2"]
    view.report(edge_report("e2", worker_report("b0")))
    assert [w.name for w in view.workers()] == ["a0", "a1", "a2"]
    view.report(edge_report("e1", worker_report("a0")))
    view.report(edge_report("e2", worker_report("b0")))
    assert {"a0", "b0"} <= {w.name for w in view.workers()}
    assert len(view.workers()) == 3


def test_an_edge_cannot_ask_to_be_believed_alive_for_long(
    view: FleetView, clock: ManualClock
) -> None:
    view.report(edge_report("e1", ttl_s=3_600))
    clock.advance(61)
    assert presences(view) == {"e1": "missing"}


# Figures


def test_figures_are_summed_over_edges_and_survive_their_restarts(view: FleetView) -> None:
    view.report(edge_report("e1", figures=(counted(NEW, 5, 1), counted(OLD, 100))))
    view.report(edge_report("e2", figures=(counted(NEW, 2),)))
    assert (view.figures("chat", NEW).answered, view.figures("chat", NEW).failed) == (7, 1)
    view.report(edge_report("e1", started=2.0, figures=(counted(NEW, 1),)))
    assert view.figures("chat", NEW).answered == 8
    assert view.figures("chat", OLD).answered == 100
    assert view.figures("chat", NEW).first_token[0] == 8
    assert view.figures("other", NEW) == RevisionFigures(
        model="other", revision=NEW, first_token=(0,) * 16
    )


def test_two_processes_of_one_name_are_noticed_and_their_counts_not_doubled(
    view: FleetView, clock: ManualClock
) -> None:
    for second in range(20):
        for started in (1.0, 2.0):
            view.report(edge_report("e1", started=started, figures=(counted(NEW, 5 + second),)))
        clock.advance(1)
    assert view.figures("chat", NEW).answered == 2 * 24
    assert view.edges()[0].twins
    for _ in range(12):
        view.report(edge_report("e1", started=2.0))
        clock.advance(1)
    assert not view.edges()[0].twins


def test_an_edge_whose_clock_was_set_back_is_no_twin_and_counts_on(view: FleetView) -> None:
    for started in (9.0, 5.0, 4.0, 3.0, 2.0, 1.0):
        view.report(edge_report("e1", started=started, figures=(counted(NEW, 1),)))
    assert view.figures("chat", NEW).answered == 6
    assert not view.edges()[0].twins


@given(
    st.lists(
        st.one_of(
            st.tuples(st.just("answers"), st.sampled_from(["e1", "e2"]), st.integers(0, 9)),
            st.tuples(st.just("edge restarts"), st.sampled_from(["e1", "e2"]), st.just(0)),
            st.tuples(st.just("origin restarts"), st.just(""), st.just(0)),
        ),
        max_size=20,
    )
)
def test_no_restart_of_anybody_loses_or_doubles_a_count(events: list[tuple[str, str, int]]) -> None:
    clock = ManualClock()
    view = FleetView(FleetConfig(), clock=clock)
    lives, counts = {"e1": 1.0, "e2": 1.0}, {"e1": 0, "e2": 0}
    total = 0
    for what, edge, number in events:
        clock.advance(0.5)
        if what == "origin restarts":
            view = restarted(view, clock)
            continue
        if what == "edge restarts":
            lives[edge] += 1
            counts[edge] = 0
        counts[edge] += number
        total += number
        figures = (counted(NEW, counts[edge]),)
        view.report(edge_report(edge, started=lives[edge], figures=figures))
        assert view.figures("chat", NEW).answered == total


# Preheating


def test_a_preheat_is_told_until_it_is_stopped_and_answers_by_edge(
    view: FleetView, clock: ManualClock
) -> None:
    view.preheat("chat", NEW)
    view.preheat("chat", NEW)
    assert view.to_preheat() == (Preheat(model="chat", revision=NEW),)
    told = Preheated(model="chat", revision=NEW, state="running", done_bytes=5, bytes=9)
    view.report(edge_report("e1", preheated=(told,)))
    view.report(edge_report("e2"))
    assert view.preheated(NEW) == {"e1": told}
    clock.advance(4)
    assert view.preheated(NEW) == {}
    assert restarted(view, clock).to_preheat() == view.to_preheat()
    view.stop_preheat("chat", NEW)
    assert view.to_preheat() == ()


def test_preheats_are_bounded(view: FleetView) -> None:
    for number in range(70):
        view.preheat("chat", f"{number:064d}")
    assert len(view.to_preheat()) == 64
    assert view.to_preheat()[-1].revision == f"{69:064d}"


# A restart of the origin


def test_after_a_restart_everybody_is_known_and_not_heard_yet(
    view: FleetView, clock: ManualClock
) -> None:
    view.report(edge_report("e1", worker_report("w1"), worker_report("w2")))
    view.report(edge_report("e1", worker_report("w1")))
    clock.advance(1)
    again = restarted(view, clock, elapsed_s=30)
    assert presences(again) == {"e1": "unheard", "w1": "unheard", "w2": "missing"}
    assert again.edges()[0].age_s == pytest.approx(31)
    assert {w.name: w.edges for w in again.workers()} == {"w1": ("e1",), "w2": ("e1",)}
    again.report(edge_report("e1", worker_report("w1")))
    assert presences(again) == {"e1": "here", "w1": "here", "w2": "missing"}


def test_who_does_not_come_back_after_a_restart_is_missing(
    view: FleetView, clock: ManualClock
) -> None:
    view.report(edge_report("e1", worker_report("w1")))
    again = restarted(view, clock)
    clock.advance(5.1)
    assert presences(again) == {"e1": "missing", "w1": "missing"}


def test_the_version_changes_with_nodes_and_revisions_and_not_with_load(
    view: FleetView, clock: ManualClock
) -> None:
    versions = []
    for worker in (
        worker_report(),
        worker_report(busy=4, queue=9),
        worker_report(revision=NEW),
        worker_report(revision=NEW, state="failed"),
    ):
        view.report(edge_report("e1", worker))
        clock.advance(0.5)
        versions.append(view.version)
    assert versions[0] == versions[1] < versions[2] < versions[3]
    view.report(edge_report("e1"))
    assert view.version > versions[3]


@given(
    st.lists(
        st.tuples(
            st.sampled_from(["e1", "e2", "e3"]),
            st.sets(st.sampled_from(["w1", "w2", "w3"])),
            st.floats(0, 5),
            st.booleans(),
        ),
        max_size=15,
    )
)
def test_a_view_and_its_restart_say_the_same_of_everybody_who_reports_again(
    steps: list[tuple[str, set[str], float, bool]],
) -> None:
    clock = ManualClock()
    view = FleetView(FleetConfig(max_edges=2, max_workers=2), clock=clock)
    last: dict[str, set[str]] = {}
    for edge, workers, wait_s, restart in steps:
        clock.advance(wait_s)
        if restart:
            view = restarted(view, clock)
        try:
            view.report(edge_report(edge, *map(worker_report, sorted(workers)), age_s=0))
        except FleetFullError:
            continue
        last[edge] = workers
        here = {node.name for node in view.workers() if edge in node.edges}
        assert here <= workers | {w.name for w in view.workers() if w.presence != "here"}
        assert view.seen_by(edge) <= workers
        assert len(view.edges()) <= 3
        for worker in view.workers():
            assert worker.age_s >= 0
            if worker.presence == "here":
                assert any(worker.name in last[name] for name in worker.edges)


# For the console


def test_what_is_told_for_the_console_is_shown_and_not_kept(
    view: FleetView, clock: ManualClock
) -> None:
    told = PromptFigures(answered=7)
    spans = (BootSpan("pull", 0.0, 1.0),)
    boot = WorkerBoot(worker="w1", model="chat", spans=spans)
    roll = WorkerRoll(revision="b", began=5.0, outcome="serves")
    seen = worker_report("w1", boot_spans=spans, roll=roll)
    report = edge_report("e1", seen, prompts=told, boots=(boot,))
    view.report(report)
    (edge,), (worker,) = view.edges(), view.workers()
    assert edge.report.prompts == told
    assert (edge.report.boots, worker.report.boot_spans, worker.report.roll) == ((), (), None)
    (again,) = restarted(view, clock).edges()
    assert again.report.prompts == PromptFigures()
