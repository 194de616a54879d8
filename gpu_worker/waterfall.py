"""The boot waterfall: what a boot or a roll spent its time on, and where its bytes came from."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import msgspec

from gpu_worker.pull import PullReport
from wire.sources.member import SourceStats


class Waterfall(msgspec.Struct, kw_only=True):
    """One boot or roll. Steps are in order, in milliseconds; sizes in bytes."""

    revision: str = ""
    steps_ms: dict[str, float] = {}
    size: int = 0
    from_disk: int = 0
    """Found in an earlier, interrupted pull, or the revision was whole already."""
    from_seeds: int = 0
    from_network: int = 0
    by_source: dict[str, int] = {}
    mismatches: dict[str, int] = {}
    """Chunks that a source sent rotten; none of them was used."""
    divergence_nats: float = 0.0
    """How far the engine's golden answers were from the published ones, at most."""
    running: str = ""
    """The step that is under way."""
    missing_bytes: int = 0
    """Of the pull that is under way: what has not arrived."""

    @contextmanager
    def step(self, name: str, clock: Callable[[], float] = time.perf_counter) -> Iterator[None]:
        """Time a step, also where it fails."""
        start = clock()
        self.running = name
        try:
            yield
        finally:
            self.running = ""
            self.steps_ms[name] = self.steps_ms.get(name, 0.0) + (clock() - start) * 1e3

    def progressed(self, _origin: str, done: int, total: int) -> None:
        """Told by a pull (``gpu_worker.pull.Progress``)."""
        self.missing_bytes = total - done

    def add_pull(
        self,
        report: PullReport,
        before: tuple[SourceStats, ...],
        after: tuple[SourceStats, ...],
    ) -> None:
        """Take over what a pull found; the sources' counters tell who gave what."""
        self.revision = report.revision
        self.size = report.size
        self.from_disk = report.resumed_bytes
        self.from_seeds = report.seeded_bytes
        self.from_network = report.fetched_bytes
        for step, ms in report.steps_ms.items():
            self.steps_ms[f"pull: {step}"] = ms
        earlier = {stats.name: stats for stats in before}
        for stats in after:
            old = earlier.get(stats.name, SourceStats(stats.name))
            self.by_source[stats.name] = stats.bytes - old.bytes
            self.mismatches[stats.name] = stats.mismatches - old.mismatches
