"""What the fleet is under while its parts are killed: streams, a caller at its limit, cold pulls.

Each client knows both addresses of what it asks, as behind a load balancer, and goes to the other
one where it is refused. An answer is judged by rules that allow no excuse: what says that it is
whole is the very text of its revision; what is not whole says so.
"""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import shutil
import time
from collections import Counter, defaultdict
from collections.abc import Iterable
from dataclasses import dataclass, field

import aiohttp

from infra.ask import CHAT_PATH, Answer, Asker
from infra.errors import AnswerError
from infra.local_config import LOCAL_MODEL
from infra.pulling import pull_model
from tests.benchmarks.scale_out.rig import (
    ARTIFACTS,
    CHANNELS,
    PROMPTS,
    REQUESTS_PER_MINUTE,
    Rig,
)
from wire.errors import HeadwaterError
from wire.paths import DEFAULT_CHANNEL

QUESTIONS = ("Count from one to one hundred.", "What is the capital of France?")
CALLERS = 6
PULL_EVERY_S = 1.0


@dataclass(slots=True)
class Seen:
    """What happened in one phase."""

    whole: int = 0
    retried: int = 0
    """Refused at one edge, with an error, and asked at the other."""
    broken: int = 0
    """Answers that broke off, and said so."""
    silent: int = 0
    """Neither whole nor said to be broken."""
    wrong: int = 0
    """Whole, with another text than its revision gives."""
    unserved: int = 0
    """Requests that both edges refused."""
    reasons: Counter[str] = field(default_factory=Counter)
    """Why the second of them did."""
    gap_s: float = 0.0
    """The longest time in which no answer became whole."""
    pulls: int = 0
    failed_pulls: int = 0
    granted: int = 0
    """Requests of the limited caller that were let in."""
    errors_500: int = 0
    """Answers of the limited caller that are a fault of the edge's."""
    seconds: float = 0.0


@dataclass(slots=True)
class Load:
    """Runs until it is told to end; what it sees is read and begun anew at each phase."""

    rig: Rig
    seen: Seen = field(default_factory=Seen)
    right: dict[tuple[str, str], str] = field(default_factory=dict)
    """(revision, question) → the text that the revision gives."""
    problems: list[str] = field(default_factory=list)
    _began: float = field(default_factory=time.monotonic)
    _last: float = field(default_factory=time.monotonic)
    _over: asyncio.Event = field(default_factory=asyncio.Event)

    def turn(self) -> Seen:
        """What was seen since the last time."""
        now, seen = time.monotonic(), self.seen
        seen.gap_s = max(seen.gap_s, now - self._last)
        seen.seconds = now - self._began
        self.seen, self._began, self._last = Seen(), now, now
        return seen

    def end(self) -> None:
        """Let every client finish what it does."""
        self._over.set()

    async def run(self) -> None:
        """All clients, until the end."""
        async with asyncio.TaskGroup() as group:
            for number in range(CALLERS):
                group.create_task(self._call(number), name=f"caller-{number}")
            group.create_task(self._hurry(), name="limited")
            group.create_task(self._pull(), name="puller")

    async def warm(self) -> None:
        """Every revision through every artifact edge: from then on no origin is asked for it."""
        for number, (edge, channel) in enumerate(itertools.product(ARTIFACTS, CHANNELS)):
            folder = self.rig.folder / "warming" / str(number)
            urls, root = (self.rig.url(edge),), self.rig.state.trust_root
            await pull_model(LOCAL_MODEL, channel, urls, folder, root)

    async def learn(self) -> None:
        """What the revision that serves answers, while nothing is killed."""
        async with Asker(self.rig.url(PROMPTS[0]), self.rig.free_key) as asker:
            for question in QUESTIONS:
                answer = await _ask(asker, question)
                self.right[answer.digest, question] = answer.text

    async def _call(self, number: int) -> None:
        question = QUESTIONS[number % 2]
        one, other = PROMPTS if number % 4 < 2 else reversed(PROMPTS)
        async with (
            Asker(self.rig.url(one), self.rig.free_key) as first,
            Asker(self.rig.url(other), self.rig.free_key) as second,
        ):
            while not self._over.is_set():
                if not await self._one(question, first, second):
                    self.seen.unserved += 1
                    await asyncio.sleep(0.05)

    async def _one(self, question: str, *askers: Asker) -> bool:
        """Ask one edge, and the other where the first refuses. False where both do."""
        for number, asker in enumerate(askers):
            try:
                answer = await _ask(asker, question)
            except AnswerError as error:
                self.seen.retried += number == 0
                if number:
                    self.seen.reasons[error.message[:120]] += 1
                continue
            self._judge(answer, question)
            return True
        return False

    def _judge(self, answer: Answer, question: str) -> None:
        seen = self.seen
        if not answer.whole:
            seen.broken += bool(answer.error)
            seen.silent += not answer.error
            return
        now = time.monotonic()
        seen.gap_s, self._last = max(seen.gap_s, now - self._last), now
        seen.whole += 1
        if self.right.get((answer.digest, question)) != answer.text:
            seen.wrong += 1
            self.problems.append(f"wrong text of {answer.digest[:12]}: {answer.text[:80]!r}")

    async def _hurry(self) -> None:
        """The caller at its limit: it asks both edges as fast as they answer."""
        question = [{"role": "user", "content": QUESTIONS[1]}]
        body = {"model": LOCAL_MODEL, "messages": question, "max_tokens": 1}
        headers = {"Authorization": f"Bearer {self.rig.limited_key}"}
        timeout = aiohttp.ClientTimeout(total=10)
        async with aiohttp.ClientSession(timeout=timeout, headers=headers) as session:
            for number in itertools.count():
                if self._over.is_set():
                    return
                url = self.rig.url(PROMPTS[number % 2]) + CHAT_PATH
                # An edge that was just killed answers nobody: that costs the caller nothing.
                with contextlib.suppress(aiohttp.ClientError, TimeoutError):
                    async with session.post(url, json=body) as answer:
                        await answer.read()
                        self.seen.granted += answer.status == 200
                        self.seen.errors_500 += answer.status == 500
                await asyncio.sleep(0.02)

    async def _pull(self) -> None:
        """A machine that just booted, again and again: what it gets is verified as it comes."""
        root = self.rig.state.trust_root
        urls = tuple(self.rig.url(name) for name in ARTIFACTS)
        for number in itertools.count():
            folder = self.rig.folder / "pulled" / str(number)
            try:
                await pull_model(LOCAL_MODEL, DEFAULT_CHANNEL, urls, folder, root)
                self.seen.pulls += 1
            except HeadwaterError as error:
                self.seen.failed_pulls += 1
                self.problems.append(f"pull: {error.message}")
            await asyncio.to_thread(shutil.rmtree, folder, ignore_errors=True)
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(PULL_EVERY_S):
                    await self._over.wait()
                    return


def allowed(phases: Iterable[Seen]) -> float:
    """Requests that the limited caller may have had: a full bucket, and what ran in since."""
    seconds = sum(seen.seconds for seen in phases)
    return REQUESTS_PER_MINUTE * (1 + seconds / 60)


def in_all(phases: Iterable[Seen]) -> dict[str, int]:
    """Sums over phases."""
    sums: dict[str, int] = defaultdict(int)
    names = ("whole", "silent", "wrong", "unserved", "granted", "pulls", "failed_pulls")
    for seen in phases:
        for name in (*names, "errors_500"):
            sums[name] += getattr(seen, name)
    return sums


async def _ask(asker: Asker, question: str) -> Answer:
    messages = [{"role": "user", "content": question}]
    return await asker.ask(messages, model=LOCAL_MODEL, temperature=0.0, max_tokens=120)
