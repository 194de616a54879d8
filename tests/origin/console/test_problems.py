from __future__ import annotations

from dataclasses import replace

import pytest

from origin.console.build import build
from origin.console.problems import MAX_PROBLEMS
from origin.console.window import Window
from origin.rollout_config import RolloutConfig
from origin.rollout_records import ChannelRecord
from origin.rollout_state import Rollout
from tests.fakes.looks import AT, NEW, OLD, edge, look, state_of, worker
from wire.channel import pointer_to
from wire.fleet import CacheFigures, PromptFigures


def test_each_ill_is_named_with_its_reason() -> None:
    found = state_of(
        edge("e1"),
        edge("e2", ready=False, reason="no key file"),
        edge("e3", "missing"),
        edge("e4", trust="expired"),
        worker("w1", state="failed", reason="out of memory"),
        worker("w2", "missing"),
        trust="beyond_grace",
    ).totals
    assert not found.healthy
    assert found.problems == (
        "the origin's own trust metadata is beyond grace",
        "nobody serves chat@stable: none of its 2 workers is ready",
        "edge e3 in eu is missing since 2026-09-21 14:13:15 UTC",
        "edge e2 in eu is not ready: no key file",
        "worker w2/chat in eu is missing since 2026-09-21 14:13:13 UTC",
        "worker w1/chat in eu is failed: out of memory",
        "edge e4 in eu is working from stale trust metadata: expired",
    )


def test_what_is_astray_or_behind_with_no_roll_to_explain_it() -> None:
    nodes = edge(channels={"chat@stable": 1}), worker(revision=OLD)
    assert state_of(*nodes).totals.problems == (
        f"worker w1/chat in eu is not where chat@stable points: still serves {OLD[:12]}",
        "edge e1 in eu is behind on chat@stable: by 2",
    )


@pytest.mark.parametrize(("stage", "healthy"), [("rolling", True), ("done", False)])
def test_a_roll_that_runs_explains_who_is_on_its_way(stage: str, healthy: bool) -> None:
    roll = Rollout(
        id="1",
        model="chat",
        channel="stable",
        revision=NEW,
        previous=OLD,
        started=AT,
        stage=stage,  # type: ignore[arg-type]
    )
    record = ChannelRecord(model="chat", channel="stable").with_rollout(roll, RolloutConfig())
    state = state_of(edge(), worker(revision=OLD), records=[record])
    assert state.totals.healthy == healthy


def test_many_of_a_kind_are_one_problem() -> None:
    workers = [worker(f"w{n}", state="failed") for n in range(10)]
    assert state_of(edge(), *workers).totals.problems == (
        "nobody serves chat@stable: none of its 10 workers is ready",
        "10 workers in eu are failed: w0/chat, w1/chat, w2/chat and 7 more",
    )


def test_problems_are_bounded_and_short() -> None:
    from wire.channel import pointer_to

    pointers = [pointer_to(f"m{n}", "stable", NEW, sequence=1) for n in range(30)]
    workers = [worker(f"w{n}", model=f"m{n}", revision=OLD, reason="x" * 500) for n in range(30)]
    channels = {f"m{n}@stable": 1 for n in range(30)}
    found = state_of(edge(channels=channels), *workers, pointers=pointers).totals.problems
    assert len(found) == MAX_PROBLEMS
    assert found[-1] == "and 11 more problems"
    assert max(map(len, found)) < 250


def test_who_left_in_good_order_is_no_problem() -> None:
    state = state_of(edge(), edge("e2", "left", channels={}), worker("w9", "left", revision=OLD))
    assert state.totals.problems == ()


def test_a_fleet_that_is_not_there_is_not_well() -> None:
    (told,) = state_of().totals.problems
    assert told.startswith("no edge has reported to this origin; one does that has ")
    (told,) = state_of(takes_reports=False).totals.problems
    assert told == "no edge can report to this origin: give it origin.edge_token_file"


def test_an_edge_that_is_ready_and_yet_not_well() -> None:
    full = edge("e1", cache=CacheFigures(degraded="no space left on its disk"))
    twin = replace(edge("e2"), twins=True)
    assert state_of(full, twin, worker()).totals.problems == (
        "edge e1 in eu is impaired: no space left on its disk",
        "edge e2 in eu is impaired: two processes report under this name; give each its own "
        "edge.fleet.name",
    )


def test_a_channel_that_nobody_serves() -> None:
    told = "nobody serves chat@stable: its worker is not ready"
    assert state_of(edge(), worker(state="booting")).totals.problems[0] == told
    # Who left is no follower, and a channel may have none.
    assert state_of(edge(), worker(presence="left")).totals.healthy
    assert state_of(edge()).totals.healthy
    names = [f"m{n}" for n in range(5)]
    workers = [worker(f"w{n}", model=name, state="booting") for n, name in enumerate(names)]
    pointers = [pointer_to(name, "stable", NEW, sequence=3) for name in names]
    told = (
        "nobody serves m0@stable, m1@stable, m2@stable and 2 more: none of their workers is ready"
    )
    channels = {f"{name}@stable": 3 for name in names}
    found = state_of(edge(channels=channels), *workers, pointers=pointers)
    assert found.totals.problems[0] == told


@pytest.mark.parametrize(
    ("answered", "failed", "told"),
    [
        (94, 6, "6 % of requests failed in the last minute, all at edge e1"),
        (0, 5, "100 % of requests failed in the last minute, all at edge e1"),
        (0, 4, ""),
        (96, 4, ""),
        (1_000, 49, ""),
    ],
)
def test_many_requests_that_failed_lately(answered: int, failed: int, told: str) -> None:
    assert failing((answered, failed)) == told


def test_where_most_requests_failed() -> None:
    told = "50 % of requests failed in the last minute, 80 % of them at edge e2"
    assert failing((8, 2), (2, 8)) == told


def failing(*edges: tuple[int, int]) -> str:
    """What is told of edges that answered and failed so much, after a life without fault."""
    window = Window()
    for at, share in ((0.0, 0), (10.0, 1)):
        figures = [
            PromptFigures(answered=10**6 + share * answered, failed=share * failed)
            for answered, failed in edges
        ]
        nodes = [edge(f"e{n}", prompts=one) for n, one in enumerate(figures, 1)]
        seen = look(*nodes, worker())
        window.note(seen.edges, sent=0, now=at)
    return ", ".join(build(seen, window).totals.problems)


@pytest.mark.parametrize(("ended", "told"), [(AT - 60, True), (AT - 7_200, False)])
def test_a_roll_that_was_aborted_is_told_of_for_an_hour(ended: float, told: bool) -> None:
    roll = Rollout(
        id="1",
        model="chat",
        channel="stable",
        revision=OLD,
        previous=NEW,
        started=ended - 60,
        ended=ended,
        stage="aborted",
        reason="1 in 2 answers failed",
    )
    record = ChannelRecord(model="chat", channel="stable").with_rollout(roll, RolloutConfig())
    found = state_of(edge(), worker(), records=[record]).totals.problems
    words = f"the roll of chat@stable to {OLD[:8]} was aborted: 1 in 2 answers failed"
    assert found == ((words,) if told else ())


def test_where_it_is_that_nodes_are_ill() -> None:
    far = edge("e2", "missing", region="us"), edge("e3", "missing", region="")
    near = [worker(f"w{n}", "missing", edge=f"e{1 + n % 2}") for n in range(5)]
    _unserved, *found = state_of(edge("e1"), *far, *near).totals.problems
    assert [words.split(" missing")[0] for words in found] == [
        "edge e2 in us is",
        "edge e3 is",
        "5 workers in 2 regions are",
    ]
