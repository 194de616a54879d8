"""Looks at fleets, as a test wants them."""

from __future__ import annotations

from typing import Any

from origin.console.build import Look, build
from origin.console.state import ConsoleState
from origin.console.window import Window
from origin.fleet_nodes import EdgeNode, Presence, WorkerNode
from tests.fakes.reports import REVISIONS, edge_report, worker_report
from wire.channel import pointer_to

OLD, NEW = REVISIONS[:2]
AT = 1_790_000_000.0
POINTER = pointer_to("chat", "stable", NEW, sequence=3)


def worker(
    name: str = "w1", presence: Presence = "here", *, edge: str = "e1", **fields: Any
) -> WorkerNode:
    report = worker_report(name, **{"revision": NEW, **fields})
    return WorkerNode(name=name, report=report, age_s=7.0, presence=presence, edges=(edge,))


def edge(name: str = "e1", presence: Presence = "here", **fields: Any) -> EdgeNode:
    report = edge_report(name, **{"channels": {"chat@stable": 3}, "region": "eu", **fields})
    return EdgeNode(name=name, report=report, age_s=5.0, presence=presence)


def look(*nodes: EdgeNode | WorkerNode, **fields: Any) -> Look:
    given: dict[str, Any] = {
        "at": AT,
        "version": "1.2.3",
        "pointers": [POINTER],
        "records": [],
        "trust": "fresh",
    }
    return Look(
        edges=[node for node in nodes if isinstance(node, EdgeNode)],
        workers=[node for node in nodes if isinstance(node, WorkerNode)],
        **{**given, **fields},
    )


def state_of(*nodes: EdgeNode | WorkerNode, **fields: Any) -> ConsoleState:
    """The state after this one look."""
    window, seen = Window(), look(*nodes, **fields)
    window.note(seen.edges, sent=0, now=0.0)
    return build(seen, window)
