"""An origin's rollouts over objects in memory, with a fleet whose workers do as they are told."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from origin.announce import Publisher
from origin.fleet import FleetConfig, FleetView
from origin.rollout_config import RolloutConfig
from origin.rollouts import Rollouts
from tests.fakes.reports import edge_report, worker_report
from tests.fakes.upkeep import Shelf
from wire.channel import ChannelPointer
from wire.fleet import Preheated, RevisionFigures
from wire.workers import WorkerReport

CONFIG = RolloutConfig(observe_min_s=5.0, min_requests=10, settle_s=0.0)


@dataclass(slots=True)
class Desk:
    """One origin, its rollouts, and the edge that reports to it."""

    shelf: Shelf
    publisher: Publisher
    fleet: FleetView
    rollouts: Rollouts
    workers: dict[str, WorkerReport] = field(default_factory=dict)
    figures: dict[str, RevisionFigures] = field(default_factory=dict)
    preheats: bool = True

    @property
    def pointer(self) -> ChannelPointer:
        return self.publisher.repository.view.pointer("chat", "stable")

    def chosen(self) -> list[str]:
        """The workers of the canary."""
        canary = self.pointer.canary
        assert canary is not None
        return [name for name in self.workers if canary.takes(name)]

    def report(self) -> None:
        """The edge tells the origin how things are."""
        done = tuple(
            Preheated(model=wanted.model, revision=wanted.revision, state="done")
            for wanted in self.fleet.to_preheat()
            if self.preheats
        )
        self.fleet.report(
            edge_report(
                "edge-1",
                *self.workers.values(),
                age_s=0.0,
                figures=tuple(self.figures.values()),
                preheated=done,
            )
        )

    def follow(self) -> None:
        """Every worker serves what the channel names for it."""
        for name in self.workers:
            self.workers[name] = worker_report(name, revision=self.pointer.revision_for(name))

    def served(self, revision: str, answered: int, failed: int = 0) -> None:
        """What the edge counted of a revision, in all."""
        self.figures[revision] = RevisionFigures(
            model="chat", revision=revision, answered=answered, failed=failed
        )

    def refuse(self, name: str, revision: str, **fields: Any) -> None:
        """A worker does not take a revision."""
        told: Mapping[str, Any] = {"fault": "probe_failed", "reason": "other tokens", **fields}
        before = self.workers[name].revision
        self.workers[name] = worker_report(name, revision=before, refused=revision, **told)

    async def pass_time(self, seconds: int = 1) -> None:
        """Second by second: a report, and a look."""
        for _ in range(seconds):
            self.shelf.now += 1.0
            self.report()
            await self.rollouts.look()


async def open_desk(
    shelf: Shelf, config: RolloutConfig = CONFIG, *, workers: int = 3, revision: str = ""
) -> Desk:
    """An origin as it starts on these objects."""
    publisher = await shelf.origin()
    fleet = FleetView(FleetConfig(), clock=lambda: shelf.now)
    rollouts = Rollouts(
        publisher, fleet, config, clock=lambda: shelf.now, ticking=lambda: shelf.now
    )
    desk = Desk(shelf, publisher, fleet, rollouts)
    desk.workers = {
        f"gpu-{number}": worker_report(f"gpu-{number}", revision=revision)
        for number in range(workers)
    }
    return desk
