"""Models of one worker without a network: a signed source, a keeper, and fake engines."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from gpu_worker.config import ModelConfig, WorkerConfig
from gpu_worker.disk import ModelFolder
from gpu_worker.keeper import Keeper
from gpu_worker.order import EngineOrder
from gpu_worker.pull import PullConfig
from gpu_worker.resident import Household, Resident
from tests.fakes.clock import ManualClock
from tests.fakes.revisions import SignedSource
from tests.fakes.rolling import Faults, RollingEngine
from tests.fakes.waiting import until
from wire.sources.failover import Failover
from wire.trust_client import TrustClient
from wire.trust_store import TrustStore


class House:
    """What the residents share. ``engines`` are all that were ever made, in order."""

    def __init__(
        self, folder: Path, executor: ThreadPoolExecutor, budget_bytes: int | None = None
    ) -> None:
        self.wall = ManualClock(2e9)
        self.source = SignedSource(clock=self.wall)
        self.engines: list[RollingEngine] = []
        self.faults: dict[str, Faults] = {}
        self.changes = 0
        self.config = WorkerConfig(
            models_dir=folder / "models",
            pull=PullConfig(busy_poll_s=0.001),
            drain_s=60,
            room_wait_s=60,
        )
        sources = Failover([self.source])
        store = TrustStore(folder / "trust", self.source.root, clock=self.wall)
        self.household = Household(
            name="gpu-1",
            source=sources,
            disk=executor,
            trust=TrustClient(sources, store),
            keeper=Keeper(budget_bytes),
            free_memory=lambda: 1 << 40,
            folder=ModelFolder(folder / "models"),
        )

    def resident(self, model: ModelConfig) -> Resident:
        """A model that lives here; it looks when it is told to."""
        return Resident(
            model,
            self.config.of(model),
            self.household,
            self._make_engine,
            on_change=self._count_change,
        )

    async def until_made(self, count: int) -> RollingEngine:
        """Wait until the ``count``-th engine (from 1) is starting."""
        await until(lambda: len(self.engines) >= count)
        await self.engines[count - 1].starting.wait()
        return self.engines[count - 1]

    def _make_engine(self, order: EngineOrder) -> RollingEngine:
        self.engines.append(RollingEngine(order, self.faults.get(order.revision, Faults())))
        return self.engines[-1]

    def _count_change(self) -> None:
        self.changes += 1
