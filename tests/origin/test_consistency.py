from __future__ import annotations

from typing import Any

import pytest

from origin.consistency import behind, consistency
from origin.fleet_nodes import EdgeNode, Presence, WorkerNode
from tests.fakes.reports import REVISIONS, edge_report, worker_report
from wire.channel import Canary, pointer_to

OLD, NEW = REVISIONS[:2]
POINTER = pointer_to("chat", "stable", NEW, sequence=2)


def worker(name: str = "w1", presence: Presence = "here", **fields: Any) -> WorkerNode:
    report = worker_report(name, **{"revision": NEW, **fields})
    return WorkerNode(name=name, report=report, age_s=7.0, presence=presence, edges=("e1",))


def edge(presence: Presence = "here", **fields: Any) -> EdgeNode:
    report = edge_report("e1", **{"channels": {"chat@stable": 2}, **fields})
    return EdgeNode(name="e1", report=report, age_s=7.0, presence=presence)


def test_a_fleet_that_serves_what_the_channel_names_is_consistent() -> None:
    found = consistency(POINTER, [edge()], [worker("w1"), worker("w2", state="asleep")])
    assert found.consistent
    assert (found.revision, found.workers, found.serving, found.apart) == (NEW, 2, 2, ())


def test_a_channel_that_no_worker_follows_is_consistent() -> None:
    others = [worker(model="other", revision=OLD), worker(channel="next", revision=OLD)]
    found = consistency(POINTER, [edge()], others)
    assert (found.consistent, found.workers) == (True, 0)


@pytest.mark.parametrize(
    ("node", "why"),
    [
        (worker(revision=OLD), f"still serves {OLD[:12]}"),
        (worker(revision="", state="booting"), "serves nothing yet"),
        (worker(revision=OLD, target=NEW, phase="load"), "on its way: load"),
        (
            worker(revision="", target=NEW, phase="pull", missing_bytes=900_000),
            "pull, 0.9 MB to come",
        ),
        (worker(revision=OLD, refused=NEW, reason="bad file"), "refused it: bad file"),
        (worker(revision=OLD, refused=NEW, fault="hung"), "refused it: hung"),
        (worker(revision=OLD, reason="disk full"), "disk full"),
        (worker(revision=OLD, trust="beyond_grace"), "its trust metadata is beyond_grace"),
        (worker(state="failed", reason="crashed"), "failed: crashed"),
        (worker(presence="missing"), "missing, last seen 7 s ago"),
    ],
)
def test_a_worker_that_is_elsewhere_is_named_with_the_reason(node: WorkerNode, why: str) -> None:
    found = consistency(POINTER, [edge()], [node, worker("w2")])
    assert not found.consistent
    assert (found.workers, found.serving) == (2, 1)
    assert [(a.node, a.kind, a.revision) for a in found.apart] == [
        ("w1", "worker", node.report.revision)
    ]
    assert why in found.apart[0].why


@pytest.mark.parametrize(
    ("node", "why"),
    [
        (edge(channels={"chat@stable": 1}), "1 behind"),
        (edge(channels={}), "2 behind"),
        (edge(presence="missing"), "missing, last heard 7 s ago"),
    ],
)
def test_an_edge_that_does_not_know_the_last_roll_is_apart(node: EdgeNode, why: str) -> None:
    found = consistency(POINTER, [node], [worker()])
    assert not found.consistent
    assert (found.apart[0].node, found.apart[0].kind) == ("e1", "edge")
    assert why in found.apart[0].why


def test_who_left_or_was_not_heard_since_a_restart_is_not_apart() -> None:
    nodes = [worker("w1", "left", revision=OLD), worker("w2", "unheard")]
    found = consistency(POINTER, [edge("left", channels={})], nodes)
    assert (found.consistent, found.workers, found.serving) == (True, 1, 1)


def test_a_worker_that_drains_is_where_it_should_be_and_serves_nobody() -> None:
    found = consistency(POINTER, [], [worker("w1", draining=True), worker("w2")])
    assert (found.consistent, found.workers, found.serving) == (True, 2, 1)


def test_in_a_canary_each_worker_has_the_revision_that_is_meant_for_it() -> None:
    pointer = pointer_to("chat", "stable", OLD, sequence=3, canary=Canary(revision=NEW, percent=50))
    names = [f"w{number}" for number in range(20)]
    right = [worker(name, revision=pointer.revision_for(name)) for name in names]
    share = sum(pointer.revision_for(name) == NEW for name in names)
    found = consistency(pointer, [], right)
    assert (found.consistent, found.serving, found.serving_canary) == (True, 20, share)
    assert 0 < share < 20
    wrong = [worker(name, revision=OLD) for name in names]
    assert len(consistency(pointer, [], wrong).apart) == share


def test_an_edge_with_more_channels_than_it_may_tell_is_not_called_behind() -> None:
    many = {f"m{number}@stable": 1 for number in range(1_024)}
    assert behind(edge(channels=many), POINTER) == 0
    assert behind(edge(channels={"chat@stable": 9}), POINTER) == 0
