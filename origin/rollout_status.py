"""How a rollout stands, for whoever watches it. Pure."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable

from origin.rollout_figures import told
from origin.rollout_state import Facts, Rollout
from wire.workers import WorkerReport

_LISTED_WORKERS = 256


def standing(rollout: Rollout, facts: Facts) -> dict[str, object]:
    """Edges by how far they are, workers by revision and one by one, figures of both revisions."""
    return {
        "preheated": facts.preheated,
        "workers": [_worker(rollout, one) for one in facts.workers[:_LISTED_WORKERS]],
        "workers_by_revision": by_revision(facts.workers),
        "figures": told({"trial": rollout.trial, "stable": rollout.stable}),
    }


def by_revision(workers: Iterable[WorkerReport]) -> dict[str, int]:
    """How many workers serve each revision."""
    return dict(Counter(report.revision for report in workers))


def _worker(rollout: Rollout, report: WorkerReport) -> dict[str, object]:
    canary = rollout.canary
    return {
        "worker": report.worker,
        "revision": report.revision,
        "state": report.state,
        "target": report.target,
        "phase": report.phase,
        "fault": report.fault,
        "refused": report.refused,
        "reason": report.reason,
        "canary": canary is not None and canary.takes(report.worker),
    }
