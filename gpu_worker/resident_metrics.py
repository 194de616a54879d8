"""What a worker measures of its models: who is in memory, how often they come and go, and how
their engines ended."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from prometheus_client import CollectorRegistry
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from gpu_worker.faults import ENDINGS
from gpu_worker.keeper import Keeper
from gpu_worker.resident import Resident


class ResidentMetrics(Collector):
    """Read when they are asked for."""

    def __init__(
        self, registry: CollectorRegistry, residents: Sequence[Resident], keeper: Keeper
    ) -> None:
        self._residents = residents
        self._keeper = keeper
        registry.register(self)

    def collect(self) -> Iterator[Metric]:
        """The figures of now."""
        memory = GaugeMetricFamily(
            "headwater_worker_model_memory_bytes",
            "What the engines of a model take of the budget; 0: it sleeps.",
            labels=["model"],
        )
        wakes = CounterMetricFamily(
            "headwater_worker_model_wakes",
            "How often a request brought a model back to memory.",
            labels=["model"],
        )
        endings = CounterMetricFamily(
            "headwater_worker_engine_endings",
            "Engines that ended by themselves, had to be ended, or failed their probe.",
            labels=["model", "kind"],
        )
        restarts = CounterMetricFamily(
            "headwater_worker_engine_restarts",
            "Starts of an engine after its end, whether they came up or not.",
            labels=["model"],
        )
        for resident in self._residents:
            memory.add_metric([resident.name], self._keeper.used_bytes(resident.name))
            wakes.add_metric([resident.name], resident.wakes)
            for kind in ENDINGS:  # from the start, or the first one would be no increase
                endings.add_metric([resident.name, kind], resident.tally.endings[kind])
            restarts.add_metric([resident.name], resident.tally.restarts)
        yield from (memory, wakes, endings, restarts)
        yield CounterMetricFamily(
            "headwater_worker_unloads",
            "How often a model was put to sleep, being idle or for another one.",
            value=self._keeper.unloads,
        )
        yield GaugeMetricFamily(
            "headwater_worker_memory_budget_bytes",
            "What all engines may take together; 0: no budget is kept.",
            value=self._keeper.budget_bytes or 0,
        )
