"""Tells the origins how this edge is and whom it sees, every second, and does what they answer.

A report is whole. Commands for workers are laid out for their next heartbeats; those for the edge
itself are carried out here, each once: a drained edge is not ready, so that whoever balances load
sends nothing new, and what runs goes on. It is not drained any more after a restart.

An edge behind another edge names the origin in ``edge.fleet.report_to``: an edge forwards nobody's
reports, and says so to whoever sends it one.
"""

from __future__ import annotations

import asyncio
import os
import socket
import time
from collections.abc import Callable
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

import msgspec
import structlog
from aiohttp import web
from msgspec.structs import replace

from edge_tier.cache.fill import CachingSource
from edge_tier.gateway.orders import Orders
from edge_tier.warm import Job, Warmer
from wire.errors import ConfigError, ForbiddenError, HeadwaterError
from wire.fleet import (
    MAX_BOOTS,
    MAX_BOOTS_WANTED,
    MAX_CHANNELS,
    MAX_EDGE_WORKERS,
    MAX_FIGURES,
    MAX_PREHEATS,
    CacheFigures,
    EdgeAnswer,
    EdgeReport,
    Preheat,
    Preheated,
    PromptFigures,
    RevisionFigures,
    WorkerBoot,
    WorkerSeen,
)
from wire.http_beats import Beats
from wire.http_server import background
from wire.paths import EDGE_REPORT
from wire.trust import TrustView
from wire.workers import Command, Done, NodeName, WorkerReport

_log = structlog.get_logger("fleet")
_MAX_REASON = 500
_MAX_DONE = 64
_MIN_GAP_S = 0.2
"""Between two reports because of news: a hundred workers that roll are no hundred reports."""
_RETRY_PREHEAT_S = 5.0
"""How soon a preheat that failed is begun again, while an origin still wants it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class FleetReportConfig:
    """What the origins are told: table ``[edge.fleet]``."""

    name: str = ""
    """Stable name of this edge; empty: the machine's, with the port."""
    region: str = ""
    """Where this edge is, as the fleet's views and the console group it; empty: it says none."""
    advertise_url: str = ""
    """How others reach this edge; empty: where it listens."""
    report_to: tuple[str, ...] = ()
    """Origins; empty: those of ``edge.origins``. Edges take no reports, so an edge behind another
    one names the origin here. ``dns+http://name:port`` is every address that the name has."""
    token_file: Path | None = None
    """The origins' token for edges (``origin.edge_token_file``); None: nothing is reported."""
    report_s: float = 1.0
    """Between two reports; something new is told at once."""
    ttl_s: float = 3.0
    """After so long without a report an origin counts this edge as missing."""


@dataclass(frozen=True, slots=True, kw_only=True)
class EdgeFacts:
    """What there is to tell. All of it is asked for at each report."""

    cache: CachingSource
    warmer: Warmer
    view: Callable[[], TrustView | None]
    not_ready: Callable[[], str | None]
    workers: Callable[[], list[tuple[WorkerReport, float]]] = list
    """With the seconds since the last heartbeat of each."""
    figures: Callable[[], tuple[RevisionFigures, ...]] = tuple
    """By revision, since this edge started."""
    prompts: Callable[[], PromptFigures] = PromptFigures
    """All of the gateway's, since then."""


class EdgeReporter:
    """The reports of an edge, and its obedience.

    Args:
        origins: to report to.
        token: theirs for edges; None: nothing is reported.
        orders: where commands for workers go.
        clock: seconds since 1970.

    Raises:
        ConfigError: a URL or the name cannot be used.
    """

    def __init__(
        self,
        facts: EdgeFacts,
        config: FleetReportConfig,
        *,
        origins: tuple[str, ...],
        token: str | None,
        orders: Orders,
        name: str,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._facts = facts
        self._config = config
        self._orders = orders
        self._name = _checked(name)
        self._url = config.advertise_url
        self._started = clock()
        self._leaving = False
        self._done: dict[str, Done] = {}
        self._asked: dict[str, tuple[Preheat, ...]] = {}
        """By origin."""
        self._looked_at: dict[str, tuple[str, ...]] = {}
        """Origin → the workers whose boots somebody looks at there."""
        self._preheats: dict[Preheat, _Attempt] = {}
        self._preheat_changed = asyncio.Event()
        self._bound = asyncio.Event()
        self._next_news = 0.0
        self.draining = False
        """An operator's command."""
        self._beats = Beats(
            (config.report_to or origins) if token is not None else (),
            token or "",
            EDGE_REPORT,
            lambda: msgspec.json.encode(self.report()),
            interval_s=config.report_s,
            answered=self._answered,
            name="report",
        )

    def leave(self) -> None:
        """This edge was told to stop: say so now, while it still serves."""
        self._leaving = True
        self._beats.poke()

    def add_to(self, app: web.Application) -> None:
        """Register the background work, and a clear word for edges behind this one."""
        # A roll waits for it.
        self._facts.warmer.on_ended = self._beats.poke
        app.router.add_post(EDGE_REPORT, self._refuse)
        app.cleanup_ctx.append(background("report", self._run))
        app.cleanup_ctx.append(background("preheat", self._preheat_always))
        app.on_shutdown.append(self._say_goodbye)
        app.on_cleanup.append(self._close)

    async def bound(self, url: str) -> None:
        """The socket listens at ``url``: from now on the origins are told."""
        self._url = self._url or url
        self._bound.set()

    def news(self) -> None:
        """Something changed: report it now, unless that was done just before."""
        now = time.monotonic()
        if now >= self._next_news:
            self._next_news = now + _MIN_GAP_S
            self._beats.poke()

    def not_ready(self) -> str | None:
        """Why this edge must get nothing new; None where it may."""
        if self.draining:
            return "drained by an operator; `headwater fleet resume` ends it"
        return self._facts.not_ready()

    def report(self) -> EdgeReport:
        """The report as it is now."""
        view, workers = self._facts.view(), self._facts.workers()
        reason = "stopping" if self._leaving else self.not_ready()
        return EdgeReport(
            edge=self._name,
            url=self._url,
            started=self._started,
            ttl_s=self._config.ttl_s,
            region=self._config.region,
            ready=reason is None,
            reason=(reason or "")[:_MAX_REASON],
            leaving=self._leaving,
            draining=self.draining,
            trust=view.state if view is not None else "none",
            channels=_sequences(view),
            cache=_cache(self._facts.cache),
            workers=_seen(workers),
            figures=self._facts.figures()[:MAX_FIGURES],
            preheated=self._preheated(),
            prompts=self._facts.prompts(),
            boots=self._boots(workers),
            done=tuple(self._done.values()),
        )

    async def _run(self) -> None:
        await self._bound.wait()
        await self._beats.run()

    def _answered(self, origin: str, body: bytes) -> None:
        answer = msgspec.json.decode(body, type=EdgeAnswer)
        self._orders.hold(origin, (c for c in answer.commands if c.node != self._name))
        new = [c for c in answer.commands if c.node == self._name and c.id not in self._done]
        for command in new:
            self._obey(command)
        boots = answer.boots[:MAX_BOOTS_WANTED]
        wanted = set(boots) - set(self._looked_at.get(origin, ()))
        self._looked_at[origin] = boots
        if new or wanted:
            self._beats.poke()
        if self._asked.get(origin, ()) != answer.preheat:
            self._asked[origin] = answer.preheat[:MAX_PREHEATS]
            self._preheat_changed.set()

    def _obey(self, command: Command) -> None:
        problem = ""
        if command.action in {"drain", "resume"}:
            self.draining = command.action == "drain"
        else:
            problem = f"an edge can be drained and resumed, not told to {command.action}"
        _log.info("command", id=command.id, action=command.action, problem=problem)
        self._done[command.id] = Done(id=command.id, problem=problem)
        while len(self._done) > _MAX_DONE:
            del self._done[next(iter(self._done))]

    def _boots(self, workers: list[tuple[WorkerReport, float]]) -> tuple[WorkerBoot, ...]:
        """Of the workers that are looked at."""
        names = {name for boots in self._looked_at.values() for name in boots}
        if not names:
            return ()
        found = (report for report, _ in workers if report.worker in names)
        return tuple(
            WorkerBoot(
                worker=report.worker,
                model=report.model,
                revision=report.revision,
                spans=report.boot_spans,
                roll=report.roll,
            )
            for report in islice(found, MAX_BOOTS)
        )

    async def _preheat_always(self) -> None:
        """Begin what the origins want, and again what failed."""
        while True:
            wanted = dict.fromkeys(one for asked in self._asked.values() for one in asked)
            self._preheats = {one: self._preheats.get(one, _Attempt()) for one in wanted}
            for one, attempt in self._preheats.items():
                if attempt.due(time.monotonic()):
                    await self._begin(one, attempt)
            try:
                async with asyncio.timeout(_RETRY_PREHEAT_S):
                    await self._preheat_changed.wait()
            except TimeoutError:
                continue
            self._preheat_changed.clear()

    async def _begin(self, wanted: Preheat, attempt: _Attempt) -> None:
        attempt.retry_at = time.monotonic() + _RETRY_PREHEAT_S
        try:
            attempt.job = await self._facts.warmer.bring(wanted.model, wanted.revision)
            attempt.problem = ""
        except HeadwaterError as error:
            attempt.problem = error.message[:_MAX_REASON]
            self._beats.poke()
            _log.info("not preheated", model=wanted.model, reason=error.message)

    def _preheated(self) -> tuple[Preheated, ...]:
        """What is being brought for a roll, and how what the origins ask for went. How it went when
        they asked before is no answer: what came then may be gone, what failed may work now."""
        found = {
            (job.model, job.revision): _told(job)
            for job in self._facts.warmer.jobs()
            if job.preheat and job.state == "running"
        }
        for wanted, attempt in self._preheats.items():
            key = wanted.model, wanted.revision
            if attempt.problem:
                found[key] = Preheated(
                    model=wanted.model,
                    revision=wanted.revision,
                    state="failed",
                    reason=attempt.problem,
                )
            elif attempt.job is not None:
                found[key] = _told(attempt.job)
        return tuple(found.values())[-MAX_PREHEATS:]

    async def _refuse(self, _request: web.Request) -> web.Response:
        raise ForbiddenError(
            "this is an edge, which takes no reports of other edges; name the origin in "
            "edge.fleet.report_to"
        )

    async def _say_goodbye(self, _app: web.Application) -> None:
        self._leaving = True
        if self._bound.is_set():
            await self._beats.send()

    async def _close(self, _app: web.Application) -> None:
        await self._beats.aclose()


@dataclass(slots=True)
class _Attempt:
    """How a preheat that an origin wants goes."""

    job: Job | None = None
    problem: str = ""
    retry_at: float = 0.0

    def due(self, now: float) -> bool:
        """Whether it is to be begun, or begun again."""
        failed = bool(self.problem) or self.job is None or self.job.state == "failed"
        return failed and now >= self.retry_at


def edge_name(configured: str, port: int, *, shares_port: bool) -> str:
    """The name of an edge process: what was configured, else the machine's with the port. Processes
    that share a port are told apart by their ids."""
    name = configured or f"{socket.gethostname()}-{port or os.getpid()}"
    return f"{name}-{os.getpid()}" if shares_port else name


def _checked(name: str) -> str:
    try:
        return msgspec.convert(name, NodeName)
    except msgspec.ValidationError:
        raise ConfigError(
            f"edge.fleet.name: {name!r} cannot be an edge's name; letters, digits and ._:@- can"
        ) from None


def _sequences(view: TrustView | None) -> dict[str, int]:
    pointers = view.pointers()[:MAX_CHANNELS] if view is not None else ()
    return {f"{p.model}@{p.channel}": p.sequence for p in pointers}


def _cache(cache: CachingSource) -> CacheFigures:
    stats, store = cache.stats, cache.store.stats
    return CacheFigures(
        used_bytes=store.used_bytes,
        capacity_bytes=store.capacity_bytes,
        chunks=store.chunks,
        hits=stats.hits,
        misses=stats.misses,
        fetched_bytes=stats.fetched_bytes,
        degraded=cache.degraded[:_MAX_REASON],
    )


def _seen(workers: list[tuple[WorkerReport, float]]) -> tuple[WorkerSeen, ...]:
    """Without the waterfalls of boots and rolls, of which an origin asks for one now and then."""
    return tuple(
        WorkerSeen(report=_lean(report), age_s=age_s)
        for report, age_s in workers[:MAX_EDGE_WORKERS]
    )


def _lean(report: WorkerReport) -> WorkerReport:
    if not (report.boot or report.boot_spans or report.roll):
        return report
    return replace(report, boot={}, boot_spans=(), roll=None)


def _told(job: Job) -> Preheated:
    return Preheated(
        model=job.model,
        revision=job.revision,
        state="failed" if job.state == "cancelled" else job.state,
        done_bytes=job.done_bytes,
        bytes=job.bytes,
        reason=(job.reason or ("cancelled" if job.state == "cancelled" else ""))[:_MAX_REASON],
    )
