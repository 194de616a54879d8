"""A few seconds of what `make bench NAMES=chaos` does for five minutes."""

from __future__ import annotations

import shutil
from pathlib import Path

from infra.local_config import LOCAL_MODEL
from tests.fakes.chaos import VICTIMS, Chaos, wrong_files
from tests.fakes.fleet import Fleet, eventually

SECONDS = 10.0
SEED = 5


async def test_kills_at_random_lose_nothing_that_is_not_said(fleet: Fleet, tmp_path: Path) -> None:
    first = fleet.revision()
    second = fleet.publish_demo("edge-small-r2", "next").revision
    places = {"models_dir": tmp_path / "models", "trust_dir": tmp_path / "trust"}
    with fleet.extra("worker", "chaos-worker", **places) as other:
        eventually(lambda: fleet.is_ready(other), 30)
        chaos = Chaos(fleet, other, (first, second), seed=SEED, pause_s=1.0, callers=4)
        found = await chaos.run(SECONDS, kills=3, whole=11)
    assert set(found.killed) <= set(VICTIMS)
    assert found.silent == []
    assert found.wrong == []
    assert wrong_files(tmp_path / "models", LOCAL_MODEL) == []
    assert wrong_files(fleet.state.tier("worker") / "models", LOCAL_MODEL) == []
    # Those who come after find the worker as it was: without the second revision on its disk.
    fleet.roll(first)
    fleet.settle()
    shutil.rmtree(fleet.state.tier("worker") / "models" / LOCAL_MODEL / second, ignore_errors=True)
