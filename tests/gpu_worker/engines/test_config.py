"""gpu_worker.engines.config: the table as it is written."""

from __future__ import annotations

from pathlib import Path

import pytest

from gpu_worker.config import WorkerConfig
from wire.errors import ConfigError
from wire.settings import load


def test_the_table_of_the_configuration(tmp_path: Path) -> None:
    file = tmp_path / "headwater.toml"
    file.write_text(
        "[worker.engine]\nkind = 'vllm'\nslots = 7\n"
        "[worker.engine.vllm]\narguments = ['--enforce-eager']\n"
        "[worker.engine.hang]\nstall_s = 9.0\n"
    )
    engine = load("worker", WorkerConfig, file=file, environ={}).engine
    assert (engine.kind, engine.slots, engine.hang.stall_s) == ("vllm", 7, 9.0)
    assert engine.vllm.arguments == ("--enforce-eager",)
    for name, value in (("KIND", "ollama"), ("OPENAI__URL", "ollama:11434")):
        with pytest.raises(ConfigError):
            load(
                "worker",
                WorkerConfig,
                file=file,
                environ={f"HEADWATER_WORKER__ENGINE__{name}": value},
            )
