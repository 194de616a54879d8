"""A worker as it is installed, in a process of its own: started, watched, told what it did."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from infra.edge_admin import TierAdmin
from infra.local_config import Value, render
from infra.state import StateDir, read_secret
from tests.fakes.processes import cpu_seconds

_WORKER = """
import sys
# Installed by the test dependencies only, and imported by securesystemslib wherever it is found.
sys.modules["boto3"] = None
from gpu_worker.__main__ import main
main(sys.argv[1:])
"""
_LOOK_S = 0.01
_WAIT_S = 120.0
FIRST_TOKEN = "probe: first token"


@dataclass(frozen=True, slots=True)
class Boot:
    """From the start of the process. CPU-seconds with the engine's, until it was ready."""

    first_token_s: float
    ready_s: float
    cpu_s: float
    waterfall: dict[str, Any]


class BenchWorker:
    """A running worker process."""

    def __init__(self, process: subprocess.Popen[bytes], url: str, token: str) -> None:
        self.process = process
        self._admin = TierAdmin(url, token)

    def status(self) -> dict[str, Any]:
        return self._admin.status()

    def wait(self, revision: str) -> dict[str, Any]:
        """Until this revision serves; its waterfall. Raises ``TimeoutError``."""
        deadline = time.monotonic() + _WAIT_S
        while time.monotonic() < deadline:
            if not self._admin.why_not_ready():
                status = self.status()
                if status["report"]["revision"] == revision:
                    return dict(status["waterfalls"][-1])
            time.sleep(_LOOK_S)
        raise TimeoutError(f"{revision[:12]} does not serve: {self.status()['report']}")


@contextlib.contextmanager
def worker(
    state: StateDir, folder: Path, model: str, sources: Sequence[str], **more: Value
) -> Iterator[tuple[BenchWorker, float]]:
    """A worker with an empty disk below ``folder``, and the moment it was started (Unix time)."""
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir()
    ready = folder / "ready.json"
    values: dict[str, Value] = {
        "model": model,
        "sources": list(sources),
        "trust_root": str(state.trust_root),
        "trust_dir": str(folder / "trust"),
        "models_dir": str(folder / "models"),
        "token_file": str(state.worker_token),
        "ready_file": str(ready),
        **more,
    }
    config = folder / "headwater.toml"
    config.write_text(render({"worker": values}))
    log = (folder / "log").open("wb")
    os.sync()
    started = time.time()
    process = subprocess.Popen(
        [sys.executable, "-c", _WORKER, "--config", str(config), "--port", "0"],
        stdout=log,
        stderr=log,
    )
    try:
        while not ready.exists():
            if process.poll() is not None:
                raise RuntimeError((folder / "log").read_text())
            time.sleep(_LOOK_S)
        url = json.loads(ready.read_text())["url"]
        yield BenchWorker(process, url, read_secret(state.worker_token)), started
    finally:
        process.terminate()
        process.wait()
        log.close()
        shutil.rmtree(folder, ignore_errors=True)


def boot(
    state: StateDir, folder: Path, model: str, revision: str, sources: Sequence[str], **more: Value
) -> Boot:
    """Boot a worker from nothing and stop it again."""
    with worker(state, folder, model, sources, **more) as (running, started):
        waterfall = running.wait(revision)
        ready_s = time.time() - started
        cpu_s = cpu_seconds(running.process.pid)
    offset_s = waterfall["began_at"] - started
    return Boot(offset_s + _end_ms(waterfall, FIRST_TOKEN) / 1e3, ready_s, cpu_s, waterfall)


def _end_ms(waterfall: dict[str, Any], step: str) -> float:
    ends = [s["start_ms"] + s["length_ms"] for s in waterfall["spans"] if s["name"] == step]
    return float(max(ends))
