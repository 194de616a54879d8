"""Runs a ``Contest``: a task for each request, a timer for the next hedge, and nobody left behind.

Whoever loses is cancelled, and the race ends only once it has let go: nobody writes into the
caller's buffer any more then.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine, Iterable
from typing import Any, Generic, TypeVar

from wire.errors import ChunkMismatchError, GoneError, HeadwaterError
from wire.sources.contest import Ask, Contest
from wire.sources.member import exhausted

T = TypeVar("T")


class Race(Generic[T]):
    """One contest with real requests. Run it once.

    Args:
        ask: makes the request.
        patience_s: after how many seconds the answer to it is overdue.
        may_hedge: whether the budget has a hedge left; called right before one is sent.
        unused: told of answers that came although another one was taken.
    """

    def __init__(
        self,
        contest: Contest,
        ask: Callable[[Ask], Coroutine[Any, Any, T]],
        *,
        patience_s: Callable[[Ask], float],
        may_hedge: Callable[[], bool],
        unused: Callable[[Ask, T], None],
    ) -> None:
        self._contest = contest
        self._ask = ask
        self._patience_s = patience_s
        self._may_hedge = may_hedge
        self._unused = unused
        self._running: dict[asyncio.Task[T], Ask] = {}
        self._failures: list[tuple[str, HeadwaterError]] = []
        self._waited_s = 0.0
        self._overdue_at = 0.0

    async def run(self, what: str) -> tuple[Ask, T]:
        """The first answer, and which request brought it.

        Raises:
            GoneError: a source says that the content was taken down; that is final.
            HeadwaterError: everybody failed; as ``wire.sources.member.exhausted``, with ``what``.
        """
        try:
            self._send(self._contest.start())
            while self._running:
                done = await self._wait()
                if not done:
                    self._hedge()
                elif (won := self._settle(done)) is not None:
                    return self._running.pop(won), won.result()
            raise exhausted(what, self._failures) from self._failures[-1][1]
        finally:
            await self._let_go()

    async def _wait(self) -> set[asyncio.Task[T]]:
        """Those that have ended; none where the answer is overdue."""
        left_s = None
        if self._contest.may_hedge:
            left_s = max(0.0, self._overdue_at - asyncio.get_running_loop().time())
        done, _ = await asyncio.wait(
            self._running, timeout=left_s, return_when=asyncio.FIRST_COMPLETED
        )
        return done

    def _settle(self, done: Iterable[asyncio.Task[T]]) -> asyncio.Task[T] | None:
        """The winner among those that ended, or None once others were asked in their place."""
        for task in done:
            if isinstance(error := task.exception(), GoneError):
                raise error
        winners = [task for task in done if task.exception() is None]
        if winners:
            return max(winners, key=lambda task: self._running[task].buffer)
        for task in done:
            error = task.exception()
            if not isinstance(error, HeadwaterError):
                task.result()  # raises what is no failure of a source, but our own
                continue
            ask = self._running.pop(task)
            self._failures.append((ask.source, error))
            rotten = isinstance(error, ChunkMismatchError)
            self._send(self._contest.failed(ask, rotten=rotten))
        return None

    def _hedge(self) -> None:
        if self._may_hedge():
            self._send((self._contest.hedge(),))
        else:
            self._be_patient(self._waited_s)

    def _send(self, asks: tuple[Ask, ...]) -> None:
        for ask in asks:
            task = asyncio.create_task(self._ask(ask), name=f"{ask.reason} {ask.source}")
            self._running[task] = ask
        if asks:
            self._be_patient(self._patience_s(asks[0]))

    def _be_patient(self, seconds: float) -> None:
        self._waited_s = seconds
        self._overdue_at = asyncio.get_running_loop().time() + seconds

    async def _let_go(self) -> None:
        """Cancel whoever still runs, and wait until all have ended, however often we are cancelled:
        the buffer is the caller's again only then."""
        for task in self._running:
            task.cancel()
        cancelled: asyncio.CancelledError | None = None
        while pending := [task for task in self._running if not task.done()]:
            try:
                await asyncio.wait(pending)
            except asyncio.CancelledError as error:
                cancelled = error
        for task, ask in self._running.items():
            if not task.cancelled() and task.exception() is None:
                self._unused(ask, task.result())
        if cancelled is not None:
            raise cancelled
