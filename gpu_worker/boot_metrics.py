"""The boot waterfall for Prometheus: read from the waterfalls when scraped."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator

from prometheus_client import CollectorRegistry
from prometheus_client.core import GaugeMetricFamily
from prometheus_client.registry import Collector

from gpu_worker.waterfall import Waterfall
from gpu_worker.waterfalls import Waterfalls


class BootMetrics(Collector):
    """``headwater_worker_{boot,roll}_seconds{model,step}`` and ``…_bytes{model,source}``: of each
    model's boot, and of its latest roll."""

    def __init__(
        self, registry: CollectorRegistry, waterfalls: Callable[[], Iterable[Waterfalls]]
    ) -> None:
        self._waterfalls = waterfalls
        registry.register(self)

    def collect(self) -> Iterator[GaugeMetricFamily]:
        known = list(self._waterfalls())
        yield from _families("boot", [w.boot for w in known if w.boot is not None])
        yield from _families("roll", [w.last_roll for w in known if w.last_roll is not None])


def _families(kind: str, waterfalls: list[Waterfall]) -> Iterator[GaugeMetricFamily]:
    seconds = GaugeMetricFamily(
        f"headwater_worker_{kind}_seconds",
        f"What the {kind} took, by step; total is from its beginning to its last step's end.",
        labels=["model", "step"],
    )
    size = GaugeMetricFamily(
        f"headwater_worker_{kind}_bytes",
        f"Where the bytes of the {kind} came from: disk, seeds, or a source by name.",
        labels=["model", "source"],
    )
    for waterfall in waterfalls:
        model = waterfall.model
        for step, ms in {**waterfall.steps_ms, "total": waterfall.total_ms}.items():
            seconds.add_metric([model, step], ms / 1e3)
        origins = {"disk": waterfall.from_disk, "seeds": waterfall.from_seeds}
        for source, count in {**origins, **waterfall.by_source}.items():
            size.add_metric([model, source], count)
    yield seconds
    yield size
