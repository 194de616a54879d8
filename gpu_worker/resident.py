"""One model of a worker: what serves it, what rolls it, and how it sleeps and wakes.

Whatever takes long goes on beside requests and beside rolls, and looks again at the end whether it
still fits: an engine that was loaded for what has changed meanwhile is closed, never flipped to.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable, Coroutine
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

import structlog

from gpu_worker.asleep import Asleep
from gpu_worker.config import ModelConfig, WorkerConfig
from gpu_worker.disk import ModelFolder
from gpu_worker.engine import Engine
from gpu_worker.errors import LoadFailedError, NoRoomError
from gpu_worker.faults import Tally
from gpu_worker.hardware import Hardware
from gpu_worker.keeper import Keeper
from gpu_worker.memory import PLENTY_BYTES
from gpu_worker.napping import NappingPreparation
from gpu_worker.prepare import CountedSource, EngineFactory
from gpu_worker.residency import gpu_present
from gpu_worker.roll import FreeMemory, Roller
from gpu_worker.serving import Serving, ServingConfig
from gpu_worker.waterfall import Waterfall
from gpu_worker.waterfalls import Waterfalls
from wire.errors import HeadwaterError
from wire.http_server import guard
from wire.trust import TrustView
from wire.trust_client import TrustClient

_log = structlog.get_logger("resident")


@dataclass(frozen=True, slots=True, kw_only=True)
class Household:
    """What all models of a worker share."""

    name: str
    """The worker's stable name in the fleet."""
    source: CountedSource
    disk: ThreadPoolExecutor
    trust: TrustClient
    keeper: Keeper
    free_memory: FreeMemory
    folder: ModelFolder
    hardware: Hardware | None = None
    on_pull: Callable[[], None] = lambda: None
    """As of ``Preparation``."""
    started_s: float | None = None
    """As of ``Waterfalls``."""


class Resident:
    """A model of this worker (``gpu_worker.keeper.Tenant``).

    Args:
        config: of this model, as if it were the only one.
        on_change: there is something new to tell the edges.
    """

    def __init__(
        self,
        model: ModelConfig,
        config: WorkerConfig,
        house: Household,
        make_engine: EngineFactory,
        *,
        on_change: Callable[[], None],
    ) -> None:
        self.name = model.model
        self.config = config
        self.idle_unload_s = model.idle_unload_s
        self._pinned = model.pinned
        self._house = house
        self._on_change = on_change
        self.serving = Serving(
            ServingConfig(queue_requests=config.max_queue, wake_timeout_s=config.wake_timeout_s),
            on_wanted=self.rouse,
            on_idle=house.keeper.idle,
        )
        self.tally = Tally()
        self.prepare = NappingPreparation(
            config,
            house.source,
            house.disk,
            make_engine,
            keeper=house.keeper,
            tenant=self,
            folder=house.folder,
            on_pull=house.on_pull,
            on_gpu=gpu_present() and config.engine.gpu_layers != 0,
            hardware=house.hardware,
            free_memory=house.free_memory,
            tally=self.tally,
        )
        self.roller = Roller(
            config,
            self.serving,
            self.prepare,
            house.trust,
            free_memory=self._free_memory,
            on_change=on_change,
            waterfalls=Waterfalls(model=model.model, started_s=house.started_s),
            name=house.name,
        )
        self._news = asyncio.Event()
        self._tasks: set[asyncio.Task[None]] = set()
        self._looking: asyncio.Task[None] | None = None
        self._waking: asyncio.Task[None] | None = None
        self._proving = False
        self.wakes = 0
        """How often it was woken."""
        house.keeper.add(self)

    # What the keeper and a roll ask.

    @property
    def pinned(self) -> bool:
        """Beyond the offline grace nothing may be started, so what runs must not sleep either."""
        view = self._house.trust.view
        return self._pinned or (view is not None and view.state == "beyond_grace")

    @property
    def should_load(self) -> bool:
        return not isinstance(self.serving.engine, Asleep) or self._wanted

    @property
    def may_evict(self) -> bool:
        """At the first boot a model takes only what is free; later it has a right to its place."""
        return self._wanted or bool(self.roller.waterfalls)

    @property
    def _wanted(self) -> bool:
        return self._pinned or self._proving or self.serving.load().queue > 0

    def settled_in(self, engine: Engine) -> None:
        engine.dead.add_done_callback(lambda _dead: self._ended(engine))

    def doze(self, engine: Engine) -> asyncio.Task[None]:
        """Go to sleep at once; the task has closed the engine when it is done."""
        if self.serving.engine is engine:
            self.serving.flip(self.prepare.sleeper(engine.revision))
        self._on_change()
        return self._keep(f"doze-{self.name}", engine.aclose())

    def rouse(self) -> None:
        """Wake up where it sleeps and nobody is at it."""
        asleep = isinstance(self.serving.engine, Asleep) and self.serving.state == "asleep"
        if asleep and not self.waking:
            self._waking = self._keep(f"wake-{self.name}", self._wake())

    @property
    def waking(self) -> bool:
        """Whether it is being brought back to memory."""
        return self._waking is not None and not self._waking.done()

    # Its life.

    def look(self) -> None:
        """There may be news of the channel."""
        self._news.set()
        self.roller.poke()

    def begin(self) -> None:
        """Follow the channel from now on."""
        self._looking = asyncio.create_task(
            guard(f"look-{self.name}", self._look_always()), name=f"look-{self.name}"
        )

    async def stop(self, why: str) -> None:
        """Take nothing new, and begin nothing: neither a roll nor a load that is under way."""
        self.serving.hold(why)  # whatever is flipped to
        self.serving.pause(why)
        tasks = [task for task in (self._looking, self._waking) if task is not None]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    async def aclose(self) -> None:
        """Let running streams finish to the deadline, then close all engines."""
        await self.roller.aclose()
        if self._tasks:
            await asyncio.wait(self._tasks, timeout=self.config.drain_s)
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    # What an operator can want.

    async def restart(self, *, fresh_files: bool = False) -> str:
        """Another engine of the revision that serves in place of its engine: beside it where
        memory allows, else it drains first. What sleeps has none.

        Args:
            fresh_files: bring the files again first, from the sources. The engine that runs goes
                on with those that it has open.

        Returns:
            Why it was not done; empty where it was.
        """
        if isinstance(self.serving.engine, Asleep) and not fresh_files:
            return ""
        problem = await self.roller.restart(fresh_files=fresh_files)
        if self.serving.engine is None:
            self._news.set()  # it had to make room, and nothing came: the next look tries again
        return problem

    async def _wake(self) -> None:
        """Load what sleeps; what sleeps may be another revision by then."""
        while isinstance(asleep := self.serving.engine, Asleep) and not asleep.dead.done():
            try:
                engine = await self._load(asleep)
            except LoadFailedError as error:
                # As any engine that keeps dying: the next look finds a way, or a way back.
                self._proving = True
                asleep.give_up(error.message)
                self._news.set()
                return
            except HeadwaterError as error:
                retry_after_s = error.retry_after_s if isinstance(error, NoRoomError) else 1
                self.serving.refuse_waiting(error.message, retry_after_s=retry_after_s)
                return
            except Exception as error:  # noqa: BLE001 - logged; who waits must not wait in vain
                _log.exception("wake broke", model=self.name)
                self.serving.refuse_waiting(f"unexpected: {type(error).__name__}")
                return
            if self.serving.engine is asleep:
                self.wakes += 1
                self.serving.flip(engine)
                self._on_change()
                await asleep.aclose()
            else:
                await engine.aclose()

    async def _load(self, asleep: Asleep) -> Engine:
        self._require_grace()
        waterfall = Waterfall()
        files = await self.prepare.files(asleep.revision, waterfall)
        wait_s = self.config.room_wait_s if self.serving.load().queue else 0.0
        engine = await self.prepare.load(files, asleep.revision, waterfall, wait_s=wait_s)
        _log.info("woke", model=self.name, revision=asleep.revision, steps_ms=waterfall.steps_ms)
        return engine

    def _require_grace(self) -> None:
        view: TrustView | None = self._house.trust.view
        if view is not None:
            view.require_grace()

    def _free_memory(self) -> int:
        """For a roll: where the model sleeps, nothing will be loaded beside anything."""
        if isinstance(self.serving.engine, Asleep):
            return PLENTY_BYTES
        return self._house.keeper.room_bytes(self, self._house.free_memory())

    def _ended(self, engine: Engine) -> None:
        """An engine is given up, or closed."""
        if self.serving.engine is engine:
            self._news.set()

    async def _look_always(self) -> None:
        """Look at the channel at the start, at every event, and now and then without one."""
        while True:
            proving = self._proving
            try:
                await self.roller.look()
            except Exception:  # noqa: BLE001 - logged, and the next look follows
                # Whatever is wrong with one look, a worker must not stop following its channel.
                _log.exception("look failed", model=self.name)
            if proving:
                self._proving = False
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(self._wait_s()):
                    await self._news.wait()
            self._news.clear()

    def _wait_s(self) -> float:
        """A worker that serves nothing yet looks often, at first; others can wait for news."""
        if self.roller.revision:
            return self.config.revalidate_s
        return min(0.25 * 2.0 ** min(self.roller.failures, 16), self.config.revalidate_s)

    def _keep(self, name: str, work: Coroutine[Any, Any, None]) -> asyncio.Task[None]:
        task = asyncio.create_task(guard(name, work), name=name)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return task
