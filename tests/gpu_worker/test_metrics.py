"""gpu_worker.metrics: what is counted of the answers."""

from __future__ import annotations

import asyncio

from prometheus_client import CollectorRegistry

from gpu_worker.engine import Finish
from gpu_worker.metrics import WorkerMetrics
from gpu_worker.serving import Serving
from tests.fakes.engine import FakeEngine

REQUESTS = "headwater_worker_requests_total"
TOKENS = "headwater_worker_tokens_total"
FINISH = Finish(reason="stop", prompt_tokens=7, completion_tokens=5, cached_tokens=3)


def test_whole_answers_and_others_are_told_apart() -> None:
    registry = CollectorRegistry()
    metrics, value = WorkerMetrics(registry, []), registry.get_sample_value
    metrics.done(FINISH, 0.2)
    metrics.done(FINISH, 0.2)
    metrics.failed("client_gone")
    assert value(REQUESTS, {"outcome": "done"}) == 2
    assert value(REQUESTS, {"outcome": "client_gone"}) == 1
    assert value("headwater_worker_answer_seconds_count") == 2
    kinds = ("prompt", "prompt_cached", "completion")
    assert [value(TOKENS, {"kind": kind}) for kind in kinds] == [14, 6, 10]


def test_times_fall_in_the_buckets_of_their_length() -> None:
    registry = CollectorRegistry()
    metrics, value = WorkerMetrics(registry, []), registry.get_sample_value
    metrics.queued(0.02)
    metrics.first_token(0.3)
    for name, below, above in (("queue", "0.01", "0.025"), ("first_token", "0.25", "0.5")):
        bucket = f"headwater_worker_{name}_seconds_bucket"
        assert (value(bucket, {"le": below}), value(bucket, {"le": above})) == (0, 1)


async def test_gauges_are_of_all_models_together_also_of_those_that_come_later() -> None:
    registry, servings = CollectorRegistry(), list[Serving]()
    WorkerMetrics(registry, servings)
    names = [f"headwater_worker_{name}" for name in ("slots", "busy", "queue")]
    assert [registry.get_sample_value(name) for name in names] == [0, 0, 0]
    for capacity in (1, 4):
        servings.append(Serving())
        servings[-1].flip(FakeEngine(capacity=capacity))
    with await servings[0].acquire(), await servings[1].acquire():
        waiting = asyncio.create_task(servings[0].acquire())
        await asyncio.sleep(0)
        assert [registry.get_sample_value(name) for name in names] == [5, 2, 1]
    (await waiting).release()
    assert [registry.get_sample_value(name) for name in names] == [5, 0, 0]
