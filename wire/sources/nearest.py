"""Several sources: the nearest by measured time is asked, and others where it is overdue or fails.

A request for a chunk is a race (``Contest``): the source that is expected to give it first begins;
one that was not measured for long runs beside it, and is cancelled where it is slower, so that no
chunk waits for a probe. Small documents are raced for in the same way, but who loses is left to end
in the background, since a whole answer tells the latency.
"""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from collections.abc import Callable, Coroutine, Iterable
from dataclasses import dataclass, field
from functools import partial
from typing import Any, TypeVar

from wire.chunk import Chunk, ChunkId
from wire.errors import HeadwaterError, SourceUnavailableError
from wire.source import Source
from wire.sources.contest import Ask, Contest
from wire.sources.failover import Failover
from wire.sources.hedging import HedgeBudget, HedgeConfig
from wire.sources.member import Member, Outcome, distinct
from wire.sources.race import Race
from wire.sources.scoreboard import Score, Scoreboard, ScoreConfig

S = TypeVar("S", bytes, Chunk)


@dataclass(frozen=True, slots=True, kw_only=True)
class NearestConfig:
    """How one source among several is chosen."""

    scores: ScoreConfig = field(default_factory=ScoreConfig)
    hedge: HedgeConfig = field(default_factory=HedgeConfig)
    document_timeout_s: float = 30.0
    """A small document that a source has not given after so long is given up."""


class Nearest(Failover):
    """A Source over others, asked in the order of their scores (``Scoreboard``).

    Inside one call it fails over like ``Failover``, and asks a second source where the answer is
    overdue (``HedgeConfig``). A caller's ``into`` is received into by one source at a time; where
    another one wins, the chunk has bytes of its own.

    As many requests may run at once as callers times sources: give the sources so many threads,
    lest one that stalls takes them all and the others cannot be asked.

    Raises:
        ConfigError: no source, or two of one name.
    """

    def __init__(
        self,
        sources: Iterable[Source],
        *,
        name: str = "nearest",
        clock: Callable[[], float] = time.monotonic,
        config: NearestConfig | None = None,
    ) -> None:
        found = distinct(sources)
        self._clock = clock
        self._config = config or NearestConfig()
        self._board = Scoreboard((source.name for source in found), self._config.scores)
        self._budget = HedgeBudget(self._config.hedge)
        self._contests: set[Contest] = set()
        """Those for chunks."""
        self._documents: set[asyncio.Task[bytes]] = set()
        """Requests that run, whether or not somebody still waits for them."""
        super().__init__(found, name=name, clock=clock, observe=self._learn)
        self._by_name = {member.source.name: member for member in self._members}

    def scores(self) -> tuple[Score, ...]:
        """How each source is seen now, in the order they were given."""
        return self._board.scores(self._clock())

    async def chunk(
        self,
        id: ChunkId,  # noqa: A002
        *,
        revalidate: bool = False,
        into: memoryview | None = None,
    ) -> Chunk:
        if len(self._members) == 1:
            return await super().chunk(id, revalidate=revalidate, into=into)
        size_bytes = self._board.typical_bytes if into is None else len(into)
        now_s = self._clock()
        order = self._board.rank(now_s, size_bytes, self._loads())
        due = [name for name in self._board.due(now_s, chunk=True) if name != order[0]]
        contest = Contest(
            order,
            probe=due[0] if due else None,
            buffer=into is not None,
            revalidate=revalidate,
            at_once=self._config.hedge.at_once,
        )

        def ask_for(ask: Ask) -> Coroutine[Any, Any, Chunk]:
            self._note(ask, chunk=True)
            buffer = into if ask.buffer else None
            member = self._by_name[ask.source]
            return member.attempt(
                id, revalidate=ask.revalidate, into=buffer, wanted_bytes=size_bytes
            )

        self._contests.add(contest)
        try:
            return await self._race(contest, ask_for, size_bytes, f"chunk {id}")
        finally:
            self._contests.remove(contest)

    async def aclose(self) -> None:
        for task in self._documents:
            task.cancel()
        await asyncio.gather(*self._documents, return_exceptions=True)
        await super().aclose()

    async def _document(
        self, ask: Callable[[Member], Coroutine[Any, Any, bytes]], what: str
    ) -> bytes:
        if len(self._members) == 1:
            return await super()._document(ask, what)
        now_s = self._clock()
        order = self._board.rank(now_s, 0)
        due = [name for name in self._board.due(now_s, chunk=False) if name != order[0]]

        def ask_for(which: Ask) -> asyncio.Task[bytes]:
            self._note(which, chunk=False)
            return self._in_background(self._by_name[which.source], ask, what)

        async def wait_for(which: Ask) -> bytes:
            return await asyncio.shield(ask_for(which))

        for name in due[1:]:
            ask_for(Ask(name, "probe"))
        probe, at_once = due[0] if due else None, self._config.hedge.at_once
        return await self._race(Contest(order, probe=probe, at_once=at_once), wait_for, 0, what)

    async def _race(
        self,
        contest: Contest,
        ask: Callable[[Ask], Coroutine[Any, Any, S]],
        size_bytes: int,
        what: str,
    ) -> S:
        self._budget.earn()
        race = Race(
            contest,
            ask,
            patience_s=partial(self._patience_s, size_bytes),
            may_hedge=self._budget.take,
            unused=lambda ask, value: self._by_name[ask.source].count(wasted=len(value)),
        )
        winner, value = await race.run(what)
        if winner.reason == "hedge":
            self._by_name[winner.source].count(hedge_wins=1)
        return value

    def _patience_s(self, size_bytes: int, ask: Ask) -> float:
        load = max(0, self._loads()[ask.source] - 1)  # without this request
        expected_s = self._board.expected_s(ask.source, size_bytes, load)
        return self._config.hedge.patience_s(expected_s)

    def _loads(self) -> Counter[str]:
        """How many requests for chunks run at each source, those included that begin right now."""
        return Counter(ask.source for contest in self._contests for ask in contest.running)

    def _note(self, ask: Ask, *, chunk: bool) -> None:
        self._board.asked(ask.source, self._clock(), chunk=chunk)
        member = self._by_name[ask.source]
        member.count(probes=ask.reason == "probe", hedges=ask.reason == "hedge")

    def _in_background(
        self, member: Member, ask: Callable[[Member], Coroutine[Any, Any, bytes]], what: str
    ) -> asyncio.Task[bytes]:
        """Ask for a document in a task of our own, which goes on where nobody waits any more."""
        name, limit_s = member.source.name, self._config.document_timeout_s

        async def fetch() -> bytes:
            try:
                async with asyncio.timeout(limit_s):
                    return await ask(member)
            except TimeoutError as error:
                message = f"{name}: {what}: nothing after {limit_s:g} s"
                raise SourceUnavailableError(message) from error

        task = asyncio.create_task(fetch(), name=f"{name}: {what}")
        self._documents.add(task)
        task.add_done_callback(self._ended)
        return task

    def _ended(self, task: asyncio.Task[bytes]) -> None:
        self._documents.discard(task)
        error = None if task.cancelled() else task.exception()
        if error is not None and not isinstance(error, HeadwaterError):
            context = {"message": "a document failed", "exception": error, "task": task}
            task.get_loop().call_exception_handler(context)

    def _learn(self, source_name: str, outcome: Outcome) -> None:
        self._board.record(source_name, outcome, self._clock())
