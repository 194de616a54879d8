from __future__ import annotations

import itertools
from typing import Any

import pytest

from origin.consistency import consistency
from origin.console.build import build
from origin.console.window import Window
from origin.fleet_nodes import EdgeNode, WorkerNode
from origin.rollout_config import RolloutConfig
from origin.rollout_records import ChannelRecord
from origin.rollout_state import Rollout
from tests.fakes.looks import AT, NEW, OLD, POINTER, edge, look, state_of, worker
from wire.channel import Canary, pointer_to
from wire.fleet import PromptFigures, RouteFigures, StageFigures


def test_a_fleet_that_is_well() -> None:
    state = state_of(edge(), worker("w1"), worker("w2", state="asleep"))
    assert (state.at, state.version) == (AT, "1.2.3")
    assert (state.totals.healthy, state.totals.problems) == (True, ())
    assert state.edges["e1"].workers == 2
    assert list(state.workers) == ["w1/chat", "w2/chat"]
    channel = state.channels["chat@stable"]
    assert (channel.revision, channel.sequence, channel.consistent) == (NEW, 3, True)
    assert channel.serving == {NEW: 2}
    assert state.rolls == {}


def test_a_row_says_what_the_report_says() -> None:
    told = worker(
        revision=OLD,
        target=NEW,
        phase="pull",
        missing_bytes=5_000_000,
        variant="Q4",
        fault="hung",
        reason="slow",
        slots=4,
        busy=2,
        queue=1,
    )
    row = state_of(edge(), told).workers["w1/chat"]
    assert (row.region, row.state, row.model, row.channel) == ("eu", "ready", "chat", "stable")
    assert (row.revision, row.target, row.phase, row.missing_bytes) == (OLD, NEW, "pull", 5_000_000)
    assert (row.variant, row.fault, row.reason) == ("Q4", "hung", "slow")
    assert (row.slots, row.busy, row.queue) == (4, 2, 1)
    assert row.apart == "on its way: pull, 5.0 MB to come"


def test_a_worker_of_several_models_has_a_row_for_each() -> None:
    state = state_of(edge(), worker(), worker(model="code", channel="next"))
    assert list(state.workers) == ["w1/chat", "w1/code"]
    assert state.workers["w1/code"].apart == ""


def test_who_is_missing_is_told_in_words_that_stay() -> None:
    nodes = worker("w1", "missing"), edge("e1", "missing")
    state = state_of(*nodes)
    assert state.workers["w1/chat"].apart == "missing since 2026-09-21 14:13:13 UTC"
    assert state.edges["e1"].reason == "missing since 2026-09-21 14:13:15 UTC"
    assert (state.workers["w1/chat"].state, state.edges["e1"].state) == ("missing", "missing")


def test_a_canary_is_served_by_its_share() -> None:
    pointer = pointer_to(
        "chat", "stable", OLD, sequence=4, canary=Canary(revision=NEW, percent=50, seed=1)
    )
    names = [f"w{n}" for n in range(40)]
    workers = [worker(name, revision=pointer.revision_for(name)) for name in names]
    state = state_of(edge(channels={"chat@stable": 4}), *workers, pointers=[pointer])
    row = state.channels["chat@stable"]
    assert (row.canary_revision, row.canary_percent, row.consistent) == (NEW, 50, True)
    canaries = sum(worker.canary for worker in state.workers.values())
    assert 0 < canaries < 40
    assert row.serving == {NEW: canaries, OLD: 40 - canaries}


CASES: list[list[Any]] = [
    [edge()],
    [edge(), worker()],
    [edge(), worker(revision=OLD)],
    [edge(), worker(revision=OLD, draining=True)],
    [edge(), worker("w1", "left", state="draining", revision=OLD)],
    [edge(), worker("w1", "missing")],
    [edge(), worker(state="failed")],
    [edge(), worker(model="other", revision=OLD)],
    [edge(channels={"chat@stable": 1}), worker()],
    [edge(channels={}), worker()],
    [edge(channels={"chat@stable": 1, "new@stable": 9}), worker()],
    [edge("e1", "missing"), worker()],
    [edge("e1", "left", channels={}), worker()],
    [edge(channels={"chat@stable": 4}), worker()],
]


@pytest.mark.parametrize("nodes", CASES, ids=itertools.count())
def test_a_channel_is_consistent_where_the_origin_says_so(
    nodes: list[EdgeNode | WorkerNode],
) -> None:
    seen = look(*nodes)
    wanted = consistency(POINTER, seen.edges, seen.workers)
    row = state_of(*nodes).channels["chat@stable"]
    assert row.consistent == wanted.consistent


def test_rates_and_ratios_come_from_what_was_counted_lately() -> None:
    window = Window()
    for second in range(10):
        told = PromptFigures(
            answered=20 * second,
            gone=5 * second,
            failed=second,
            streams=7,
            first_token=(0, 0, 0, 10 * second),
            stages=(StageFigures(name="parse", counts=(0, second), total_ms=0.1 * second),),
            routes=(RouteFigures(target="worker", reason="named", count=26 * second),),
        )
        seen = look(edge(prompts=told))
        window.note(seen.edges, sent=1e6 * second, now=float(second))
    state = build(seen, window)
    totals, row = state.totals, state.edges["e1"]
    assert row.requests_per_s == totals.requests_per_s == state.regions["eu"].requests_per_s == 26
    assert (totals.failed_per_s, totals.streams, row.streams) == (1, 7, 7)
    assert totals.origin_bytes_per_s == 1e6
    assert totals.first_token_p50_ms == 15
    assert state.stages["parse"].mean_ms == 0.1
    assert state.routes["worker: named"].share == 1


def test_the_latest_roll_of_each_channel_is_shown() -> None:
    roll = Rollout(
        id="1",
        model="chat",
        channel="stable",
        revision=NEW,
        previous=OLD,
        started=AT - 60,
        looked=AT,
        stage="rolling",
        stage_s=30.0,
    )
    record = ChannelRecord(model="chat", channel="stable").with_rollout(roll, RolloutConfig())
    other = ChannelRecord(model="gone", channel="stable", current=roll)
    nodes = edge(), worker("w1"), worker("w2", revision=OLD), worker("w3", "left")
    rolls = state_of(*nodes, records=[record, other]).rolls
    assert list(rolls) == ["chat@stable"]
    row = rolls["chat@stable"]
    assert (row.stage, row.running, row.taken, row.total) == ("rolling", True, 1, 2)


def test_two_looks_at_the_same_are_the_same_but_for_the_time() -> None:
    nodes = edge(), worker("w1"), worker("w2", "missing")
    one, other = state_of(*nodes), state_of(*nodes, at=AT)
    assert one == other
