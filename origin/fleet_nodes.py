"""Edges and workers as the view of the fleet gives them out, and as it is kept over a restart."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import msgspec

from origin.fleet_figures import LifeKept
from wire.fleet import EdgeReport, Preheat, RevisionFigures
from wire.workers import WorkerReport

Presence = Literal["here", "unheard", "left", "missing"]
"""``unheard``: known from before a restart of this origin, and its next report is not due yet.
``left``: gone after it had said that it would go."""


@dataclass(frozen=True, slots=True, kw_only=True)
class EdgeNode:
    """An edge. Its ``report`` is without workers and results; those are the view's own."""

    name: str
    report: EdgeReport
    age_s: float
    presence: Presence
    twins: bool = False
    """Two processes report under this name."""


@dataclass(frozen=True, slots=True, kw_only=True)
class WorkerNode:
    """A worker with one of its models, as the edge says that heard it last."""

    name: str
    report: WorkerReport
    age_s: float
    """Since its last heartbeat to any edge."""
    presence: Presence
    edges: tuple[str, ...]
    """Those that see it now; of one that is not here, those that saw it last."""


class EdgeKept(msgspec.Struct, frozen=True, kw_only=True):
    """An edge in a snapshot."""

    report: EdgeReport
    age_s: float
    lives: tuple[LifeKept, ...] = ()


class WorkerKept(msgspec.Struct, frozen=True, kw_only=True):
    """A worker in a snapshot."""

    report: WorkerReport
    age_s: float
    edges: tuple[str, ...] = ()
    last_edges: tuple[str, ...] = ()


class FleetKept(msgspec.Struct, frozen=True, kw_only=True):
    """The view as it is kept over a restart."""

    edges: tuple[EdgeKept, ...] = ()
    workers: tuple[WorkerKept, ...] = ()
    retired: tuple[RevisionFigures, ...] = ()
    preheat: tuple[Preheat, ...] = ()
