from __future__ import annotations

from prometheus_client import CollectorRegistry

from gpu_worker.boot_metrics import BootMetrics
from gpu_worker.waterfalls import Waterfalls
from tests.fakes.clock import ManualClock


def kept(known: Waterfalls, clock: ManualClock, seconds: float, source: str) -> None:
    waterfall = known.begin()
    with waterfall.step("pull"):
        clock.advance(seconds)
    waterfall.from_seeds, waterfall.by_source = 30, {source: 12}
    known.keep(waterfall)


def test_the_boot_and_the_latest_roll_are_shown() -> None:
    clock = ManualClock()
    known, silent = Waterfalls(model="chat", clock=clock), Waterfalls(model="other")
    registry = CollectorRegistry()
    BootMetrics(registry, lambda: [known, silent])
    step = {"model": "chat", "step": "pull"}
    assert registry.get_sample_value("headwater_worker_boot_seconds", step) is None
    for seconds in (2.0, 7.0, 0.5):
        kept(known, clock, seconds, "near")
    value = registry.get_sample_value
    assert value("headwater_worker_boot_seconds", step) == 2.0
    assert value("headwater_worker_boot_seconds", {"model": "chat", "step": "total"}) == 2.0
    assert value("headwater_worker_roll_seconds", step) == 0.5
    assert value("headwater_worker_boot_bytes", {"model": "chat", "source": "near"}) == 12
    assert value("headwater_worker_roll_bytes", {"model": "chat", "source": "seeds"}) == 30
    assert value("headwater_worker_boot_seconds", {"model": "other", "step": "total"}) is None
