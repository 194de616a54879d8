"""Pulls a revision to disk: verified, in parallel, resumable, and only what is not here yet.

:func:`pull` reads as the steps. Each chunk is proven when it arrives (``Chunk``), written at its
place in a preallocated file, and claimed; a restart takes up what was claimed and proves it again.
Each of the few fetches that run at the same time has one buffer, which it receives into, over and
over: memory is bounded, and no page of it is touched anew for every chunk.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Collection, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TypeVar

from gpu_worker.disk import ModelFolder, PartialRevision, of_variant
from gpu_worker.disk_files import disk_error
from gpu_worker.errors import BusyError
from gpu_worker.parallelism import Parallelism, ParallelismConfig
from gpu_worker.seeds import Seed, find_seeds
from wire.chunk import ChunkId
from wire.errors import (
    ChunkMismatchError,
    HeadwaterError,
    NotFoundError,
    SourceUnavailableError,
)
from wire.manifest import ChunkRef, decode
from wire.source import Source
from wire.threads import in_thread

T = TypeVar("T")
Refs = dict[ChunkId, ChunkRef]
Progress = Callable[[str, int, int], None]
"""Told of where bytes came from (``disk``, ``seed``, ``net``), how many are here, and the total."""


@dataclass(frozen=True, slots=True, kw_only=True)
class PullConfig:
    """Bounds of a pull."""

    parallelism: ParallelismConfig = field(default_factory=ParallelismConfig)
    """Chunks fetched at the same time."""
    patience: int = 3
    """Chunks in a row that were not to be had before the pull gives up; fewer are set aside."""
    parallel_copies: int = 4
    """Chunks copied from older revisions at the same time."""
    busy_poll_s: float = 0.2
    """How often to look whether somebody else has finished pulling the same revision here."""


@dataclass(slots=True)
class PullReport:
    """Where every byte of a revision came from, and how long each step took.

    Chunks are counted once, however often the revision uses them: the three parts add up to
    ``size``.
    """

    model: str
    revision: str
    path: Path
    variant: str = ""
    size: int = 0
    resumed_bytes: int = 0
    """Found in an earlier, interrupted pull, or the revision was whole already."""
    seeded_bytes: int = 0
    """Copied from older revisions on this disk."""
    fetched_bytes: int = 0
    fetched_chunks: int = 0
    spans_s: dict[str, tuple[float, float]] = field(default_factory=dict)
    """Each step's beginning and end, in seconds of ``time.perf_counter``. ``seed`` and ``fetch``
    overlap."""

    @property
    def steps_ms(self) -> dict[str, float]:
        """Each step's milliseconds."""
        return {step: (end - start) * 1e3 for step, (start, end) in self.spans_s.items()}


async def pull(
    model: str,
    revision: str,
    source: Source,
    folder: ModelFolder,
    executor: ThreadPoolExecutor,
    *,
    variant: str = "",
    config: PullConfig | None = None,
    progress: Progress = lambda *_: None,
) -> PullReport:
    """Bring a revision to disk and return where it stands: whole and proven, but not flushed yet
    (``ModelFolder.flush``).

    The caller has checked that the publisher signed ``revision`` for ``model`` (``wire.trust``).
    Where somebody else is pulling the same revision into the same folder, this waits for them.

    Args:
        variant: bring only the files of this variant (``Manifest.of_variant``).

    Raises:
        DiskFullError: it does not fit; no chunk was fetched.
        DiskError: the disk failed.
        SourceUnavailableError, ChunkMismatchError, NotFoundError, ManifestInvalidError: something
            was not to be had; what arrived stays, and the next pull goes on from there.
    """
    report = PullReport(model, revision, folder.path(model, revision), variant)
    run = _Pull(report, folder, executor, config or PullConfig(), progress)
    if await run.is_whole():
        return report
    with _timed(report, "manifest"):
        data = await source.manifest(revision)
        manifest = await run.blocking(decode, data, revision)
    partial = PartialRevision(folder.partial(model, revision, variant), manifest, variant)
    missing = of_variant(manifest, variant).chunk_refs()
    report.size = _bytes_of(missing)
    try:
        with _timed(report, "open"):
            await run.open(partial)
        if await run.is_whole():
            await run.blocking(partial.discard)
            return report
        with _timed(report, "resume"):
            missing = await run.resume(partial, missing)
        with _timed(report, "find"):
            seeds = await run.find(missing)
        await run.bring(partial, missing, seeds, source)
        with _timed(report, "commit"):
            await run.blocking(partial.commit, report.path, data)
    finally:
        partial.close()
    return report


class _Pull:
    """The steps of one pull; they share the threads, the report and the progress."""

    def __init__(
        self,
        report: PullReport,
        folder: ModelFolder,
        executor: ThreadPoolExecutor,
        config: PullConfig,
        progress: Progress,
    ) -> None:
        self._report = report
        self._folder = folder
        self._executor = executor
        self._config = config
        self._progress = progress
        self._done = 0

    async def blocking(self, work: Callable[..., T], *args: object) -> T:
        try:
            return await in_thread(self._executor, lambda: work(*args))
        except OSError as error:
            raise disk_error(self._folder.root, error) from error

    async def is_whole(self) -> bool:
        """Whether the revision is here already, by an earlier pull or by somebody else's."""
        report = self._report
        manifest = await self.blocking(self._folder.manifest, report.model, report.revision)
        here = await self.blocking(self._folder.variant, report.model, report.revision)
        if manifest is None or here != report.variant:
            return False
        report.size = report.resumed_bytes = _bytes_of(manifest.chunk_refs())
        self._advance("disk", report.size)
        return True

    async def open(self, partial: PartialRevision) -> None:
        while True:
            try:
                report = self._report
                return await self.blocking(
                    self._folder.begin, partial, report.model, report.revision
                )
            except BusyError:
                await asyncio.sleep(self._config.busy_poll_s)

    async def resume(self, partial: PartialRevision, missing: Refs) -> Refs:
        here = await self.blocking(partial.resume)
        self._report.resumed_bytes = sum(missing[chunk].size for chunk in here)
        self._advance("disk", self._report.resumed_bytes)
        return {chunk: ref for chunk, ref in missing.items() if chunk not in here}

    async def find(self, missing: Refs) -> dict[ChunkId, Seed]:
        return await self.blocking(find_seeds, self._folder, self._report.model, set(missing))

    async def bring(
        self, partial: PartialRevision, missing: Refs, seeds: dict[ChunkId, Seed], source: Source
    ) -> None:
        """Copy and fetch at the same time; what turned out not to be in the seeds is fetched
        then."""
        seeded = {chunk: ref for chunk, ref in missing.items() if chunk in seeds}
        others = {chunk: ref for chunk, ref in missing.items() if chunk not in seeds}

        async def copy() -> Refs:
            with _timed(self._report, "seed"):
                return await self.seed(partial, seeded, seeds)

        with _first_failure():
            async with asyncio.TaskGroup() as group:
                copying = group.create_task(copy(), name="pull-seeds")
                with _timed(self._report, "fetch"):
                    await self.fetch(partial, others, source)
                    if rotten := await copying:
                        await self.fetch(partial, rotten, source)

    async def seed(
        self, partial: PartialRevision, missing: Refs, seeds: dict[ChunkId, Seed]
    ) -> Refs:
        rest = dict(missing)

        async def copy(chunk: ChunkId) -> None:
            seed = seeds[chunk]
            if await self.blocking(partial.copy, chunk, seed.path, seed.offset):
                self._report.seeded_bytes += rest.pop(chunk).size
                self._advance("seed", seed.size)

        await self._in_parallel(copy, seeds)
        return rest

    async def fetch(self, partial: PartialRevision, missing: Refs, source: Source) -> None:
        """What was not to be had is set aside, so that it costs only itself, and asked for once
        more at the end. Why it failed at first is what the caller wants to know."""
        failed = await self._fetch_all(partial, missing, source, self._config.patience)
        rest = {chunk: missing[chunk] for chunk in failed}
        again = await self._fetch_all(partial, rest, source, len(rest))
        for chunk in again:
            raise failed[chunk]

    async def _fetch_all(
        self, partial: PartialRevision, missing: Refs, source: Source, patience: int
    ) -> dict[ChunkId, HeadwaterError]:
        """Every fetch in flight has one buffer for all its chunks; their number follows what the
        sources bear (``Parallelism``). The chunks that failed, and why; more than ``patience`` in a
        row raise."""
        queue = iter(missing.values())
        largest = max((ref.size for ref in missing.values()), default=0)
        pace = Parallelism(self._config.parallelism, time.monotonic())
        failed: dict[ChunkId, HeadwaterError] = {}
        running = in_a_row = 0

        async def fetch_some(group: asyncio.TaskGroup) -> None:
            nonlocal running, in_a_row
            buffer = memoryview(bytearray(largest))
            for ref in queue:
                try:
                    await self._fetch_one(partial, source, ref, buffer[: ref.size])
                except (ChunkMismatchError, SourceUnavailableError, NotFoundError) as error:
                    in_a_row += 1
                    if in_a_row > patience:
                        raise
                    failed[ref.id] = error
                    continue
                in_a_row = 0
                pace.delivered(ref.size, time.monotonic())
                start_more(group)
                if running > pace.level:
                    break
            running -= 1

        def start_more(group: asyncio.TaskGroup) -> None:
            nonlocal running
            while running < min(pace.level, len(missing)):
                running += 1
                group.create_task(fetch_some(group), name=f"pull-{running}")

        with _first_failure():
            async with asyncio.TaskGroup() as group:
                start_more(group)
        return failed

    async def _fetch_one(
        self, partial: PartialRevision, source: Source, ref: ChunkRef, buffer: memoryview
    ) -> None:
        fetched = await source.chunk(ref.id, into=buffer)
        await self.blocking(partial.write, fetched.id, fetched.data)
        self._report.fetched_bytes += len(fetched)
        self._report.fetched_chunks += 1
        self._advance("net", len(fetched))

    async def _in_parallel(
        self, work: Callable[[ChunkId], Awaitable[None]], chunks: Collection[ChunkId]
    ) -> None:
        """A few workers share one queue; the first failure stops them all."""
        queue = iter(list(chunks))

        async def worker() -> None:
            for chunk in queue:
                await work(chunk)

        with _first_failure():
            async with asyncio.TaskGroup() as group:
                for number in range(min(self._config.parallel_copies, len(chunks))):
                    group.create_task(worker(), name=f"copy-{number}")

    def _advance(self, origin: str, size: int) -> None:
        if size:
            self._done += size
            self._progress(origin, self._done, self._report.size)


def _bytes_of(refs: Refs) -> int:
    return sum(ref.size for ref in refs.values())


@contextmanager
def _first_failure() -> Iterator[None]:
    """The tasks of a group fail for one reason; the caller wants that, not a group of one."""
    try:
        yield
    except BaseExceptionGroup as failures:
        raise _first(failures) from failures


def _first(failures: BaseExceptionGroup[BaseException]) -> BaseException:
    error = failures.exceptions[0]
    return _first(error) if isinstance(error, BaseExceptionGroup) else error


@contextmanager
def _timed(report: PullReport, step: str) -> Iterator[None]:
    """Add the span of a ``with`` block to the report, also when it fails."""
    start_s = time.perf_counter()
    report.spans_s[step] = (start_s, start_s)  # in the order in which they begin
    try:
        yield
    finally:
        report.spans_s[step] = (start_s, time.perf_counter())
