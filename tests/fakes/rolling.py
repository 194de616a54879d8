"""A worker's insides without a network: one signed source, engines that fail on demand, a clock."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from pathlib import Path

from gpu_worker.config import WorkerConfig
from gpu_worker.disk import ModelFolder
from gpu_worker.engine import EngineError, Probe
from gpu_worker.order import EngineOrder
from gpu_worker.prepare import Preparation
from gpu_worker.pull import PullConfig
from gpu_worker.roll import Roller
from gpu_worker.serving import Serving
from tests.fakes import raw_gguf
from tests.fakes.clock import ManualClock
from tests.fakes.engine import FakeEngine
from tests.fakes.revisions import Revision, SignedSource, make_revision
from tests.fakes.waiting import until
from wire.channel import Canary
from wire.golden import Expectations, Verdict
from wire.sources.failover import Failover
from wire.trust_client import TrustClient
from wire.trust_store import TrustStore
from wire.workers import Fault

WORKER = "gpu-7"


def share_of(worker: str, revision: str, *, inside: bool) -> Canary:
    """A canary that takes this worker, or does not."""
    shares = (Canary(revision=revision, percent=10, seed=seed) for seed in range(999))
    return next(share for share in shares if share.takes(worker) == inside)


def model(number: int, name: str = "chat") -> Revision:
    """A revision with a GGUF in three chunks, the last of which is its own."""
    keys = [raw_gguf.text_key("general.architecture", "llama")]
    header = raw_gguf.header(keys, [raw_gguf.tensor("blk.0.w", (300,))])
    weights = [bytes(800), number.to_bytes(8, "big") * 50]
    return make_revision({"model.gguf": [header, *weights]}, model=name)


def broken_model() -> Revision:
    """A revision whose weights are no GGUF."""
    return make_revision({"model.gguf": [b"no model"]})


@dataclass
class Faults:
    """What goes wrong with the engines of a revision."""

    make: Exception | None = None
    start: EngineError | None = None
    probe: Exception | None = None
    fault: Fault = ""
    """What its supervisor names while it is probed."""
    hang: bool = False
    slow_probe: bool = False
    """The probe waits for ``RollingEngine.may_pass``."""


class RollingEngine(FakeEngine):
    """A FakeEngine that starts like a real one: or not."""

    def __init__(self, order: EngineOrder, faults: Faults) -> None:
        if faults.make is not None:
            raise faults.make
        super().__init__(model=order.model, revision=order.revision)
        self.order = order
        self.faults = faults
        self.ready = False
        self.asked_golden: Expectations | None = None
        """What its probe was to compare with."""
        self.starting = asyncio.Event()
        self._released = asyncio.Event()
        self.may_pass = asyncio.Event()
        self.closed = False

    async def start(self) -> None:
        self.starting.set()
        if self.faults.hang:
            await self._released.wait()
        if self.faults.start is not None:
            raise self.faults.start
        self.ready = True

    async def probe(self, golden: Expectations | None = None) -> Probe:
        self.asked_golden = golden
        self.fault = self.faults.fault
        if self.faults.probe is not None:
            raise self.faults.probe
        if self.faults.slow_probe:
            await self.may_pass.wait()
        verdict = Verdict(tokens=1, max_nats=0.125) if golden is not None else None
        return Probe("ok", 2, 0.125, 0.25, verdict)

    async def aclose(self) -> None:
        self.closed = True
        await super().aclose()

    def release(self) -> None:
        """Let a start that hangs go on."""
        self._released.set()

    def die(self, why: str) -> None:
        """Be given up by its supervisor."""
        self.ready = False
        self.dead.set_result(why)


@dataclass
class Rig:
    """One worker's parts. ``engines`` are all that were ever made, in order."""

    folder: Path
    executor: ThreadPoolExecutor
    config: WorkerConfig = field(default_factory=WorkerConfig)
    free_bytes: int = 1 << 40

    def __post_init__(self) -> None:
        self.clock = ManualClock()
        self.wall = ManualClock(2e9)
        self.source = SignedSource(clock=self.wall)
        self.engines: list[RollingEngine] = []
        self.faults: dict[str, Faults] = {}
        self.changes = 0
        self.on_change: Callable[[], None] = lambda: None
        self.config = replace(
            self.config,
            model="chat",
            models_dir=self.folder / "models",
            pull=PullConfig(busy_poll_s=0.001),
        )
        self.boot()

    def boot(self) -> None:
        """Begin again with what is on disk, as a restart does."""
        self.serving = Serving()
        sources = Failover([self.source])
        store = TrustStore(self.folder / "trust", self.source.root, clock=self.wall)
        self.roller = Roller(
            self.config,
            self.serving,
            Preparation(self.config, sources, self.executor, self._make_engine),
            TrustClient(sources, store),
            free_memory=lambda: self.free_bytes,
            on_change=self._count_change,
            clock=self.clock,
            name=WORKER,
        )

    def _make_engine(self, order: EngineOrder) -> RollingEngine:
        engine = RollingEngine(order, self.faults.get(order.revision, Faults()))
        self.engines.append(engine)
        return engine

    def _count_change(self) -> None:
        self.changes += 1
        self.on_change()

    @property
    def on_disk(self) -> set[str]:
        """Whole revisions."""
        return set(ModelFolder(self.config.models_dir).revisions("chat"))

    async def serve(self, revision: Revision) -> RollingEngine:
        """Publish a revision, roll to it, and have it in service."""
        self.source.publish(revision)
        await self.roller.look()
        assert self.roller.revision == revision.id, self.roller.reason
        return self.engines[-1]

    async def until_started(self, count: int) -> RollingEngine:
        """Wait until the ``count``-th engine (from 1) is starting."""
        await until(lambda: len(self.engines) >= count)
        engine = self.engines[count - 1]
        await engine.starting.wait()
        return engine
