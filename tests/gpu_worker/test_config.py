from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from gpu_worker.config import ModelConfig, WorkerConfig, all_models
from gpu_worker.engines.config import EngineConfig
from wire.errors import ConfigError
from wire.settings import load


def test_a_worker_without_models_has_the_one_that_it_names() -> None:
    config = WorkerConfig(model="chat", channel="next", variant="Q8_0")
    (only,) = all_models(config)
    assert only == ModelConfig(model="chat", channel="next", variant="Q8_0")
    assert config.of(only) == config


def test_models_are_read_from_the_file(tmp_path: Path) -> None:
    file = tmp_path / "headwater.toml"
    file.write_text(
        "[worker]\nmemory_budget_bytes = 1000\n"
        "[[worker.models]]\nmodel = 'a'\npinned = true\n"
        "[[worker.models]]\nmodel = 'b'\nchannel = 'next'\nidle_unload_s = 5\n"
    )
    config = load("worker", WorkerConfig, file=file, environ={})
    assert all_models(config) == (
        ModelConfig(model="a", pinned=True),
        ModelConfig(model="b", channel="next", idle_unload_s=5.0),
    )
    file.write_text("[[worker.models]]\nmodel = 'a'\npined = true\n")
    with pytest.raises(ConfigError, match=r"worker\.models\[0\].*'pined'"):
        load("worker", WorkerConfig, file=file, environ={})


def test_each_model_is_configured_as_if_it_were_alone() -> None:
    engine = EngineConfig(slots=4, context_tokens=4_096)
    models = (ModelConfig(model="a", slots=2), ModelConfig(model="b", context_tokens=1_024))
    config = WorkerConfig(models=models, engine=engine, drain_s=7)
    first, second = (config.of(model) for model in models)
    assert (first.model, first.models, first.drain_s) == ("a", (), 7)
    assert (first.engine.slots, first.engine.context_tokens) == (2, 4_096)
    assert (second.engine.slots, second.engine.context_tokens) == (4, 1_024)


@pytest.mark.parametrize(
    ("config", "named"),
    [
        (WorkerConfig(models=(ModelConfig(model="a"),) * 2), "a stands twice"),
        (WorkerConfig(models=(ModelConfig(model="a", idle_unload_s=-1),)), "below 0"),
        (WorkerConfig(models=(ModelConfig(model="a", slots=-1),)), "below 0"),
        (WorkerConfig(memory_budget_bytes=-1), "memory_budget_bytes"),
        (replace(WorkerConfig(), memory_share=1.5), "memory_share"),
    ],
)
def test_what_makes_no_sense_is_refused(config: WorkerConfig, named: str) -> None:
    with pytest.raises(ConfigError, match=named):
        all_models(config)


def test_one_heartbeat_may_be_lost_and_a_silent_worker_is_forgotten_within_three_seconds() -> None:
    config = WorkerConfig()
    assert 2 * config.heartbeat_s < config.heartbeat_ttl_s < 3
