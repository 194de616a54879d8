from __future__ import annotations

import msgspec

from origin.fleet_figures import LifeKept
from origin.fleet_nodes import EdgeKept, FleetKept, WorkerKept
from tests.fakes.reports import REVISIONS, edge_report, worker_report
from wire.fleet import Preheat, RevisionFigures

FIGURES = RevisionFigures(model="chat", revision=REVISIONS[0], answered=3)
KEPT = FleetKept(
    edges=(
        EdgeKept(
            report=edge_report("e1"),
            age_s=90_000.5,
            lives=(LifeKept(started=1.0, figures=(FIGURES,)),),
        ),
    ),
    workers=(WorkerKept(report=worker_report(), age_s=0.5, edges=("e1",), last_edges=("e2",)),),
    retired=(FIGURES,),
    preheat=(Preheat(model="chat", revision=REVISIONS[1]),),
)


def test_what_is_kept_survives_its_bytes() -> None:
    assert msgspec.json.decode(msgspec.json.encode(KEPT), type=FleetKept) == KEPT


def test_what_a_later_version_keeps_besides_is_passed_over() -> None:
    later = {**msgspec.to_builtins(KEPT), "moons": 2}
    assert msgspec.json.decode(msgspec.json.encode(later), type=FleetKept) == KEPT
