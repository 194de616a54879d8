"""Rollouts in Prometheus."""

from __future__ import annotations

from msgspec.structs import replace
from prometheus_client import CollectorRegistry

from origin.rollout_config import RolloutConfig
from origin.rollout_metrics import RolloutCollector
from origin.rollout_records import ChannelRecord
from origin.rollout_state import Rollout

ONE = Rollout(
    id="1", model="chat", channel="stable", revision="b" * 64, previous="a" * 64, started=1.0
)


def test_stages_of_those_that_run_and_ends_of_the_others() -> None:
    record, config = ChannelRecord(model="chat", channel="stable"), RolloutConfig()
    for stage in ("done", "aborted", "done", "observing"):
        record = record.with_rollout(replace(ONE, stage=stage), config)
    registry = CollectorRegistry()
    registry.register(RolloutCollector(lambda: [record]))

    def value(name: str, stage: str) -> float | None:
        return registry.get_sample_value(f"headwater_rollouts_{name}", {"stage": stage})

    assert (value("ended", "done"), value("ended", "aborted")) == (2, 1)
    assert (value("running", "observing"), value("running", "canary")) == (1, None)
