from __future__ import annotations

import pytest

from origin.console.problems import MAX_PROBLEMS
from origin.rollout_config import RolloutConfig
from origin.rollout_records import ChannelRecord
from origin.rollout_state import Rollout
from tests.fakes.looks import AT, NEW, OLD, edge, state_of, worker


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
        "edge e3 is missing since 2026-09-21 14:13:15 UTC",
        "edge e2 is not ready: no key file",
        "worker w2/chat is missing since 2026-09-21 14:13:13 UTC",
        "worker w1/chat is failed: out of memory",
        "edge e4 is working from stale trust metadata: expired",
    )


def test_what_is_astray_or_behind_with_no_roll_to_explain_it() -> None:
    nodes = edge(channels={"chat@stable": 1}), worker(revision=OLD)
    assert state_of(*nodes).totals.problems == (
        f"worker w1/chat is not where chat@stable points: still serves {OLD[:12]}",
        "edge e1 is behind on chat@stable: by 2",
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
        "10 workers are failed: w0/chat, w1/chat, w2/chat and 7 more",
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
