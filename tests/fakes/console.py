"""A console with a fleet that is not there: a real origin, told by as many edges as one likes.

Reports go into the origin's own view, so all of the console's code runs as it does in earnest:
looks, differences, the stream, boots, rolls. The edge that its playground asks is a small one in
this process. ``python -m tests.fakes.console --nodes 1000 --changes 1000 --port 7490`` prints the
page's URL and the token to log in with.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import math
import random
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path

from aiohttp import web
from aiohttp.test_utils import TestServer
from msgspec.structs import replace as changed

from origin.app import BOOTS, FLEET, PUBLISHER, ROLLOUTS, build_app
from origin.config import OriginConfig
from origin.console.config import ConsoleConfig
from origin.init import initialize
from origin.rollout_state import RolloutRequest
from tests.fakes.origin_home import Home
from tests.fakes.quick_disk import quick_folder
from tests.fakes.revisions import Revision, make_revision
from wire.fleet import (
    ANSWER_BOUNDS_MS,
    STAGE_BOUNDS_MS,
    CacheFigures,
    EdgeReport,
    PromptFigures,
    RevisionFigures,
    RouteFigures,
    StageFigures,
    WorkerBoot,
    WorkerSeen,
)
from wire.workers import BootSpan, WorkerReport, WorkerRoll

REGIONS = ("eu-west", "eu-north", "us-east", "us-west", "ap-south", "ap-northeast", "sa-east", "")
MODELS = ("chat", "code", "embed")
STAGES = ("auth", "read", "parse", "sanitize", "screen", "tokenize", "classify", "route", "reserve")
ROUTES = (
    ("worker", "complexity"),
    ("worker", "named"),
    ("cloud", "complexity"),
    ("cloud", "row long batches"),
    ("worker", "must stay local"),
    ("cloud", "saturated"),
    ("worker", "failed over"),
)
API_KEY = "hw-playground"
STEPS_PER_S = 10
_SPANS = (
    ("start", 0, 310),
    ("choose", 310, 12),
    ("pull", 322, 4_200),
    ("pull: manifest", 322, 41),
    ("pull: chunks", 365, 4_150),
    ("check", 4_530, 160),
    ("load", 4_690, 1_900),
    ("load: weights", 4_690, 1_700),
    ("probe", 6_590, 420),
    ("probe: first token", 6_590, 120),
)


@dataclass(slots=True)
class _Edge:
    name: str
    region: str
    started: float
    workers: list[str]
    requests: int = 0
    failed: int = 0
    hits: int = 0
    misses: int = 0
    stages: dict[str, list[int]] = field(default_factory=dict)
    total_ms: dict[str, float] = field(default_factory=dict)
    routes: list[int] = field(default_factory=lambda: [0] * len(ROUTES))
    first_token: list[int] = field(default_factory=lambda: [0] * (len(ANSWER_BOUNDS_MS) + 1))


class SyntheticFleet:
    """Edges and workers that change at random, the same for the same seed.

    Args:
        nodes: edges and workers together; about one in 50 is an edge.
        changes: of a node, in a second.
        revisions: model → the revision that its workers serve at first.
    """

    def __init__(
        self, nodes: int, changes: float, revisions: dict[str, str], *, seed: int = 1
    ) -> None:
        self._rng = random.Random(seed)
        self._changes = changes
        self._owed = 0.0
        count = max(1, min(250, nodes // 50))
        self.edges = [
            _Edge(f"edge-{n:03}", REGIONS[n % len(REGIONS)], time.time() - 3_600, [])
            for n in range(count)
        ]
        self.workers: dict[str, WorkerReport] = {}
        self.signed: dict[str, tuple[int, str]] = {m: (1, r) for m, r in revisions.items()}
        """Model → sequence and revision of its channel."""
        for number in range(max(1, nodes - count)):
            self._add_worker(number, revisions)
        self._names = list(self.workers)

    def step(self) -> set[str]:
        """A tenth of a second passes; the names of the edges that have something new to tell."""
        self._owed += self._changes / STEPS_PER_S
        many, self._owed = int(self._owed), self._owed % 1
        touched = {edge.name for edge in self.edges if self._rng.random() < 1 / STEPS_PER_S}
        for _ in range(many):
            touched.add(self._change())
        self._follow()
        return touched

    def report(self, edge: _Edge, boots: tuple[str, ...] = ()) -> EdgeReport:
        """What an edge says now, with the boots that it was asked for."""
        return EdgeReport(
            edge=edge.name,
            url=f"http://{edge.name}.invalid:7401",
            started=edge.started,
            ttl_s=3.0,
            region=edge.region,
            channels={f"{model}@stable": sequence for model, (sequence, _) in self.signed.items()},
            cache=CacheFigures(
                used_bytes=min(edge.misses * 4_000_000, 400 * 10**9),
                capacity_bytes=500 * 10**9,
                chunks=edge.misses,
                hits=edge.hits,
                misses=edge.misses,
                fetched_bytes=edge.misses * 4_000_000,
            ),
            workers=tuple(WorkerSeen(report=self.workers[w], age_s=0.1) for w in edge.workers),
            figures=tuple(
                RevisionFigures(
                    model=model,
                    revision=revision,
                    answered=edge.requests,
                    first_token=(0, 0, edge.requests),
                )
                for model, (_, revision) in self.signed.items()
            ),
            prompts=self._prompts(edge),
            boots=tuple(self._boot(self.workers[name]) for name in boots if name in edge.workers),
        )

    def _add_worker(self, number: int, revisions: dict[str, str]) -> None:
        model = MODELS[number % len(MODELS)]
        name = f"worker-{number:05}"
        self.workers[name] = WorkerReport(
            worker=name,
            url=f"http://{name}.invalid:7402",
            model=model,
            channel="stable",
            revision=revisions[model],
            state="failed" if number % 400 == 399 else "ready",
            reason="CUDA out of memory while loading" if number % 400 == 399 else "",
            slots=8,
            busy=self._rng.randrange(9),
            queue=0,
            ttl_s=3.0,
            variant="Q4_K_M" if number % 2 else "Q8_0",
        )
        self.edges[number % len(self.edges)].workers.append(name)

    def _change(self) -> str:
        number = self._rng.randrange(len(self._names))
        name, edge = self._names[number], self.edges[number % len(self.edges)]
        report = self.workers[name]
        busy = (report.busy + self._rng.choice((-2, -1, 1, 2))) % 9
        queue = self._rng.randrange(5) if busy == 8 else 0
        self.workers[name] = changed(report, busy=busy, queue=queue)
        self._count(edge)
        return edge.name

    def _count(self, edge: _Edge) -> None:
        rng = self._rng
        edge.requests += rng.randrange(1, 4)
        edge.failed += rng.random() < 0.01
        edge.hits += rng.randrange(12)
        edge.misses += rng.random() < 0.4
        edge.routes[min(int(rng.expovariate(0.6)), len(ROUTES) - 1)] += 1
        edge.first_token[min(int(rng.gauss(7, 1.5)), len(ANSWER_BOUNDS_MS))] += 1
        for place, stage in enumerate(STAGES):
            counts = edge.stages.setdefault(stage, [0] * (len(STAGE_BOUNDS_MS) + 1))
            bucket = max(0, min(int(rng.gauss(place % 4 + 1, 1.2)), len(STAGE_BOUNDS_MS)))
            counts[bucket] += 1
            bound = STAGE_BOUNDS_MS[min(bucket, len(STAGE_BOUNDS_MS) - 1)]
            edge.total_ms[stage] = edge.total_ms.get(stage, 0.0) + bound * 0.7

    def _follow(self) -> None:
        """Workers go where their channel points, a few at a time."""
        for model, (_, revision) in self.signed.items():
            late = [n for n in self._names if self._is_late(self.workers[n], model, revision)]
            pulling = [n for n in late if self.workers[n].target == revision]
            for name in self._rng.sample(late, min(len(late), 1 + len(self._names) // 300)):
                self.workers[name] = _next(self.workers[name], revision)
            for name in pulling:
                report = self.workers[name]
                left = max(0, report.missing_bytes - 250_000_000)
                self.workers[name] = changed(report, missing_bytes=left)

    @staticmethod
    def _is_late(report: WorkerReport, model: str, revision: str) -> bool:
        return report.model == model and report.revision != revision and report.state == "ready"

    def _prompts(self, edge: _Edge) -> PromptFigures:
        return PromptFigures(
            answered=edge.requests,
            failed=edge.failed,
            streams=sum(self.workers[name].busy for name in edge.workers),
            first_token=tuple(edge.first_token),
            stages=tuple(
                StageFigures(name=name, counts=tuple(counts), total_ms=edge.total_ms[name])
                for name, counts in edge.stages.items()
            ),
            routes=tuple(
                RouteFigures(target=target, reason=reason, count=count)
                for (target, reason), count in zip(ROUTES, edge.routes, strict=True)
                if count
            ),
        )

    @staticmethod
    def _boot(report: WorkerReport) -> WorkerBoot:
        slow = 1 + int(report.worker[-2:]) / 50
        spans = tuple(BootSpan(name, start * slow, length * slow) for name, start, length in _SPANS)
        roll = WorkerRoll(
            revision=report.revision, began=time.time() - 60, outcome="serves", spans=spans[1:]
        )
        return WorkerBoot(
            worker=report.worker,
            model=report.model,
            revision=report.revision,
            spans=spans,
            roll=roll,
        )


def _next(report: WorkerReport, revision: str) -> WorkerReport:
    """A step of a roll."""
    if report.target != revision:
        return changed(report, target=revision, phase="pull", missing_bytes=1_500_000_000)
    if report.missing_bytes:
        return report
    if report.phase == "pull":
        return changed(report, phase="load")
    return changed(report, revision=revision, target="", phase="")


@dataclass(frozen=True, slots=True)
class Console:
    """A running one."""

    url: str
    """Of the origin."""
    token: str
    app: web.Application
    fleet: SyntheticFleet
    revisions: dict[str, tuple[str, str]]
    """Model → two revisions to roll between."""

    async def roll(self, model: str = "chat", percent: int = 0) -> None:
        """Begin a roll to the other revision."""
        _, now = self.fleet.signed[model]
        other = next(one for one in self.revisions[model] if one != now)
        wanted = RolloutRequest(
            model=model,
            channel="stable",
            revision=other,
            percent=percent,
            preheat=False,
            force=True,
        )
        await self.app[ROLLOUTS].start(wanted)


@asynccontextmanager
async def running_console(
    nodes: int = 100,
    changes: float = 100,
    *,
    port: int = 0,
    folder: Path | None = None,
    console: ConsoleConfig | None = None,
) -> AsyncIterator[Console]:
    """An origin with a fleet like that.

    Args:
        folder: made by an earlier call and to be used again; None: a new one, gone afterwards.
    """
    with quick_folder() as made:
        home = await _home(folder or made)
        edge = TestServer(_playground_edge())
        await edge.start_server()
        settings = replace(console or ConsoleConfig(), edges=(str(edge.make_url("")).rstrip("/"),))
        app = await build_app(replace(home.config, console=settings))
        server = TestServer(app, port=port)
        await server.start_server()
        feeding: asyncio.Task[None] | None = None
        try:
            revisions = await _publish(home, app)
            first = {model: one for model, (one, _) in revisions.items()}
            fleet = SyntheticFleet(nodes, changes, first)
            tell(app, fleet, {edge.name for edge in fleet.edges})
            feeding = asyncio.create_task(_feed(app, fleet), name="synthetic-fleet")
            url = str(server.make_url("")).rstrip("/")
            yield Console(url, home.token.strip(), app, fleet, revisions)
        finally:
            if feeding is not None:
                feeding.cancel()
                await asyncio.gather(feeding, return_exceptions=True)
            await server.close()
            await edge.close()


def tell(app: web.Application, fleet: SyntheticFleet, edges: set[str]) -> None:
    """These edges report, and hear which boots somebody looks at."""
    view, boots = app[FLEET], app[BOOTS]
    for edge in fleet.edges:
        wanted = boots.wanted(edge.name)
        if edge.name in edges or wanted:
            report = fleet.report(edge, wanted)
            view.report(report)
            boots.heard(report)
    app[ROLLOUTS].poke()


async def _feed(app: web.Application, fleet: SyntheticFleet) -> None:
    due = time.monotonic()
    while True:
        pointers = app[PUBLISHER].repository.view.pointers()
        fleet.signed = {p.model: (p.sequence, p.revision) for p in pointers}
        tell(app, fleet, fleet.step())
        due = max(due + 1 / STEPS_PER_S, time.monotonic())
        await asyncio.sleep(due - time.monotonic())


async def _home(folder: Path) -> Home:
    config = OriginConfig(
        port=0,
        store=str(folder / "store"),
        keys_dir=folder / "keys",
        admin_token_file=folder / "token",
    )
    if not config.keys_dir.exists():
        await initialize(config, "correct horse")
    return Home(folder, config)


async def _publish(home: Home, app: web.Application) -> dict[str, tuple[str, str]]:
    publisher = app[PUBLISHER]
    made: dict[str, tuple[Revision, Revision]] = {
        model: (_revision(model, b"one"), _revision(model, b"two")) for model in MODELS
    }
    everything = [revision for both in made.values() for revision in both]
    for revision in everything:
        await home.fill(publisher.store, revision)
    known = publisher.repository.view.revisions
    new = [r for r in everything if (r.model, r.id) not in known]
    if new:
        await publisher.publish(home.sign(publisher.repository, *new))
    for model, (first, _) in made.items():
        await publisher.roll(model, "stable", first.id)
    return {model: (one.id, two.id) for model, (one, two) in made.items()}


def _revision(model: str, text: bytes) -> Revision:
    return make_revision({"m.gguf": [model.encode() + text]}, model=model)


def _playground_edge() -> web.Application:
    """Answers with one word every 40 ms, to whoever has the key."""

    def refused(request: web.Request) -> web.Response | None:
        if request.headers.get("Authorization") == f"Bearer {API_KEY}":
            return None
        error = {"message": "this API key is not known", "code": "unauthorized"}
        return web.json_response({"error": error}, status=401)

    async def models(request: web.Request) -> web.StreamResponse:
        return refused(request) or web.json_response(
            {"object": "list", "data": [{"id": name} for name in ("auto", *MODELS)]}
        )

    async def chat(request: web.Request) -> web.StreamResponse:
        if (no := refused(request)) is not None:
            return no
        wanted = await request.json()
        response = web.StreamResponse(
            headers={
                "Content-Type": "text/event-stream",
                "x-headwater-route": "worker; model=chat",
                "x-headwater-plan": "complexity 0.21 < 0.50; weighed words -0.41",
                "x-headwater-tokens": "17",
                "x-headwater-worker": "worker-00001",
                "Server-Timing": "auth;dur=0.080, parse;dur=0.110, route;dur=0.020, backend;dur=31",
            }
        )
        await response.prepare(request)
        said = str(wanted["messages"][-1]["content"])[:400]
        for word in [*f"You said: {said}".split(), *("and so on " * 12).split()]:
            piece = {"choices": [{"index": 0, "delta": {"content": f"{word} "}}]}
            await response.write(f"data: {json.dumps(piece)}\n\n".encode())
            await asyncio.sleep(0.04)
        await response.write(b"data: [DONE]\n\n")
        return response

    app = web.Application()
    app.router.add_get("/v1/models", models)
    app.router.add_post("/v1/chat/completions", chat)
    return app


async def _main(wanted: argparse.Namespace) -> None:
    async with running_console(
        wanted.nodes, wanted.changes, port=wanted.port, folder=wanted.folder
    ) as console:
        print(f"page:    {console.url}/console")
        print(f"token:   {console.token}")
        print(f"API key: {API_KEY} (playground)", flush=True)
        pause_s = wanted.roll_every or math.inf
        while pause_s < math.inf:
            await asyncio.sleep(pause_s)
            await console.roll()
        await asyncio.Event().wait()


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--nodes", type=int, default=1_000)
    parser.add_argument("--changes", type=float, default=1_000.0, help="of a node, in a second")
    parser.add_argument("--port", type=int, default=7_490, help="0: any free one")
    parser.add_argument("--roll-every", type=float, default=60.0, help="seconds; 0: never")
    parser.add_argument("--folder", type=Path, help="kept, so that the token stays the same")
    try:
        asyncio.run(_main(parser.parse_args()))
    except KeyboardInterrupt:
        print("stopped")
