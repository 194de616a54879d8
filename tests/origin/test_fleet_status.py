from __future__ import annotations

from typing import Any

import pytest

from origin.fleet_nodes import EdgeNode, Presence, WorkerNode
from origin.fleet_status import describe_fleet, edge_state, worker_state
from tests.fakes.reports import REVISIONS, edge_report, worker_report
from wire.channel import pointer_to

NEW = REVISIONS[0]
POINTER = pointer_to("chat", "stable", NEW, sequence=3)
NOW = 2e9


def worker(presence: Presence = "here", **fields: Any) -> WorkerNode:
    report = worker_report("w1", **fields)
    return WorkerNode(name="w1", report=report, age_s=2.0, presence=presence, edges=("e1",))


def edge(presence: Presence = "here", **fields: Any) -> EdgeNode:
    report = edge_report("e1", **{"channels": {"chat@stable": 3}, **fields})
    return EdgeNode(name="e1", report=report, age_s=1.0, presence=presence)


@pytest.mark.parametrize(
    ("node", "state"),
    [
        (edge(), "ready"),
        (edge(ready=False), "not_ready"),
        (edge(ready=False, draining=True), "draining"),
        (edge("missing"), "missing"),
        (edge("unheard", ready=False), "unheard"),
        (edge("left", draining=True), "left"),
    ],
)
def test_the_state_of_an_edge(node: EdgeNode, state: str) -> None:
    assert edge_state(node) == state


@pytest.mark.parametrize(
    ("node", "state"),
    [
        (worker(), "ready"),
        (worker(state="asleep"), "asleep"),
        (worker(draining=True), "draining"),
        (worker(draining=True, state="failed"), "failed"),
        (worker("missing"), "missing"),
        (worker("left", state="draining"), "left"),
    ],
)
def test_the_state_of_a_worker(node: WorkerNode, state: str) -> None:
    assert worker_state(node) == state


def healthy(edges: list[EdgeNode], workers: list[WorkerNode]) -> bool:
    return bool(describe_fleet(edges, workers, [POINTER], [], now=NOW)["healthy"])


def test_a_fleet_is_healthy_where_nobody_is_missing_failed_or_apart() -> None:
    assert healthy([], [])
    assert healthy([edge()], [worker(), worker(draining=True), worker("left")])
    assert healthy([edge(ready=False, draining=True)], [])
    assert not healthy([edge(ready=False)], [])
    assert not healthy([edge("missing")], [])
    assert not healthy([edge()], [worker(state="failed")])
    assert not healthy([edge()], [worker("missing")])
    assert not healthy([edge()], [worker(revision="f" * 64)])
    assert not healthy([edge(channels={"chat@stable": 2})], [worker()])


def test_what_is_shown_of_a_node() -> None:
    shown = describe_fleet(
        [edge(channels={"chat@stable": 1})], [worker(boot={"load": 1.0})], [POINTER], [], now=NOW
    )
    (told,), (node,) = shown["edges"], shown["workers"]
    assert (told["last_seen"], told["workers"]) == (NOW - 1, 1)
    assert told["behind"] == {"chat@stable": 2}
    assert (node["last_seen"], node["wanted"], node["edges"]) == (NOW - 2, NEW, ("e1",))
    assert "boot" not in node
    assert not {"figures", "done"} & told.keys()
