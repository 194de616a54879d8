"""``bench reports``: what an edge's report costs the origin, by the workers that it hears."""

from __future__ import annotations

import time

import msgspec

from origin.fleet import FleetConfig, FleetView
from tests.benchmarks.results import Machine, Row, report
from tests.fakes.reports import edge_report, worker_report
from wire.fleet import decode_edge_report

EDGES = 300
WORKERS = (0, 8, 64)


def measure(workers: int, rounds: int) -> tuple[int, list[float]]:
    """Bytes of a report, and CPU microseconds to take one in, where 300 edges are known."""
    view = FleetView(FleetConfig(max_workers=EDGES * 64), clock=time.monotonic)
    bodies = [
        msgspec.json.encode(
            edge_report(f"edge-{edge}", *(worker_report(f"w-{edge}-{w}") for w in range(workers)))
        )
        for edge in range(EDGES)
    ]
    taken = []
    for _ in range(rounds + 1):
        began = time.process_time()
        for body in bodies:
            view.report(decode_edge_report(body))
        taken.append((time.process_time() - began) / EDGES * 1e6)
    return len(bodies[0]), taken[1:]  # in the first one all of them were new


def main(*, quick: bool = False) -> None:
    """Measure and report."""
    machine, rows = Machine(), []
    for workers in WORKERS:
        size, cpu = measure(workers, 1 if quick else 5)
        rows.append(Row(name=f"report of an edge with {workers} workers", unit="B", runs=[size]))
        rows.append(Row(name=f"the origin's CPU for it ({workers})", unit="µs", runs=cpu))
    print(report("reports", rows, machine))
