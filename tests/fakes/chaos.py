"""kill -9 of anything at random, under load and rolls; and what must hold all the same.

The rules that are checked: an answer that says it is whole is the very text that its revision gives
(so no wrong bytes were loaded, nothing was mixed, and no ``[DONE]`` was silent), every file on a
worker's disk that counts as whole is what was signed, and in the end everything serves by itself.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import random
import signal
import time
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

import psutil

from gpu_worker.disk import ModelFolder, locate_chunks
from infra.ask import Answer, Asker
from infra.child import Child
from infra.errors import AnswerError
from infra.local_config import LOCAL_MODEL
from tests.fakes.fleet import Fleet
from tests.fakes.processes import engine_of
from tests.fakes.waiting import until, until_async
from wire.chunk import hash_chunk
from wire.errors import HeadwaterError

QUESTIONS = ("Count from one to one hundred.", "What is the capital of France?")
VICTIMS = ("engine", "worker", "second engine", "second worker", "edge", "origin")
HEAL_S = 60.0


@dataclass(slots=True)
class Report:
    """What happened."""

    killed: Counter[str] = field(default_factory=Counter)
    rolls: int = 0
    whole: int = 0
    broken: int = 0
    """Answers that broke off, and said so."""
    refused: int = 0
    silent: list[Answer] = field(default_factory=list)
    """Answers that neither were whole nor said that they are not."""
    wrong: list[Answer] = field(default_factory=list)
    """Whole answers with another text than their revision gives."""
    heal_s: float = 0.0

    def took(self, answer: Answer, right: dict[tuple[str, str], str], question: str) -> None:
        """Judge one answer."""
        if answer.whole:
            self.whole += 1
            if right.setdefault((answer.digest, question), answer.text) != answer.text:
                self.wrong.append(answer)
        elif answer.error:
            self.broken += 1
        else:
            self.silent.append(answer)


class Chaos:
    """Args:
    second: one more worker of the fleet's, from ``Fleet.extra``.
    revisions: between which the channel is rolled.
    pause_s: between two kills, on average.
    """

    def __init__(
        self,
        fleet: Fleet,
        second: Child,
        revisions: Sequence[str],
        *,
        seed: int,
        pause_s: float = 2.5,
        callers: int = 6,
    ) -> None:
        self.report = Report()
        self._fleet = fleet
        self._second = second
        self._revisions = revisions
        self._random = random.Random(seed)
        self._pause_s = pause_s
        self._callers = callers
        self._right: dict[tuple[str, str], str] = {}
        unlimited = {"requests_per_minute": 0, "tokens_per_minute": 0}
        self._key = fleet.create_key(limits=unlimited)["key"]

    async def run(self, seconds: float, *, kills: int = 0, whole: int = 0) -> Report:
        """Kill for so long, then wait until all is well again, and look at the disks.

        Args:
            kills: so many at least, if it takes longer.
            whole: answers, in the same way.
        """
        await self._learn()
        over = asyncio.Event()
        async with asyncio.TaskGroup() as group:
            for number in range(self._callers):
                group.create_task(self._call(over, number), name=f"caller-{number}")
            end = time.monotonic() + seconds
            while time.monotonic() < end or self.report.killed.total() < kills:
                await self._kill(self._random.choice(VICTIMS))
                if self._random.random() < 0.2:
                    await self._roll()
                await asyncio.sleep(self._random.uniform(0.2, 2 * self._pause_s))
            await until(lambda: self.report.whole >= whole, deadline_s=HEAL_S)
            over.set()
        began = time.monotonic()
        await until(self._well, deadline_s=HEAL_S)
        await self._learn()
        self.report.heal_s = time.monotonic() - began
        return self.report

    async def _learn(self) -> None:
        """What the revision that serves answers, as soon as it does."""
        async with Asker(self._fleet.urls.edge, self._key) as asker:
            for question in QUESTIONS:
                await until_async(partial(self._whole, asker, question), deadline_s=HEAL_S)

    async def _whole(self, asker: Asker, question: str) -> bool:
        try:
            answer = await self._ask(asker, question)
        except AnswerError:
            return False
        self.report.took(answer, self._right, question)
        return answer.whole

    async def _call(self, over: asyncio.Event, number: int) -> None:
        question = QUESTIONS[number % len(QUESTIONS)]
        async with Asker(self._fleet.urls.edge, self._key) as asker:
            while not over.is_set():
                try:
                    answer = await self._ask(asker, question)
                except AnswerError:
                    self.report.refused += 1
                    await asyncio.sleep(0.1)
                else:
                    self.report.took(answer, self._right, question)

    async def _ask(self, asker: Asker, question: str) -> Answer:
        messages = [{"role": "user", "content": question}]
        return await asker.ask(messages, model=LOCAL_MODEL, temperature=0.0, max_tokens=300)

    async def _kill(self, victim: str) -> None:
        pid = await asyncio.to_thread(self._find, victim)
        if pid is not None:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
                self.report.killed[victim] += 1

    def _find(self, victim: str) -> int | None:
        """None where it is down already."""
        pids: dict[str, Callable[[], int | None]] = {
            "worker": lambda: self._fleet.child("worker").pid,
            "second worker": lambda: self._second.pid,
            "edge": lambda: self._fleet.child("edge").pid,
            "origin": lambda: self._fleet.child("origin").pid,
            "engine": lambda: _engine(self._fleet.child("worker").pid),
            "second engine": lambda: _engine(self._second.pid),
        }
        return pids[victim]()

    async def _roll(self) -> None:
        with contextlib.suppress(HeadwaterError):
            revision = self._random.choice(self._revisions)
            await asyncio.to_thread(self._fleet.roll, revision)
            self.report.rolls += 1

    def _well(self) -> bool:
        """Everything runs and serves what is signed."""
        if not self._fleet.settled():
            return False
        try:
            report = self._fleet.extra_status(self._second)["report"]
        except HeadwaterError:
            return False
        return (report["state"], report["revision"]) == ("ready", self._fleet.revision())


def wrong_files(models: Path, model: str) -> list[str]:
    """Chunks of whole revisions on a disk that are not what their manifest says."""
    folder, wrong = ModelFolder(models), []
    for revision in folder.revisions(model):
        manifest = folder.manifest(model, revision)
        if manifest is None:
            continue
        for ref, path, offset in locate_chunks(manifest, folder.path(model, revision)):
            with path.open("rb") as stream:
                stream.seek(offset)
                if hash_chunk(stream.read(ref.size)) != ref.id:
                    wrong.append(f"{path} at {offset}")
    return wrong


def _engine(worker: int | None) -> int | None:
    try:
        return engine_of(worker) if worker is not None else None
    except (AssertionError, psutil.Error):
        return None
