"""Reports of workers and edges, as a test wants them."""

from __future__ import annotations

from typing import Any

from wire.fleet import EdgeReport, WorkerSeen
from wire.workers import WorkerReport

REVISIONS = tuple(digit * 64 for digit in "abcdef")


def worker_report(name: str = "w1", **fields: Any) -> WorkerReport:
    """A worker that serves the first revision of ``chat@stable``."""
    given: dict[str, Any] = {
        "url": "http://127.0.0.1:1",
        "model": "chat",
        "channel": "stable",
        "revision": REVISIONS[0],
        "state": "ready",
        "slots": 4,
        "busy": 1,
        "queue": 0,
        "ttl_s": 2.5,
    }
    return WorkerReport(worker=name, **{**given, **fields})


def edge_report(
    name: str = "e1", *workers: WorkerReport, age_s: float = 0.2, **fields: Any
) -> EdgeReport:
    """An edge that sees these workers."""
    given: dict[str, Any] = {
        "url": "http://127.0.0.1:2",
        "started": 1.0,
        "ttl_s": 3.0,
        "channels": {"chat@stable": 1},
    }
    seen = tuple(WorkerSeen(report=report, age_s=age_s) for report in workers)
    return EdgeReport(edge=name, workers=seen, **{**given, **fields})
