"""The fleet as this origin knows it: every edge that reports here, every worker those edges see.

Pure state with an injected clock. An edge's report is whole, so the view is what the last report of
each edge says; a worker that several edges see is one worker, and the newest sighting tells how it
is. Who stops reporting stays in the view, as missing, until it is forgotten. After a restart the
view is what was kept (``snapshot``, ``restore``), and who was here then is ``unheard`` for as long
as its next report may take.

Whoever holds the edges' token can send what it likes, so everything here is bounded: edges,
workers, figures, and by the types of ``wire.fleet`` every text and number.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, field
from operator import itemgetter

from msgspec.structs import replace

from origin.fleet_figures import Figures
from origin.fleet_nodes import EdgeKept, EdgeNode, FleetKept, Presence, WorkerKept, WorkerNode
from wire.errors import HeadwaterError
from wire.fleet import (
    MAX_PREHEATS,
    EdgeReport,
    Preheat,
    Preheated,
    PromptFigures,
    RevisionFigures,
)
from wire.workers import WorkerReport

_MAX_TTL_S = 60.0
"""What an edge may ask for; the types allow more."""
_UNHEARD_S = 2.0
"""How long after its time to live a node from before a restart may still be on its way."""
_TWIN_S = 10.0
"""How long after it was seen that two processes share a name."""


@dataclass(frozen=True, slots=True, kw_only=True)
class FleetConfig:
    """Bounds of the view: table ``[origin.fleet]``."""

    name: str = ""
    """Under which this origin keeps its view in the store; empty: the machine's name where the
    store is a bucket, which other origins may share, else ``origin``."""
    max_edges: int = 2_048
    """A new edge takes the place of the one that is gone for longest; where all are alive, its
    reports are refused (429)."""
    max_workers: int = 16_384
    """Of each of its models a worker counts once."""
    forget_s: float = 86_400.0
    """How long a node that is missing stays in the view."""
    forget_left_s: float = 600.0
    """The same for one that stopped in good order."""
    command_ttl_s: float = 900.0
    """How long a command waits for its node, and is remembered afterwards."""
    snapshot_s: float = 10.0
    """How often the view is kept in the store while nothing but ages change."""


class FleetFullError(HeadwaterError):
    """This origin has as many edges as it takes, and all of them are alive."""

    status = 429
    code = "fleet_full"


@dataclass(slots=True)
class _Edge:
    report: EdgeReport
    heard_at: float
    heard: bool = True
    """False where it is known from a snapshot alone."""
    sees: set[tuple[str, str]] = field(default_factory=set)
    twin_at: float = -math.inf
    """When a life was seen again that another one had followed."""


@dataclass(slots=True)
class _Worker:
    report: WorkerReport
    seen_at: float
    edges: dict[str, None] = field(default_factory=dict)
    """Who sees it, in the order in which they began to."""
    last_edges: tuple[str, ...] = ()


class FleetView:
    """The edges and workers of an origin.

    Args:
        clock: seconds, monotonic.
    """

    def __init__(self, config: FleetConfig, *, clock: Callable[[], float]) -> None:
        self._config = config
        self._clock = clock
        self._edges: dict[str, _Edge] = {}
        self._workers: dict[tuple[str, str], _Worker] = {}
        """By worker and model."""
        self._figures = Figures()
        self._preheat: dict[tuple[str, str], None] = {}
        self._restored_at = self._forget_at = clock()
        self.version = 0
        """Changes whenever a node comes, goes, or changes what it serves."""

    # What comes in

    def report(self, report: EdgeReport) -> None:
        """Take an edge's report.

        Raises:
            FleetFullError: the edge is new and there is no room.
        """
        now = self._clock()
        self._forget(now)
        edge = self._edges.get(report.edge)
        if edge is None:
            self._make_room(now)
            edge = self._edges[report.edge] = _Edge(_bare(report), now)
            self.version += 1
        elif _says(edge.report) != _says(report):
            self.version += 1
        if report.started != edge.report.started and self._figures.knows(
            report.edge, report.started
        ):
            edge.twin_at = now
        self._figures.count(report.edge, report.started, report.figures)
        edge.report, edge.heard_at, edge.heard = _bare(report), now, True
        self._see(edge, report, now)

    def preheat(self, model: str, revision: str) -> None:
        """Have every edge bring a revision into its cache, until :meth:`stop_preheat`."""
        self._preheat.pop((model, revision), None)
        self._preheat[model, revision] = None
        while len(self._preheat) > MAX_PREHEATS:
            del self._preheat[next(iter(self._preheat))]
        self.version += 1

    def stop_preheat(self, model: str, revision: str) -> None:
        """Ask for it no longer; what is in the caches stays there."""
        if (model, revision) in self._preheat:
            del self._preheat[model, revision]
            self.version += 1

    def forget(self, name: str) -> bool:
        """Forget a node that is not here; False where there is none of that name."""
        now = self._clock()
        found = False
        for key in [key for key in self._workers if key[0] == name]:
            if self._worker_presence(self._workers[key], now) != "here":
                self._drop_worker(key)
                found = True
        edge = self._edges.get(name)
        if edge is not None and self._edge_presence(edge, now) != "here":
            self._drop_edge(name)
            found = True
        return found

    # What is known

    def edges(self) -> tuple[EdgeNode, ...]:
        """All edges, by name."""
        now = self._clock()
        self._forget(now)
        return tuple(
            EdgeNode(
                name=name,
                report=edge.report,
                age_s=max(0.0, now - edge.heard_at),
                presence=self._edge_presence(edge, now),
                twins=now - edge.twin_at <= _TWIN_S,
            )
            for name, edge in sorted(self._edges.items())
        )

    def workers(self, model: str = "", channel: str = "") -> tuple[WorkerNode, ...]:
        """All workers with each of their models, by name and model; or those of one channel."""
        now = self._clock()
        self._forget(now)
        return tuple(
            WorkerNode(
                name=name,
                report=worker.report,
                age_s=max(0.0, now - worker.seen_at),
                presence=self._worker_presence(worker, now),
                edges=tuple(worker.edges) or worker.last_edges,
            )
            for (name, of), worker in sorted(self._workers.items(), key=itemgetter(0))
            if not model or (of, worker.report.channel) == (model, channel)
        )

    def seen_by(self, edge: str) -> frozenset[str]:
        """The names of the workers that an edge sees."""
        found = self._edges.get(edge)
        return frozenset(name for name, _ in found.sees) if found is not None else frozenset()

    def knows_edge(self, name: str) -> bool:
        """Whether there is an edge of this name, here or not."""
        return name in self._edges

    def knows_worker(self, name: str) -> bool:
        """The same of workers."""
        return any(key[0] == name for key in self._workers)

    def figures(self, model: str, revision: str) -> RevisionFigures:
        """How requests that this revision answered went, over all edges. Only grows, also when an
        edge or this origin starts again, until an edge that is gone for long is forgotten."""
        return self._figures.total(model, revision)

    def to_preheat(self) -> tuple[Preheat, ...]:
        """What the edges are told to bring into their caches."""
        return tuple(Preheat(model=model, revision=revision) for model, revision in self._preheat)

    def preheated(self, revision: str) -> dict[str, Preheated]:
        """Edge → how far it is with a revision; only edges that are here and have begun."""
        now = self._clock()
        return {
            name: told
            for name, edge in sorted(self._edges.items())
            if self._edge_presence(edge, now) == "here"
            for told in edge.report.preheated
            if told.revision == revision
        }

    # Over a restart

    def snapshot(self) -> FleetKept:
        """The view, to be kept."""
        now = self._clock()
        return FleetKept(
            edges=tuple(
                EdgeKept(
                    report=replace(edge.report, figures=(), prompts=PromptFigures()),
                    age_s=now - edge.heard_at,
                    lives=self._figures.lives(edge.report.edge),
                )
                for edge in self._edges.values()
            ),
            workers=tuple(
                WorkerKept(
                    report=worker.report,
                    age_s=now - worker.seen_at,
                    edges=tuple(worker.edges),
                    last_edges=worker.last_edges,
                )
                for worker in self._workers.values()
            ),
            retired=self._figures.retired(),
            preheat=self.to_preheat(),
        )

    def restore(self, kept: FleetKept, *, elapsed_s: float) -> None:
        """Begin with what was kept ``elapsed_s`` seconds ago, instead of with nothing."""
        now = self._restored_at = self._clock()
        then = now - max(0.0, elapsed_s)
        for one in kept.edges[: self._config.max_edges]:
            self._edges[one.report.edge] = _Edge(one.report, then - one.age_s, heard=False)
            self._figures.restore(one.report.edge, one.lives)
        for seen in kept.workers[: self._config.max_workers]:
            key = seen.report.worker, seen.report.model
            known = [name for name in seen.edges if name in self._edges]
            self._workers[key] = _Worker(
                seen.report, then - seen.age_s, dict.fromkeys(known), seen.last_edges
            )
            for name in known:
                self._edges[name].sees.add(key)
        self._figures.restore_retired(kept.retired)
        self._preheat = {(p.model, p.revision): None for p in kept.preheat[:MAX_PREHEATS]}
        self.version += 1

    # Inside

    def _see(self, edge: _Edge, report: EdgeReport, now: float) -> None:
        sees: set[tuple[str, str]] = set()
        new = {(s.report.worker, s.report.model) for s in report.workers} - self._workers.keys()
        self._make_room_for_workers(len(new), now)
        for seen in report.workers:
            key = seen.report.worker, seen.report.model
            worker = self._workers.get(key)
            seen_at = now - seen.age_s
            if worker is None:
                if len(self._workers) >= self._config.max_workers:
                    continue
                worker = self._workers[key] = _Worker(_lean(seen.report), seen_at)
                self.version += 1
            elif seen_at >= worker.seen_at:
                self.version += _serves(worker.report) != _serves(seen.report)
                worker.report, worker.seen_at = _lean(seen.report), seen_at
            worker.edges[report.edge] = None
            sees.add(key)
        for key in edge.sees - sees:
            self._unsee(key, report.edge)
        edge.sees = sees

    def _unsee(self, key: tuple[str, str], edge: str) -> None:
        worker = self._workers.get(key)
        if worker is not None and edge in worker.edges:
            worker.last_edges = tuple(worker.edges)
            del worker.edges[edge]
            self.version += 1

    def _edge_presence(self, edge: _Edge, now: float) -> Presence:
        ttl_s = min(edge.report.ttl_s, _MAX_TTL_S)
        if edge.report.leaving:
            return "left"
        if not edge.heard:
            return "unheard" if now - self._restored_at <= ttl_s + _UNHEARD_S else "missing"
        return "here" if now - edge.heard_at <= ttl_s else "missing"

    def _worker_presence(self, worker: _Worker, now: float) -> Presence:
        through = {self._edge_presence(self._edges[name], now) for name in worker.edges}
        if "here" in through:
            return "here"
        if "unheard" in through:
            return "unheard"
        return "left" if worker.report.state == "draining" else "missing"

    def _forget(self, now: float) -> None:
        if now < self._forget_at:
            return
        self._forget_at = now + 1.0
        for name in [n for n, e in self._edges.items() if self._edge_is_past(e, now)]:
            self._drop_edge(name)
        for key in [k for k, w in self._workers.items() if self._worker_is_past(w, now)]:
            self._drop_worker(key)

    def _edge_is_past(self, edge: _Edge, now: float) -> bool:
        return self._is_past(self._edge_presence(edge, now), now - edge.heard_at)

    def _worker_is_past(self, worker: _Worker, now: float) -> bool:
        return self._is_past(self._worker_presence(worker, now), now - worker.seen_at)

    def _is_past(self, presence: Presence, age_s: float) -> bool:
        if presence == "left":
            return age_s > self._config.forget_left_s
        return presence == "missing" and age_s > self._config.forget_s

    def _make_room(self, now: float) -> None:
        """The edge that is gone for longest makes room for a new one."""
        if len(self._edges) < self._config.max_edges:
            return
        gone = [n for n, e in self._edges.items() if self._edge_presence(e, now) != "here"]
        if not gone:
            raise FleetFullError(
                f"this origin has {len(self._edges)} edges, all alive; raise origin.fleet.max_edges"
            )
        self._drop_edge(min(gone, key=lambda name: self._edges[name].heard_at))

    def _make_room_for_workers(self, count: int, now: float) -> None:
        """Those that are gone for longest make room; what still does not fit is not taken."""
        over = len(self._workers) + count - self._config.max_workers
        if over > 0:
            gone = [k for k, w in self._workers.items() if self._worker_presence(w, now) != "here"]
            for key in sorted(gone, key=lambda key: self._workers[key].seen_at)[:over]:
                self._drop_worker(key)

    def _drop_edge(self, name: str) -> None:
        edge = self._edges.pop(name)
        for key in edge.sees:
            self._unsee(key, name)
        self._figures.forget(name)
        self.version += 1

    def _drop_worker(self, key: tuple[str, str]) -> None:
        worker = self._workers.pop(key)
        for name in worker.edges:
            self._edges[name].sees.discard(key)
        self.version += 1


def _bare(report: EdgeReport) -> EdgeReport:
    return replace(report, workers=(), done=(), boots=())


def _lean(report: WorkerReport) -> WorkerReport:
    """Without what nobody asks an origin about."""
    if not (report.boot or report.boot_spans or report.roll or report.done):
        return report
    return replace(report, boot={}, boot_spans=(), roll=None, done=())


def _says(report: EdgeReport) -> tuple[object, ...]:
    return (
        report.url,
        report.region,
        report.started,
        report.ready,
        report.leaving,
        report.draining,
        report.channels,
    )


def _serves(report: WorkerReport) -> tuple[object, ...]:
    return report.channel, report.revision, report.state, report.draining, report.refused
