from __future__ import annotations

import pytest
from prometheus_client import CollectorRegistry

from edge_tier.gateway.load_metrics import LoadMetrics
from wire.workers import WorkerReport, WorkerState


def report(worker: str, model: str, state: WorkerState, queue: int) -> WorkerReport:
    return WorkerReport(
        worker=worker,
        url="http://127.0.0.1:7402",
        model=model,
        channel="stable",
        revision="a" * 64,
        state=state,
        slots=4,
        busy=1,
        queue=queue,
        ttl_s=2.5,
    )


@pytest.fixture
def registry() -> CollectorRegistry:
    made = CollectorRegistry()
    reports = [
        report("gpu-1", "chat", "ready", 3),
        report("gpu-1", "code", "asleep", 2),
        report("gpu-2", "chat", "booting", 1),
    ]
    LoadMetrics(made, lambda: reports, lambda: 7, lambda: True, lambda: 2)
    return made


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("headwater_gateway_streams", 7),
        ("headwater_gateway_workers", 1),  # one that serves two models, and one that boots
        ("headwater_gateway_workers_queue", 6),
        ("headwater_gateway_workers_slots", 8),
        ("headwater_gateway_limits_degraded", 1),
        ("headwater_gateway_breakers_open", 2),
    ],
)
def test_what_is_carried_now(registry: CollectorRegistry, name: str, value: float) -> None:
    assert registry.get_sample_value(name) == value
