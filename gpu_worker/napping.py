"""Prepares the revisions of a model that need not be in memory: within the budget, or asleep.

Between a roll and its engines. What a roll brings for a model that sleeps is pulled and checked,
and sleeps on: it is loaded, and proves itself, when the first request wants it.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Protocol, TypeVar

import structlog

from gpu_worker.asleep import Asleep
from gpu_worker.check import ModelFiles
from gpu_worker.config import WorkerConfig
from gpu_worker.disk import ModelFolder
from gpu_worker.engine import Engine
from gpu_worker.errors import LoadFailedError, NoRoomError
from gpu_worker.faults import Tally
from gpu_worker.hardware import Hardware
from gpu_worker.keeper import Keeper, Tenant
from gpu_worker.memory import free_memory_bytes
from gpu_worker.prepare import CountedSource, EngineFactory, Preparation
from gpu_worker.waterfall import Waterfall

_log = structlog.get_logger("napping")


class Sleeper(Tenant, Protocol):
    """A tenant that knows whether it should be in memory."""

    @property
    def should_load(self) -> bool:
        """Whether a new engine should be loaded at all."""
        ...

    @property
    def may_evict(self) -> bool:
        """Whether others may have to sleep for that."""
        ...

    def settled_in(self, engine: Engine) -> None:
        """An engine was loaded."""
        ...


class NappingPreparation(Preparation):
    """A preparation whose engines may sleep."""

    def __init__(
        self,
        config: WorkerConfig,
        source: CountedSource,
        executor: ThreadPoolExecutor,
        make_engine: EngineFactory,
        *,
        keeper: Keeper,
        tenant: Sleeper,
        folder: ModelFolder | None = None,
        on_pull: Callable[[], None] = lambda: None,
        on_gpu: bool = False,
        hardware: Hardware | None = None,
        free_memory: Callable[[], int] = free_memory_bytes,
        tally: Tally | None = None,
    ) -> None:
        super().__init__(
            config,
            source,
            executor,
            make_engine,
            folder=folder,
            on_pull=on_pull,
            on_gpu=on_gpu,
            hardware=hardware,
            free_memory=free_memory,
            tally=tally,
        )
        self._model = config.model
        self._keeper = keeper
        self._tenant = tenant
        self._features: frozenset[str] = frozenset()
        self._variants: OrderedDict[str, str] = OrderedDict()
        self._failed: OrderedDict[str, None] = OrderedDict()

    def variant(self, revision: str) -> str:
        """Which variant of a revision was prepared; empty where it has none."""
        return self._variants.get(revision, "")

    async def files(self, revision: str, waterfall: Waterfall) -> ModelFiles:
        files = await super().files(revision, waterfall)
        _remember(self._variants, revision, files.variant)
        return files

    async def engine(self, files: ModelFiles, revision: str, waterfall: Waterfall) -> Engine:
        """For a roll: a loaded engine where the model should be in memory and has room there, else
        one that sleeps. What failed to load before must prove itself, whoever sleeps.

        Raises:
            LoadFailedError: as ``Preparation.engine``.
        """
        if self._tenant.should_load or revision in self._failed:
            try:
                return await self.load(files, revision, waterfall, evict=self._tenant.may_evict)
            except NoRoomError as error:
                _log.info("sleeps", model=self._model, revision=revision, why=error.message)
        return self.sleeper(revision)

    async def load(
        self,
        files: ModelFiles,
        revision: str,
        waterfall: Waterfall,
        *,
        evict: bool = True,
        wait_s: float = 0.0,
    ) -> Engine:
        """A loaded engine that has proven itself.

        Args:
            evict, wait_s: as ``Keeper.admit``.

        Raises:
            NoRoomError: it would not fit the budget now.
            LoadFailedError: as ``Preparation.engine``.
        """
        size_bytes = files.needs(self._config.memory_headroom)
        stay = await self._keeper.admit(self._tenant, size_bytes, evict=evict, wait_s=wait_s)
        try:
            engine = await super().engine(files, revision, waterfall)
        except BaseException as error:
            self._keeper.leave(stay)
            if isinstance(error, LoadFailedError):
                _remember(self._failed, revision, None)
            raise
        self._keeper.settle(stay, engine)
        self._features = engine.features
        self._failed.pop(revision, None)
        self._tenant.settled_in(engine)
        return engine

    def sleeper(self, revision: str) -> Asleep:
        """A revision on disk, asleep."""
        return Asleep(self._model, revision, self._features)


_KEPT = 8
"""Revisions that something is remembered of."""
T = TypeVar("T")


def _remember(known: OrderedDict[str, T], revision: str, value: T) -> None:
    known[revision] = value
    known.move_to_end(revision)
    if len(known) > _KEPT:
        known.popitem(last=False)
