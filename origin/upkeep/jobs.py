"""Long work of an origin in the background: one at a time, with progress, ended at shutdown."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from typing import Any, Literal

import msgspec
import structlog

from wire.errors import ConflictError, HeadwaterError, NotFoundError

_log = structlog.get_logger("jobs")
State = Literal["running", "done", "failed", "cancelled"]
Progress = Callable[[str, int, int], None]
Work = Callable[[Progress], Coroutine[Any, Any, Any]]


class Job(msgspec.Struct, kw_only=True):
    """A piece of work as it stands."""

    kind: str
    number: int
    """Counts the jobs since the start, from 1."""
    state: State = "running"
    step: str = ""
    done: int = 0
    total: int = 0
    """Of ``done``; 0 where it is not known."""
    error: str = ""
    result: Any = None


class Jobs:
    """The jobs of an origin: the one that runs, and the last of each kind."""

    def __init__(self) -> None:
        self._last: dict[str, Job] = {}
        self._task: asyncio.Task[None] | None = None
        self._running: Job | None = None
        self._count = 0

    def start(self, kind: str, work: Work) -> Job:
        """Begin a job.

        Args:
            work: gets a function to tell its progress to; what it returns is the result.

        Raises:
            ConflictError: another one is running.
        """
        if self._running is not None:
            raise ConflictError(f"{self._running.kind} is running; wait for its end, or cancel it")
        self._count += 1
        job = self._running = self._last[kind] = Job(kind=kind, number=self._count)
        self._task = asyncio.create_task(self._run(job, work), name=f"origin-{kind}")
        self._task.add_done_callback(lambda task: self._ended(job, task))
        return job

    def last(self, kind: str) -> Job:
        """The newest job of a kind. Raises ``NotFoundError`` where there was none."""
        job = self._last.get(kind)
        if job is None:
            raise NotFoundError(f"no {kind} was run since the origin was started")
        return job

    async def wait(self) -> None:
        """Wait for the one that runs."""
        if self._task is not None:
            await asyncio.wait([self._task])

    async def cancel(self, kind: str) -> Job:
        """End a job where it is running; the newest of its kind. Raises ``NotFoundError``."""
        job = self.last(kind)
        if job is self._running and self._task is not None:
            self._task.cancel()
            await asyncio.wait([self._task])
        return job

    async def aclose(self) -> None:
        """End the one that runs."""
        if self._task is not None and not self._task.done():
            self._task.cancel()
            await asyncio.wait([self._task])

    async def _run(self, job: Job, work: Work) -> None:
        def progress(step: str, done: int, total: int) -> None:
            job.step, job.done, job.total = step, done, total

        try:
            job.result = await work(progress)
            job.state = "done"
        except HeadwaterError as error:
            job.state, job.error = "failed", error.message
            _log.error("job failed", kind=job.kind, code=error.code, error=error.message)

    def _ended(self, job: Job, task: asyncio.Task[None]) -> None:
        self._running = None
        if task.cancelled():
            job.state = "cancelled"
        elif (error := task.exception()) is not None:
            job.state, job.error = "failed", f"{type(error).__name__}; see the origin's log"
            _log.error("job died", kind=job.kind, exc_info=error)
