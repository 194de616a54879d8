"""Boot and roll: bring a revision into service, and keep the old one until it has proven itself.

The rules, all of them here. A revision is pulled beside the one that serves, checked, loaded beside
it where memory allows (else the old one drains first and the edge routes around), asked a golden
question, and only then does one assignment make it the one that serves. Streams finish on the
engine they began on, to a deadline. A failure at any step leaves the old revision serving (or
starts it again, where it had to stop), is reported, and the same pointer is not tried again for a
while. Events only say when to look; what holds is the signed pointer.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from dataclasses import dataclass

import structlog

from gpu_worker.config import WorkerConfig
from gpu_worker.engine import Engine
from gpu_worker.errors import LoadFailedError
from gpu_worker.prepare import Preparation
from gpu_worker.serving import Serving
from gpu_worker.waterfall import Waterfall
from wire.channel import ChannelPointer
from wire.errors import HeadwaterError
from wire.trust import TrustView
from wire.trust_client import TrustClient
from wire.workers import Fault

_log = structlog.get_logger("roll")
_KEPT_ROLLS = 8
FreeMemory = Callable[[], int]
"""Bytes of main memory that could be used now."""


@dataclass(frozen=True, slots=True)
class _Refused:
    """A pointer whose revision would not load. A pointer that moved, be it back and forth, is
    another one and is tried at once."""

    pointer: ChannelPointer
    retry_at_s: float
    reason: str


class Roller:
    """Follows one channel and keeps its revision in service.

    Args:
        prepare: gives engines that have proven themselves.
        free_memory: decides whether two models fit at once.
        on_change: called when there is something new to tell the edges.
        clock: monotonic seconds.
    """

    def __init__(
        self,
        config: WorkerConfig,
        serving: Serving,
        prepare: Preparation,
        trust: TrustClient,
        *,
        free_memory: FreeMemory,
        on_change: Callable[[], None] = lambda: None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._config = config
        self._serving = serving
        self._prepare = prepare
        self._trust = trust
        self._free_memory = free_memory
        self._on_change = on_change
        self._clock = clock
        self._turn = asyncio.Lock()
        self._refused: _Refused | None = None
        self._good = ""
        self._retiring: set[asyncio.Task[None]] = set()
        self.reason = ""
        """Why the last boot or roll failed, or the trust is stale; empty when all is well."""
        self.fault: Fault = ""
        """What ended the engine of the last revision that would not load."""
        self.failures = 0
        """Looks in a row that failed."""
        self.waterfalls: list[Waterfall] = []
        """The boot first, then the latest rolls (bounded)."""

    @property
    def revision(self) -> str:
        """The revision that serves; empty before the first."""
        engine = self._serving.engine
        return engine.revision if engine is not None else ""

    async def look(self) -> None:
        """Bring what the signed channel names into service, if it is not there already.

        Never raises for a bad source or revision: what serves goes on, and ``reason`` says why.
        """
        async with self._turn:
            before = self.reason
            try:
                self.reason = await self._follow()
                self.failures, self.fault = 0, ""
            except HeadwaterError as error:
                self.reason = _told(error)
                self.failures += 1
                if isinstance(error, LoadFailedError):
                    self.fault = error.fault
                if self._refused is not None and not self._alive:
                    self._serving.fail(self.reason)
            if self.reason != before:
                log = _log.error if self.reason else _log.info
                log("roll", model=self._config.model, revision=self.revision, reason=self.reason)
            self._on_change()

    async def aclose(self) -> None:
        """Take nothing new, let running streams finish to the deadline, then stop all engines."""
        if (engine := self._serving.engine) is not None:
            self._retire_soon(engine)
        if self._retiring:
            await asyncio.wait(self._retiring, timeout=self._config.drain_s)
        for task in self._retiring:
            task.cancel()
        await asyncio.gather(*self._retiring, return_exceptions=True)

    async def _follow(self) -> str:
        """One look; returns what is to be told although nothing went wrong just now."""
        waterfall = Waterfall()
        with waterfall.step("trust"):
            view, doubt = await self._view()
        pointer = view.pointer(self._config.model, self._config.channel)
        view.require_revision(pointer.model, pointer.revision)
        if self._alive and pointer.revision == self.revision:
            self._refused = None
            return doubt
        view.require_grace()
        refused = self._refused
        if refused and refused.pointer == pointer and self._clock() < refused.retry_at_s:
            return refused.reason
        try:
            await self._bring(pointer, waterfall)
        except HeadwaterError:
            if not self._alive:
                await self._fall_back(view, pointer.revision)
            raise
        return doubt

    @property
    def _alive(self) -> bool:
        engine = self._serving.engine
        return engine is not None and not engine.dead.done()

    async def _view(self) -> tuple[TrustView, str]:
        """The newest trusted view; or the one from disk, and why there is no newer one."""
        try:
            return await self._trust.refresh(), ""
        except HeadwaterError as error:
            view = self._trust.view
            if view is None:
                raise
            return view, f"serving what was verified earlier: {_told(error)}"

    async def _bring(self, pointer: ChannelPointer, waterfall: Waterfall) -> None:
        """Pull, check, load, probe, flip, retire the old one, tidy up."""
        previous = self.revision or self._good
        try:
            engine = await self._load(pointer.revision, waterfall)
        except LoadFailedError as error:
            retry_at_s = self._clock() + self._config.retry_failed_s
            self._refused = _Refused(pointer, retry_at_s, _told(error))
            raise
        # Before the flip: who sees the new revision must not read of an old failure.
        self._refused, self.reason = None, ""
        self._put_in_service(engine, waterfall)
        await self._prepare.tidy(engine.revision, previous)

    async def _fall_back(self, view: TrustView, failed: str) -> None:
        """Nothing serves, and the revision that should cannot: start the last good one again, or an
        older one on disk that the publisher still stands for."""
        for revision in dict.fromkeys([self._good, *await self._prepare.older()]):
            if revision == failed or (self._config.model, revision) not in view.revisions:
                continue
            waterfall = Waterfall()
            try:
                engine = await self._load(revision, waterfall)
            except HeadwaterError as error:
                _log.error("no way back", revision=revision, reason=_told(error))
                continue
            self._put_in_service(engine, waterfall)
            return

    async def _load(self, revision: str, waterfall: Waterfall) -> Engine:
        files = await self._prepare.files(revision, waterfall)
        await self._make_room(files.size)
        return await self._prepare.engine(files, revision, waterfall)

    async def _make_room(self, size: int) -> None:
        """Where two models do not fit at once, the old one drains and stops first."""
        old = self._serving.engine
        needed = int(size * self._config.memory_headroom)
        if old is None or old.dead.done() or self._free_memory() >= needed:
            return
        _log.warning("no memory for two models; draining first", needed_bytes=needed)
        self._serving.pause("making room for a new revision")
        self._on_change()
        await self._serving.drain(old, self._config.drain_s)
        self._serving.vacate()
        await old.aclose()

    def _put_in_service(self, engine: Engine, waterfall: Waterfall) -> None:
        """Flip to an engine that has proven itself; the one that served before retires."""
        old = self._serving.flip(engine)
        self._good = engine.revision
        engine.dead.add_done_callback(lambda _dead: self._on_change())
        self.waterfalls.append(waterfall)
        del self.waterfalls[1:-_KEPT_ROLLS]
        self._on_change()
        if old is not None:
            self._retire_soon(old)

    def _retire_soon(self, engine: Engine) -> None:
        task = asyncio.create_task(self._retire(engine), name=f"retire-{engine.revision[:12]}")
        self._retiring.add(task)
        task.add_done_callback(self._retiring.discard)

    async def _retire(self, engine: Engine) -> None:
        """Let an engine's streams finish, to a deadline, then stop it."""
        try:
            left = await self._serving.drain(engine, self._config.drain_s)
            if left:
                _log.warning("streams cut at the deadline", revision=engine.revision, streams=left)
        finally:
            await engine.aclose()


def _told(error: HeadwaterError) -> str:
    return f"{error.code}: {error.message}"
