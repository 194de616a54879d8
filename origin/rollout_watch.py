"""What is known of a channel and its fleet at one moment: the facts of a rollout's step."""

from __future__ import annotations

from collections.abc import Callable

from origin.announce import Publisher
from origin.fleet import FleetView
from origin.rollout_config import RolloutConfig
from origin.rollout_figures import counted
from origin.rollout_state import Facts, Rollout
from wire.channel import ChannelPointer
from wire.fleet import Preheated
from wire.workers import WorkerReport


class Watch:
    """Sees the signed channels and the fleet.

    Args:
        ticking: monotonic seconds.
    """

    def __init__(
        self,
        publisher: Publisher,
        fleet: FleetView,
        config: RolloutConfig,
        *,
        ticking: Callable[[], float],
    ) -> None:
        self._publisher = publisher
        self._fleet = fleet
        self._config = config
        self._ticking = ticking
        self._began = ticking()

    def pointer(self, model: str, channel: str) -> ChannelPointer | None:
        """Where a channel points; None where there is no such channel."""
        return self._publisher.repository.view.channels.get((model, channel))

    def facts(self, rollout: Rollout) -> Facts:
        """What a rollout's next step goes by."""
        model, revisions = rollout.model, (rollout.revision, rollout.previous)
        return Facts(
            pointer=self.pointer(model, rollout.channel),
            workers=tuple(self._workers(model, rollout.channel)),
            preheated=self._preheated(rollout.revision),
            figures={one: counted(self._fleet.figures(model, one)) for one in revisions if one},
            settled=self.settled(),
        )

    def settled(self) -> bool:
        """Whether everybody who is there has had time to say so."""
        if self._ticking() - self._began < self._config.settle_s:
            return False
        return all(edge.presence != "unheard" for edge in self._fleet.edges())

    def _preheated(self, revision: str) -> dict[str, Preheated | None]:
        begun = self._fleet.preheated(revision)
        here = [edge.name for edge in self._fleet.edges() if edge.presence == "here"]
        return {name: begun.get(name) for name in here}

    def _workers(self, model: str, channel: str) -> list[WorkerReport]:
        return [
            node.report for node in self._fleet.workers(model, channel) if node.presence == "here"
        ]
