"""Boot and roll: does what :mod:`gpu_worker.roll_rules` says, and tells it what came of it.

All rules are there. Here is what they need of the world: trust metadata, the pull, engines, memory,
and the engine that serves.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Coroutine
from contextlib import suppress
from dataclasses import dataclass
from typing import Any, get_args

import structlog

from gpu_worker.check import ModelFiles
from gpu_worker.config import WorkerConfig
from gpu_worker.engine import Engine
from gpu_worker.errors import LoadFailedError
from gpu_worker.looking import look_at, told
from gpu_worker.prepare import Preparation
from gpu_worker.retiring import Retiring
from gpu_worker.roll_events import (
    Action,
    Event,
    Failed,
    Flip,
    Flipped,
    GivenUp,
    GiveUp,
    ListDisk,
    Load,
    Looked,
    MakeRoom,
    MovedOn,
    OnDisk,
    Proven,
    Pull,
    Pulled,
    Rest,
    Restart,
    RoomMade,
    Tidied,
    Tidy,
)
from gpu_worker.roll_rules import RollRules, RuleBrokenError
from gpu_worker.serving import Serving
from gpu_worker.waterfall import Waterfall
from gpu_worker.waterfalls import Waterfalls
from wire.errors import HeadwaterError
from wire.trust_client import TrustClient
from wire.workers import Fault, Phase

_log = structlog.get_logger("roll")
_PHASES: dict[str, Phase] = {name: name for name in get_args(Phase)}
_FRESH_LOOK_S = 1.0
"""A look that is older is repeated before room is made, and before the flip."""
FreeMemory = Callable[[], int]
"""Bytes of main memory that could be used now."""


@dataclass(slots=True)
class _Attempt:
    """One revision on its way. ``looked_s``: when the pointer was last seen to name it."""

    waterfall: Waterfall
    looked_s: float
    begun: bool = False
    files: ModelFiles | None = None
    engine: Engine | None = None
    """Loaded and proven, and not yet in service."""


class Roller:
    """Follows one channel and keeps its revision in service.

    Args:
        prepare: gives engines that have proven themselves.
        free_memory: decides whether two models fit at once.
        on_change: called when there is something new to tell the edges.
        clock: monotonic seconds.
        name: the worker's stable name in the fleet, by which it belongs to a canary's share or
            not; the configured one where none is given.
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
        waterfalls: Waterfalls | None = None,
        clock: Callable[[], float] = time.monotonic,
        name: str = "",
    ) -> None:
        self._config = config
        self._serving = serving
        self._prepare = prepare
        self._trust = trust
        self._free_memory = free_memory
        self._on_change = on_change
        self._clock = clock
        self._rules = RollRules(name or config.name, retry_failed_s=config.retry_failed_s)
        self._turn = asyncio.Lock()
        self._news = asyncio.Event()
        self._attempt: _Attempt | None = None
        self._retiring = Retiring(serving, config.drain_s)
        self.waterfalls = Waterfalls(model=config.model) if waterfalls is None else waterfalls

    @property
    def revision(self) -> str:
        """The revision that serves; empty before the first."""
        engine = self._serving.engine
        return engine.revision if engine is not None else ""

    @property
    def reason(self) -> str:
        """Why the last boot or roll failed, or the trust is stale; empty when all is well."""
        return self._rules.reason

    @property
    def failures(self) -> int:
        """Looks in a row that failed."""
        return self._rules.failures

    @property
    def target(self) -> str:
        """The revision that a boot or roll is bringing; empty while none is."""
        return self._rules.target

    @property
    def phase(self) -> Phase:
        """What it is doing just now."""
        if self._rules.step == "making_room":
            return "make_room"
        if self._rules.target and self._attempt is not None:
            return _PHASES.get(self._attempt.waterfall.running, "")
        return "drain" if self._retiring.running and not self._rules.target else ""

    @property
    def missing_bytes(self) -> int:
        """Of the target: what has not arrived yet."""
        if not self._rules.target or self._attempt is None:
            return 0
        return self._attempt.waterfall.missing_bytes

    @property
    def refused(self) -> str:
        """The revision that would not load or failed its probe; empty where none did."""
        return self._rules.refused.revision if self._rules.refused is not None else ""

    @property
    def fault(self) -> Fault:
        """What ended the last engine that did not come up; empty where none did."""
        return self._rules.fault

    @property
    def canary(self) -> bool:
        """Whether this worker belongs to the share that tries the canary of now."""
        return self._rules.canary

    async def look(self) -> None:
        """Bring what the signed channel names into service, if it is not there already.

        Never raises for a bad source or revision: what serves goes on, and ``reason`` says why.
        """
        async with self._turn:
            await self._follow()

    async def restart(self, *, fresh_files: bool = False) -> str:
        """Bring the revision that serves up again in a new engine, as an operator wants it; where
        nothing serves, forget what was refused and try at once.

        Args:
            fresh_files: bring the files again, too.

        Returns:
            Why it was not done; empty where it was.
        """
        async with self._turn:
            await self._follow(restart=True, fresh=fresh_files)
            return self._rules.problem or ("" if self._alive else self.reason)

    def poke(self) -> None:
        """There may be news of the channel: what is being brought may be wanted no more."""
        self._news.set()

    async def aclose(self) -> None:
        """Take nothing new, let running streams finish to the deadline, then stop all engines."""
        if (engine := self._serving.engine) is not None:
            self._retiring.soon(engine)
        await self._retiring.aclose()

    async def _follow(self, *, restart: bool = False, fresh: bool = False) -> None:
        """Look, and do what the rules say until they rest; again where the pointer moved on."""
        before, again = self.reason, True
        while again:
            self._news.clear()
            self._attempt = _Attempt(self.waterfalls.begin(), self._clock())
            event: Event
            with self._attempt.waterfall.step("trust"):
                event = await look_at(self._trust, self._config.model, self._config.channel)
            if restart and isinstance(event, Looked):
                event = Restart(event, fresh)
            restart = False
            again = await self._run(event)
        if self.reason != before:
            log = _log.error if self.reason else _log.info
            log("roll", model=self._config.model, revision=self.revision, reason=self.reason)
        self._on_change()

    async def _run(self, event: Event) -> bool:
        """From one event to rest; returns whether to look again at once."""
        try:
            while True:
                action = self._rules.on(event, alive=self._alive, now_s=self._clock())
                if isinstance(action, Rest):
                    return action.again
                event = await self._outcome(action)
                if isinstance(event, Failed | MovedOn):
                    why = event.why if isinstance(event, Failed) else "the channel moved on"
                    self.waterfalls.failed(self._current().waterfall, why)
        finally:
            self.waterfalls.failed(self._current().waterfall, "cut off")
            self._rules.abandon()
            await self._drop_engine()
            self._attempt = None

    async def _outcome(self, action: Action) -> Event:
        try:
            return await self._do(action)
        except HeadwaterError as error:
            await self._drop_engine()
            refuses = isinstance(error, LoadFailedError)
            fault: Fault = (error.fault or "crashed") if isinstance(error, LoadFailedError) else ""
            failed = Failed(told(error), refuses, fault)
            _log.warning("roll step failed", step=self._rules.step, reason=failed.why)
            return failed
        except Exception as error:  # noqa: BLE001 - logged; nobody may be left without an engine
            _log.exception("roll step broke", step=self._rules.step)
            await self._drop_engine()
            why = f"unexpected: {type(error).__name__}: {error}"
            loading = self._rules.step == "loading"
            return Failed(why, loading, "crashed" if loading else "")

    async def _do(self, action: Action) -> Event:
        match action:
            case Pull(revision, fresh):
                return await self._unless_moved(self._pull(revision, fresh=fresh))
            case MakeRoom():
                return await self._make_room()
            case Load(revision):
                return await self._unless_moved(self._load(revision))
            case Flip():
                return self._flip()
            case Tidy(serving, previous, also):
                await self._prepare.tidy(serving, previous, also)
                return Tidied()
            case ListDisk():
                return OnDisk(tuple(await self._prepare.older()))
            case GiveUp(why):
                self._serving.fail(why)
                return GivenUp()
        raise RuleBrokenError(f"nothing is known of {type(action).__name__}")

    # What the actions are

    async def _pull(self, revision: str, *, fresh: bool) -> Event:
        attempt = self._current()
        if attempt.begun:  # the next one, falling back
            attempt = self._attempt = _Attempt(self.waterfalls.begin(), attempt.looked_s)
        attempt.begun = True
        self.waterfalls.rolls(attempt.waterfall, revision, previous=self.revision)
        get = self._prepare.fresh_files if fresh else self._prepare.files
        attempt.files = await get(revision, attempt.waterfall)
        # What stands in memory already is used where it stands.
        there = attempt.files.size if self._config.weights_in_memory else 0
        needed = attempt.files.needs(self._config.memory_headroom) - there
        room = self._free_memory() >= needed
        if self._alive and not room:
            if await self._is_out_of_date():
                return MovedOn()
            _log.warning("no memory for two models; draining first", needed_bytes=needed)
        return Pulled(room)

    async def _make_room(self) -> Event:
        """The old one drains and stops first; its end is no failure then."""
        old = self._serving.engine
        if old is not None:
            self._serving.pause("making room for a new revision")
            self._on_change()
            with self._current().waterfall.step("make_room"):
                await self._serving.drain(old, self._config.drain_s)
                self._serving.vacate()
                await old.aclose()
        return RoomMade()

    async def _load(self, revision: str) -> Event:
        attempt = self._current()
        if attempt.files is None:
            raise RuleBrokenError("nothing was pulled")
        attempt.engine = await self._prepare.engine(attempt.files, revision, attempt.waterfall)
        if await self._is_out_of_date():
            await self._drop_engine()
            return MovedOn()
        engine = attempt.engine
        if engine.dead.done():  # since its proof
            raise LoadFailedError(f"{revision[:12]}: {engine.dead.result()}", fault=engine.fault)
        return Proven()

    def _flip(self) -> Event:
        """Put the engine that has proven itself in service; the one before it retires."""
        attempt = self._current()
        engine, attempt.engine = attempt.engine, None
        if engine is None:
            raise RuleBrokenError("nothing was loaded")
        with attempt.waterfall.step("flip"):
            old = self._serving.flip(engine)
        engine.dead.add_done_callback(lambda _dead: self._on_change())
        self.waterfalls.keep(attempt.waterfall)
        self._on_change()
        if old is not None:
            self._retiring.soon(old, attempt.waterfall)
        return Flipped()

    async def _unless_moved(self, work: Coroutine[Any, Any, Event]) -> Event:
        """What comes of ``work``; it is given up where news say that it is wanted no more."""
        task = asyncio.create_task(work, name="roll-step")
        try:
            while not task.done():
                news = asyncio.create_task(self._news.wait(), name="roll-news")
                try:
                    await asyncio.wait({task, news}, return_when=asyncio.FIRST_COMPLETED)
                finally:
                    news.cancel()
                if not task.done() and self._news.is_set():
                    self._news.clear()
                    if await self._has_moved():
                        return MovedOn()
            return task.result()
        finally:
            if not task.done():
                task.cancel()
                await asyncio.gather(task, return_exceptions=True)

    async def _is_out_of_date(self) -> bool:
        """Whether the pointer has moved since it was seen, where that is a while ago. Asked before
        what costs the engine that serves its place."""
        old = self._clock() - self._current().looked_s >= _FRESH_LOOK_S
        return old and await self._has_moved()

    async def _has_moved(self) -> bool:
        """Whether the newest pointer no longer names what is being brought. Where it cannot be had
        soon, the one that was seen holds."""
        with suppress(HeadwaterError, TimeoutError):
            async with asyncio.timeout(_FRESH_LOOK_S):
                view = await self._trust.refresh()
            pointer = view.channels.get((self._config.model, self._config.channel))
            self._current().looked_s = self._clock()
            return pointer is not None and self._rules.has_moved(pointer)
        return False

    @property
    def _alive(self) -> bool:
        engine = self._serving.engine
        return engine is not None and not engine.dead.done()

    def _current(self) -> _Attempt:
        if self._attempt is None:
            raise RuleBrokenError("no look is under way")
        return self._attempt

    async def _drop_engine(self) -> None:
        """Close an engine that was loaded and will not serve."""
        if self._attempt is not None and self._attempt.engine is not None:
            engine, self._attempt.engine = self._attempt.engine, None
            await engine.aclose()
