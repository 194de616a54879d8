"""A roll under running streams and new requests: what the callers notice of it.

One worker, one edge, the demo's two revisions, which answer one of the questions differently. The
streams recite without a pause, each followed by the next; the requests come at a fixed rate, each
on time whatever became of those before.
"""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from infra.ask import Answer, Asker
from infra.demo.artifacts import publish_file
from infra.demo.prompts import questions
from infra.demo.roll import NEXT_CHANNEL, NEXT_FILE
from infra.edge_admin import EdgeAdmin
from infra.errors import AnswerError
from infra.local import Local
from infra.local_config import LOCAL_MODEL
from infra.publishing import open_origin
from tests.benchmarks.results import Row
from wire.paths import DEFAULT_CHANNEL

STREAMS = 50
RATE_PER_S = 20.0
ENVIRONMENT = {
    "HEADWATER_WORKER__ENGINE__SLOTS": "72",
    "HEADWATER_WORKER__ENGINE__CONTEXT_TOKENS": "768",
    "HEADWATER_WORKER__DRAIN_S": "60",
    "HEADWATER_WORKER__MAX_QUEUE": "256",
}
_ROLL_S = 60.0
_TAIL_S = 5.0
"""How long callers go on after the flip."""


@dataclass(slots=True)
class Callers:
    """Everybody who asks, and what they got."""

    asker: Asker
    recital: str
    question: str
    streams: list[Answer] = field(default_factory=list)
    requests: list[Answer] = field(default_factory=list)
    refused: list[str] = field(default_factory=list)
    over: asyncio.Event = field(default_factory=asyncio.Event)

    async def recite(self) -> None:
        """One stream after the other, until it is over; the last one to its end."""
        while not self.over.is_set():
            await self._ask(self.recital, self.streams, 512)

    async def arrive(self) -> None:
        """Requests at the fixed rate."""
        async with asyncio.TaskGroup() as group:
            began, number = time.monotonic(), 0
            while not self.over.is_set():
                group.create_task(self._ask(self.question, self.requests, 24))
                number += 1
                await asyncio.sleep(max(0.0, began + number / RATE_PER_S - time.monotonic()))

    async def _ask(self, question: str, answers: list[Answer], most: int) -> None:
        messages = [{"role": "user", "content": question}]
        try:
            answer = await self.asker.ask(
                messages, model=LOCAL_MODEL, temperature=0.0, max_tokens=most
            )
        except AnswerError as error:
            self.refused.append(error.message)
        else:
            answers.append(answer)


@dataclass(frozen=True, slots=True)
class Outcome:
    """One roll as its callers saw it. Times in seconds."""

    dropped: int
    refused: int
    mixed: int
    over_the_flip: int
    flip_s: float
    before_p99: float
    during_p99: float


async def measure(folder: Path, rounds: int) -> list[Row]:
    """Roll there and back, ``rounds`` times in all."""
    environ = {**os.environ, **ENVIRONMENT}
    async with Local(folder / "state", environ=environ) as local:
        await local.up()
        published = await asyncio.to_thread(
            publish_file, local, NEXT_FILE, LOCAL_MODEL, NEXT_CHANNEL
        )
        revisions = [published.revision, await asyncio.to_thread(_current, local)]
        return rows([await one(local, revisions[number % 2]) for number in range(rounds)])


async def one(local: Local, revision: str, *, settle_s: float = 4.0) -> Outcome:
    """One roll under load."""
    known = questions()
    async with Asker(local.urls.edge, await asyncio.to_thread(_unlimited_key, local)) as asker:
        callers = Callers(asker, known["recital"]["question"], known["r2_only"][0]["question"])
        async with asyncio.TaskGroup() as group:
            for number in range(STREAMS):
                group.create_task(callers.recite(), name=f"recital-{number}")
            group.create_task(callers.arrive(), name="arrivals")
            try:
                await asyncio.sleep(settle_s)
                began = time.monotonic()
                await asyncio.to_thread(_move, local, revision)
                flipped = await _flipped(callers, revision, began)
                await asyncio.sleep(_TAIL_S)
            finally:
                callers.over.set()
    return judge(callers, revision, began, flipped)


def judge(callers: Callers, revision: str, began: float, flipped: float) -> Outcome:
    """What the answers say.

    Args:
        revision: the new one.
        began: when the roll was asked for.
        flipped: when an answer of the new revision was first seen.
    """
    everybody = [*callers.streams, *callers.requests]
    texts: dict[str, set[str]] = {}
    for answer in callers.requests:
        if answer.whole:
            texts.setdefault(answer.digest, set()).add(answer.text)
    # A greedy answer is always the same: a second text of one revision would be a mixture.
    mixed = sum(len(found) - 1 for found in texts.values())
    before = [a.first_token_s for a in callers.requests if a.started_s < began - 0.5]
    during = [a.first_token_s for a in callers.requests if began <= a.started_s <= flipped + 1.0]
    old = [a for a in everybody if a.digest != revision]
    return Outcome(
        dropped=sum(not answer.whole for answer in everybody),
        refused=len(callers.refused),
        mixed=mixed,
        over_the_flip=sum(a.started_s + a.total_s > flipped for a in old),
        flip_s=flipped - began,
        before_p99=_p99(before),
        during_p99=_p99(during),
    )


def rows(outcomes: Sequence[Outcome]) -> list[Row]:
    """The figures."""

    def row(name: str, unit: str, runs: Sequence[float], target: float | None) -> Row:
        return Row(name=name, unit=unit, runs=runs, target=target, higher_is_better=False)

    return [
        row("roll under 50 streams: dropped streams", "", [sum(o.dropped for o in outcomes)], 0),
        row("errors", "", [sum(o.refused for o in outcomes)], 0),
        row("answers that mix revisions", "", [sum(o.mixed for o in outcomes)], 0),
        row("answers that ran over the flip", "", [o.over_the_flip for o in outcomes], None),
        row("roll asked for → new revision answers", "s", [o.flip_s for o in outcomes], None),
        Row(
            name="time to first token during the roll, p99",
            unit="ms",
            runs=[1e3 * o.during_p99 for o in outcomes],
            peer="before it",
            peer_runs=[1e3 * o.before_p99 for o in outcomes],
            target=2.0,
            higher_is_better=False,
        ),
    ]


async def _flipped(callers: Callers, revision: str, began: float) -> float:
    """When the first answer of the new revision had begun. Raises ``TimeoutError``."""
    async with asyncio.timeout(_ROLL_S):
        while True:
            for answer in callers.requests:
                if answer.digest == revision and answer.started_s >= began:
                    return answer.started_s + answer.first_token_s
            await asyncio.sleep(0.01)


def _p99(values: Sequence[float]) -> float:
    ordered = sorted(values)
    return ordered[int(0.99 * (len(ordered) - 1))] if ordered else float("nan")


def _unlimited_key(local: Local) -> str:
    limits = {"requests_per_minute": 0, "tokens_per_minute": 0}
    with EdgeAdmin(local.urls.edge, local.admin_token) as admin:
        return str(admin.create_key({"tenant": "roll", "limits": limits})["key"])


def _move(local: Local, revision: str) -> None:
    with open_origin(local.urls.origin, local.admin_token) as admin:
        admin.roll(LOCAL_MODEL, DEFAULT_CHANNEL, revision)


def _current(local: Local) -> str:
    with open_origin(local.urls.origin, local.admin_token) as admin:
        pointers = admin.status()["channels"]
    return next(
        str(p["revision"])
        for p in pointers
        if (p["model"], p["channel"]) == (LOCAL_MODEL, DEFAULT_CHANNEL)
    )
