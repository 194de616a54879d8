"""Rollouts in Prometheus: how many run in which stage, and how those that are kept ended."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Iterator

from prometheus_client.core import GaugeMetricFamily
from prometheus_client.metrics_core import Metric
from prometheus_client.registry import Collector

from origin.rollout_records import ChannelRecord


class RolloutCollector(Collector):
    """Counts when somebody asks.

    Args:
        records: gives every channel's record.
    """

    def __init__(self, records: Callable[[], Iterable[ChannelRecord]]) -> None:
        self._records = records

    def collect(self) -> Iterator[Metric]:
        """All families, as Prometheus's client asks for them."""
        running, ended = Counter[str](), Counter[str]()
        for record in self._records():
            if record.current is not None:
                running[record.current.stage] += 1
            ended.update(one.stage for one in record.past)
        yield _family("headwater_rollouts_running", "Rollouts that run, by stage.", running)
        yield _family(
            "headwater_rollouts_ended", "Rollouts that the records hold, by how they ended.", ended
        )


def _family(name: str, text: str, counts: Counter[str]) -> GaugeMetricFamily:
    family = GaugeMetricFamily(name, text, labels=("stage",))
    for stage, count in sorted(counts.items()):
        family.add_metric((stage,), count)
    return family
