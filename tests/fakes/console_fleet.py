"""A made-up fleet for the console's page: any number of nodes, the same from the same seed, with
something wrong here and there and a roll that goes on."""

from __future__ import annotations

import random
import time
from collections.abc import Iterator
from hashlib import sha256
from typing import Any

import msgspec

from origin.console.state import (
    Boot,
    BootSpan,
    ChannelRow,
    ConsoleState,
    EdgeRow,
    RegionRow,
    RollRow,
    RouteRow,
    StageRow,
    Totals,
    WorkerRollRow,
    WorkerRow,
)

REGIONS = ("ap-south", "eu-central", "eu-west", "sa-east", "us-east", "us-west")
WORKERS_PER_EDGE = 12
HOSTILE = (
    "<img src=x onerror=alert(1)>",
    "</script><script>globalThis.hacked=1</script>",
    "__proto__",
    "constructor",
    "\u202egpj.exe\u2066\u200b",
    "'\";--`${globalThis.hacked=1}`",
    "a" * 400,
)
"""Names that no node may have, and that a page must bear all the same."""
STAGES = {
    "auth": 0.021,
    "read": 0.064,
    "parse": 0.034,
    "sanitize": 0.11,
    "screen": 0.058,
    "tokenize": 0.19,
    "classify": 0.052,
    "route": 0.025,
    "reserve": 0.03,
}
_ROUTES = (
    ("worker", "complexity", 0.58),
    ("worker", "named", 0.17),
    ("worker", "must stay local", 0.06),
    ("cloud", "complexity", 0.12),
    ("cloud", "row long batches", 0.04),
    ("cloud", "saturated", 0.03),
)
_MODELS = ("chat-small", "chat-large", "embed")
Json = dict[str, Any]


def revision(name: str) -> str:
    """A revision's name, from anything."""
    return sha256(name.encode()).hexdigest()


class SyntheticFleet:
    """The state that an origin would show of it.

    Args:
        nodes: edges and workers together.
        troubled: whether something is wrong with a few of them.
        hostile: whether some have names that would hurt a careless page.
    """

    def __init__(
        self, nodes: int = 1_000, *, seed: int = 7, troubled: bool = True, hostile: bool = False
    ) -> None:
        self._random = random.Random(seed)
        self._troubled = troubled
        edges = max(2, nodes // (WORKERS_PER_EDGE + 1))
        self.edges = {f"edge-{number + 1}": self._edge(number) for number in range(edges)}
        self.workers = {
            f"gpu-{number + 1}/{_MODELS[number % 40 // 30 + number % 40 // 38]}": self._worker(
                number
            )
            for number in range(nodes - edges)
        }
        if hostile:
            self._hostile()
        self.taken = 0.136
        """Of the roll that runs: the share of workers that serve the new revision."""
        self.rate = 2_140.0

    def _edge(self, number: int) -> EdgeRow:
        state = "ready"
        if self._troubled and number % 37 == 5:
            state = "missing"
        elif self._troubled and number % 41 == 9:
            state = "not_ready"
        return EdgeRow(
            region=REGIONS[number % len(REGIONS)],
            state=state,
            reason={"missing": "silent for 48 s", "not_ready": "trust metadata expired"}.get(
                state, ""
            ),
            workers=WORKERS_PER_EDGE,
            requests_per_s=round(self._random.uniform(10, 40), 1),
            streams=self._random.randrange(60),
            hit_ratio=round(self._random.uniform(0.93, 0.999), 4),
            cache_used=self._random.randrange(10**10, 18 * 10**10),
            cache_capacity=2 * 10**11,
            origin_bytes=self._random.randrange(10**9, 10**11),
            behind={"chat-small@stable": 1} if number % 29 == 3 else {},
        )

    def _worker(self, number: int) -> WorkerRow:
        state, reason, fault, phase = "ready", "", "", ""
        if self._troubled:
            if number % 211 == 17:
                state, reason, fault = "failed", "needs 21.4 GB, 19.8 GB are free", "out_of_memory"
            elif number % 173 == 31:
                state, reason = "missing", "silent for 12 s"
            elif number % 97 == 12:
                state, phase = "booting", "pull"
            elif number % 89 == 40:
                state = "draining"
        new = number % 20 < 2
        model = _MODELS[number % 40 // 30 + number % 40 // 38]
        return WorkerRow(
            region=REGIONS[number // WORKERS_PER_EDGE % len(REGIONS)],
            state=state,
            model=model,
            channel="stable",
            revision=revision(f"{model} {2 if new else 1}"),
            target=revision(f"{model} 2") if phase else "",
            phase=phase,
            missing_bytes=self._random.randrange(10**8, 4 * 10**9) if phase else 0,
            slots=8,
            busy=0 if state in {"failed", "missing", "booting"} else self._random.randrange(8),
            queue=0,
            variant="Q5_K_M" if number % 3 else "Q4_K_M",
            canary=new and model == _MODELS[0],
            apart="serves an older revision" if number % 131 == 60 else "",
            reason=reason,
            fault=fault,
        )

    def _hostile(self) -> None:
        for number, name in enumerate(HOSTILE):
            self.edges[name] = msgspec.structs.replace(
                self._edge(number), reason=name, state=name[:8], region=HOSTILE[0]
            )
            self.workers[f"{name}/{name}"] = msgspec.structs.replace(
                self._worker(number),
                reason=name,
                apart=name,
                variant=name,
                model=name,
                state="failed",
            )

    # What is summed up.

    def state(self) -> Json:
        """The whole of it, as JSON has it."""
        found: Json = msgspec.to_builtins(
            ConsoleState(
                at=time.time(),
                version="0.1.0",
                totals=self.totals(),
                regions=self.regions(),
                edges=self.edges,
                workers=self.workers,
                channels=self.channels(),
                rolls=self.rolls(),
                stages=self.stages(),
                routes=self.routes(),
            )
        )
        return found

    def totals(self) -> Totals:
        problems = tuple(self._problems())[:20]
        return Totals(
            healthy=not problems,
            problems=problems,
            requests_per_s=round(self.rate, 1),
            failed_per_s=round(self.rate * 0.002, 2) if self._troubled else 0.0,
            streams=int(self.rate * 0.7),
            hit_ratio=0.9871,
            origin_bytes_per_s=round(self.rate * 9_000.0),
            first_token_p50_ms=142.0 + self._random.uniform(-8, 8),
            first_token_p95_ms=388.0 + self._random.uniform(-30, 30),
        )

    def _problems(self) -> Iterator[str]:
        for kind, table in (("edge", self.edges), ("worker", self.workers)):
            for name, row in table.items():
                if row.state in {"missing", "failed", "not_ready"}:
                    yield f"{kind} {name} is {row.state.replace('_', ' ')}: {row.reason}"

    def regions(self) -> dict[str, RegionRow]:
        return {name: self._region(name) for name in REGIONS}

    def _region(self, name: str) -> RegionRow:
        edges = [edge for edge in self.edges.values() if edge.region == name]
        workers = [worker for worker in self.workers.values() if worker.region == name]
        return RegionRow(
            edges=len(edges),
            edges_ready=sum(edge.state == "ready" for edge in edges),
            workers=len(workers),
            workers_ready=sum(worker.state == "ready" for worker in workers),
            slots=sum(worker.slots for worker in workers),
            busy=sum(worker.busy for worker in workers),
            queue=sum(worker.queue for worker in workers),
            requests_per_s=round(sum(edge.requests_per_s for edge in edges), 1),
            hit_ratio=0.98,
            origin_bytes_per_s=3.1e6,
        )

    def channels(self) -> dict[str, ChannelRow]:
        found = {}
        for number, model in enumerate(_MODELS):
            serving: dict[str, int] = {}
            for worker in self.workers.values():
                if worker.model == model:
                    serving[worker.revision] = serving.get(worker.revision, 0) + 1
            found[f"{model}@stable"] = ChannelRow(
                revision=revision(f"{model} 1"),
                sequence=12 + number,
                canary_revision="" if number else revision(f"{model} 2"),
                canary_percent=0 if number else 10,
                consistent=number > 0,
                serving=serving,
            )
        return found

    def rolls(self) -> dict[str, RollRow]:
        total = sum(worker.model == _MODELS[0] for worker in self.workers.values())
        now = time.time()
        return {
            "chat-small@stable": RollRow(
                stage="observing",
                running=True,
                revision=revision("chat-small 2"),
                previous=revision("chat-small 1"),
                percent=10,
                since=now - 42,
                reason="142 of 200 answers of the canary are in; it is as good as the old revision",
                taken=int(total * self.taken),
                total=total,
                failed_ratio=0.0014,
                first_token_p95_ms=402.0,
            ),
            "chat-large@stable": RollRow(
                stage="aborted",
                running=False,
                revision=revision("chat-large 3"),
                previous=revision("chat-large 1"),
                since=now - 5_400,
                reason="probe_failed at gpu-34: the golden answers differ; withdrawn",
                taken=0,
                total=210,
            ),
            "embed@stable": RollRow(
                stage="done",
                running=False,
                revision=revision("embed 1"),
                previous=revision("embed 0"),
                since=now - 190_000,
                taken=46,
                total=46,
            ),
        }

    def stages(self) -> dict[str, StageRow]:
        return {
            name: StageRow(
                order=order,
                count=9_120_331,
                mean_ms=ms * 1.2,
                p50_ms=ms * self._random.uniform(0.98, 1.02),
                p99_ms=ms * (3.1 + order % 3),
            )
            for order, (name, ms) in enumerate(STAGES.items())
        }

    def routes(self) -> dict[str, RouteRow]:
        return {
            f"{target}: {reason}": RouteRow(
                target=target, reason=reason, count=int(share * 9_120_331), share=share
            )
            for target, reason, share in _ROUTES
        }

    # What happens.

    def step(self, changes: int) -> Json:
        """``changes`` nodes change; returns the merge patch."""
        self.rate = max(100.0, self.rate + self._random.uniform(-60, 60))
        edges: Json = {}
        workers: Json = {}
        names = [*self.edges, *self.workers]
        for name in self._random.sample(names, min(changes, len(names))):
            if name in self.edges:
                edges[name] = self._edge_change(name)
            else:
                workers[name] = self.worker_change(name)
        return {
            "at": time.time(),
            "totals": msgspec.to_builtins(self.totals()),
            "regions": msgspec.to_builtins(self.regions()),
            "stages": msgspec.to_builtins(self.stages()),
            "edges": edges,
            "workers": workers,
        }

    def _edge_change(self, name: str) -> Json:
        change = {
            "requests_per_s": round(self._random.uniform(10, 40), 1),
            "streams": self._random.randrange(60),
            "hit_ratio": round(self._random.uniform(0.93, 0.999), 4),
        }
        self.edges[name] = msgspec.structs.replace(self.edges[name], **change)
        return change

    def worker_change(self, name: str) -> Json:
        """One worker changes; returns the patch of its row."""
        works = self.workers[name].state in {"ready", "draining"}
        change: Json = {
            "busy": self._random.randrange(8) if works else 0,
            "queue": self._random.randrange(3) if works else 0,
        }
        if works and self._random.random() < 0.02:
            change["state"] = self._random.choice(("ready", "draining"))
        self.workers[name] = msgspec.structs.replace(self.workers[name], **change)
        return change

    def roll(self, taken: float) -> Json:
        """The roll goes on to this share of its workers; returns the merge patch."""
        self.taken = taken
        row = self.rolls()["chat-small@stable"]
        change = {
            "taken": row.taken,
            "stage": "rolling" if taken < 1 else "done",
            "running": taken < 1,
        }
        return {"rolls": {"chat-small@stable": change}}


def boots(model: str = "chat-small") -> list[Boot]:
    """What a worker tells of its boot."""
    spans = (
        ("start", 0, 310),
        ("choose", 310, 42),
        ("choose: hardware", 312, 30),
        ("pull", 352, 1_420),
        ("pull: trust", 352, 8),
        ("pull: chunks from edge-1", 371, 1_398),
        ("check", 1_770, 88),
        ("load", 1_400, 1_030),
        ("load: map", 1_858, 60),
        ("load: KV cache", 1_918, 500),
        ("probe", 2_430, 260),
        ("first token", 2_690, 121),
    )
    made = tuple(BootSpan(name=n, start_ms=float(a), length_ms=float(b)) for n, a, b in spans)
    return [Boot(model=model, spans=made, total_ms=2_811.0, roll=worker_roll(model))]


def worker_roll(model: str = "chat-small", *, draining_ms: float = 9_400.0) -> WorkerRollRow:
    """What it tells of its latest roll, whose old engine still drains."""
    spans = (
        ("trust", 0, 12),
        ("choose", 12, 40),
        ("pull", 60, 3_120),
        ("pull: fetch", 92, 2_940),
        ("pull: commit", 3_040, 130),
        ("check", 3_185, 240),
        ("load", 3_430, 5_210),
        ("probe", 8_640, 1_480),
        ("probe: first token", 8_640, 310),
        ("flip", 10_121, 0.1),
        ("drain", 10_122, draining_ms),
    )
    made = tuple(BootSpan(name=n, start_ms=float(a), length_ms=float(b)) for n, a, b in spans)
    return WorkerRollRow(
        revision=revision(f"{model} 2"),
        previous=revision(f"{model} 1"),
        began=time.time() - 60,
        outcome="serves",
        step="drain",
        spans=made,
        total_ms=10_122.0 + draining_ms,
    )
