"""The fleet as metrics of the origin. Labels are bounded: states are few, and models, channels and
revisions count only where they are signed."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable

from prometheus_client.metrics_core import GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from origin.fleet import FleetView
from origin.fleet_status import MAX_CHANNELS_SHOWN, consistencies, edge_state, worker_state
from wire.trust import TrustView

_OTHER = "other"
_MAX_SERIES = 1_024


class FleetCollector(Collector):
    """Nodes by state, workers by what they serve, and whether each channel is served everywhere.

    Args:
        view: of the fleet.
        trust: what is signed now.
    """

    def __init__(self, view: FleetView, trust: Callable[[], TrustView]) -> None:
        self._view = view
        self._trust = trust

    def collect(self) -> Iterable[Metric]:
        """One family per figure."""
        edges, workers, trust = self._view.edges(), self._view.workers(), self._trust()
        nodes = GaugeMetricFamily(
            "headwater_fleet_nodes", "Edges and workers by state.", labels=["kind", "state"]
        )
        states = Counter(("edge", edge_state(edge)) for edge in edges)
        states.update(("worker", worker_state(worker)) for worker in workers)
        for labels, count in sorted(states.items()):
            nodes.add_metric(labels, count)
        yield nodes
        serving = GaugeMetricFamily(
            "headwater_fleet_workers",
            "Workers that are here, by what they serve; what is not signed is other.",
            labels=["model", "channel", "revision"],
        )
        served: Counter[tuple[str, str, str]] = Counter()
        for worker in workers:
            if worker.presence == "here":
                served[
                    _served(
                        worker.report.model, worker.report.channel, worker.report.revision, trust
                    )
                ] += 1
        for names, count in sorted(served.most_common(_MAX_SERIES)):
            serving.add_metric(names, count)
        yield serving
        consistent = GaugeMetricFamily(
            "headwater_fleet_consistent",
            f"1 where all nodes follow a channel (the first {MAX_CHANNELS_SHOWN} by name).",
            labels=["model", "channel"],
        )
        for one in consistencies(trust.pointers(), edges, workers):
            consistent.add_metric([one.model, one.channel], float(one.consistent))
        yield consistent


def _served(model: str, channel: str, revision: str, trust: TrustView) -> tuple[str, str, str]:
    if (model, channel) not in trust.channels:
        return _OTHER, _OTHER, _OTHER
    if revision and (model, revision) not in trust.revisions:
        return model, channel, _OTHER
    return model, channel, revision
