"""Filling the cache before anybody asks: by an operator's request, and ahead of a roll.

A job is a list of chunks that are fetched behind all real requests (``ByteBudget``), a few at a
time over all jobs. It names nothing that is not signed, does nothing for what is here already, and
may be repeated, which goes on where it stopped.
"""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from functools import partial
from typing import Literal

import msgspec
import structlog

from edge_tier.cache.fill import CachingSource
from edge_tier.cache.pins import Pins, Rolled, chunks_of, chunks_to_preheat
from wire.chunk import ChunkId
from wire.errors import (
    HeadwaterError,
    NotFoundError,
    SourceUnavailableError,
    TooLargeError,
    TrustError,
)
from wire.manifest import ChunkRef, Manifest, decode
from wire.paths import ADMIN, DEFAULT_CHANNEL
from wire.trust import TrustView

_log = structlog.get_logger("warm")

State = Literal["running", "done", "failed", "cancelled"]


@dataclass(frozen=True, slots=True, kw_only=True)
class WarmConfig:
    """Bounds of filling ahead."""

    preheat: bool = True
    """Fetch what a roll brings as soon as it is announced."""
    parallel: int = 2
    """Chunks fetched at once, over all jobs."""
    attempts: int = 4
    """Tries of one chunk that its sources fail to give."""
    retry_s: float = 0.5
    """Pause before the second try; doubles each time."""
    max_jobs: int = 64
    """Jobs that are remembered; beyond, the oldest that ended is forgotten."""


class WarmRequest(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Bring what a channel points at into the cache. No variant: every file. ``pin``: and keep it,
    also after each roll."""

    model: str
    channel: str = DEFAULT_CHANNEL
    variant: str = ""
    pin: bool = False


class Job(msgspec.Struct, kw_only=True):
    """What is being fetched, and how far that is. Bytes and chunks are those of the whole job,
    ``fetched_bytes`` what had to come from upstream."""

    id: str
    model: str
    channel: str
    revision: str
    variant: str = ""
    preheat: bool = False
    state: State = "running"
    chunks: int = 0
    done_chunks: int = 0
    bytes: int = 0
    done_bytes: int = 0
    fetched_bytes: int = 0
    code: str = ""
    """Of the error that ended it."""
    reason: str = ""


@dataclass(slots=True)
class _Running:
    job: Job
    task: asyncio.Task[None] | None = field(default=None)


Select = Callable[[Manifest], list[ChunkId]]


class Warmer:
    """The jobs of an edge.

    Args:
        view: what is trusted now; None before the first bundle.
    """

    def __init__(
        self,
        cache: CachingSource,
        pins: Pins,
        view: Callable[[], TrustView | None],
        config: WarmConfig,
    ) -> None:
        self._cache = cache
        self._pins = pins
        self._view = view
        self._config = config
        self._jobs: dict[str, _Running] = {}
        self._slots = asyncio.Semaphore(max(1, config.parallel))
        self._closed = False
        self.on_ended: Callable[[], None] = lambda: None
        """Told of every job that ended, however."""

    def jobs(self) -> list[Job]:
        """All jobs that are remembered, the oldest first."""
        return [running.job for running in self._jobs.values()]

    def job(self, id: str) -> Job:  # noqa: A002
        """Raises ``NotFoundError``."""
        return self._found(id).job

    async def start(self, request: WarmRequest) -> Job:
        """Begin, or join the job that does the same already.

        Raises:
            NotFoundError: no such channel.
            TrustError: the channel is not believed, or nothing is trusted yet.
        """
        view = self._trusted()
        pointer = view.pointer(request.model, request.channel)
        if request.pin:
            await self._pins.keep(request.model, request.channel, request.variant)
            await self._pins.update(view)
        job = Job(
            id=secrets.token_hex(6),
            model=request.model,
            channel=request.channel,
            revision=pointer.revision,
            variant=request.variant,
        )
        wanted = request.variant

        def select(manifest: Manifest) -> list[ChunkId]:
            if wanted:
                manifest.of_variant(wanted)  # refuses one that is not there
            return chunks_of(manifest, (wanted,) if wanted else None)

        return self._begin(job, select)

    async def preheat(self, rolled: Rolled) -> Job | None:
        """Fetch what a roll brings, for those who use the revision before; None where nobody does.

        Raises:
            HeadwaterError: the manifest of the revision before is not to be had.
        """
        if not self._config.preheat:
            return None
        before = await self._manifest(rolled.before)
        job = Job(
            id=secrets.token_hex(6),
            model=rolled.model,
            channel=rolled.channel,
            revision=rolled.revision,
            preheat=True,
        )
        store = self._cache.store
        return self._begin(job, lambda now: chunks_to_preheat(before, now, store.__contains__))

    async def bring(self, model: str, revision: str) -> Job:
        """Fetch a signed revision ahead of a roll, for those who use what the model's channels
        point at now; joins the job that does so already.

        Raises:
            HeadwaterError: it is not signed, or a manifest is not to be had.
        """
        view = self._trusted()
        view.require_revision(model, revision)
        names = {p.revision for p in view.pointers() if p.model == model} - {revision}
        befores = [await self._manifest(name) for name in sorted(names)]
        job = Job(id=secrets.token_hex(6), model=model, channel="", revision=revision, preheat=True)
        is_here = self._cache.store.__contains__

        def select(now: Manifest) -> list[ChunkId]:
            wanted = (chunks_to_preheat(before, now, is_here) for before in befores or [now])
            return list(dict.fromkeys(chunk for chunks in wanted for chunk in chunks))

        return self._begin(job, select)

    async def cancel(self, id: str) -> Job:  # noqa: A002
        """Stop a job; what it fetched stays. Raises ``NotFoundError``."""
        running = self._found(id)
        if running.task is not None:
            running.task.cancel()
            await asyncio.gather(running.task, return_exceptions=True)
        return running.job

    async def aclose(self) -> None:
        """Stop all jobs; may be called twice."""
        self._closed = True
        tasks = [running.task for running in self._jobs.values() if running.task is not None]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    def _begin(self, job: Job, select: Select) -> Job:
        for other in self.jobs():
            if other.state == "running" and _same(other, job):
                return other
        if self._closed:
            raise SourceUnavailableError("this edge is stopping")
        self._make_room()
        running = self._jobs[job.id] = _Running(job)
        running.task = asyncio.create_task(self._run(job, select), name=f"warm {job.id}")
        running.task.add_done_callback(partial(self._ended, job))
        return job

    def _make_room(self) -> None:
        ended = [key for key, running in self._jobs.items() if running.job.state != "running"]
        if len(self._jobs) < self._config.max_jobs:
            return
        if not ended:
            raise SourceUnavailableError(f"{len(self._jobs)} jobs run already; wait for one")
        del self._jobs[ended[0]]

    async def _run(self, job: Job, select: Select) -> None:
        try:
            await self._fill(job, select)
            job.state = "done"
        except asyncio.CancelledError:
            job.state = "cancelled"
            raise
        except HeadwaterError as error:
            self._failed(job, error.code, error.message)

    def _ended(self, job: Job, task: asyncio.Task[None]) -> None:
        error = None if task.cancelled() else task.exception()
        if error is not None:
            self._failed(job, "internal_error", type(error).__name__)
            _log.error("warm-up died", job=job.id, exc_info=error)
        self.on_ended()

    def _failed(self, job: Job, code: str, reason: str) -> None:
        job.state, job.code, job.reason = "failed", code, reason
        _log.warning("warm-up failed", model=job.model, revision=job.revision, reason=reason)

    async def _fill(self, job: Job, select: Select) -> None:
        self._trusted().require_revision(job.model, job.revision)
        manifest = await self._manifest(job.revision)
        known = manifest.chunk_refs()
        refs = [known[wanted] for wanted in select(manifest)]
        job.chunks, job.bytes = len(refs), sum(ref.size for ref in refs)
        capacity = self._cache.store.stats.capacity_bytes
        if job.bytes > capacity:
            raise TooLargeError(
                f"{job.bytes} B do not fit into the cache of {capacity} B; raise "
                "edge.cache.store.cache_bytes, or name a variant"
            )
        todo = iter(refs)
        try:
            async with asyncio.TaskGroup() as group:
                for _ in range(max(1, self._config.parallel)):
                    group.create_task(self._work(job, todo), name=f"warm {job.id}")
        except ExceptionGroup as errors:
            raise errors.exceptions[0] from None

    async def _work(self, job: Job, todo: Iterator[ChunkRef]) -> None:
        for ref in todo:  # shared: each worker takes the next
            if ref.id not in self._cache.store:
                async with self._slots:
                    fetched_bytes = await self._fetch(ref.id)
                job.fetched_bytes += fetched_bytes  # not in one line: += reads before it waits
            job.done_chunks += 1
            job.done_bytes += ref.size

    async def _fetch(self, id: ChunkId) -> int:  # noqa: A002
        for attempt in range(1, self._config.attempts):
            try:
                return await self._cache.warm(id)
            except SourceUnavailableError:
                await asyncio.sleep(self._config.retry_s * 2 ** (attempt - 1))
        return await self._cache.warm(id)

    async def _manifest(self, revision: str) -> Manifest:
        body = await self._cache.manifest(revision)
        return await asyncio.to_thread(decode, body, revision)

    def _trusted(self) -> TrustView:
        view = self._view()
        if view is None:
            raise TrustError("no verified trust metadata yet")
        return view

    def _found(self, id: str) -> _Running:  # noqa: A002
        if id not in self._jobs:
            raise NotFoundError(f"no warm-up {id[:40]!r}; see GET {ADMIN}/warm")
        return self._jobs[id]


def _same(one: Job, other: Job) -> bool:
    return (one.revision, one.variant, one.preheat) == (
        other.revision,
        other.variant,
        other.preheat,
    )
