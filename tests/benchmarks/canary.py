"""``bench canary``: how soon a canary of 10 % is withdrawn whose golden probe fails, under load.

One origin, one edge, three workers, all of them real processes. Each run tries another scrambled
revision: it loads as well as the good one, and only its golden answers are other ones.
"""

from __future__ import annotations

import asyncio
import tempfile
import time
from pathlib import Path

from infra.local_config import LOCAL_MODEL
from tests.benchmarks.results import Machine, Row, report
from tests.fakes.canaries import (
    SOON,
    TENSORS,
    golden_answers,
    more_workers,
    publish_scrambled,
    refused,
    serving,
    stage,
    traffic,
)
from tests.fakes.fleet import Fleet, eventually
from tests.fakes.waiting import until_async

TARGET_S = 5.0
_SETTINGS = {"HEADWATER_EDGE__REFRESH_S": "1", "HEADWATER_WORKER__REVALIDATE_S": "2", **SOON}
_PATIENCE_S = 60.0


def measure(runs: int) -> list[Row]:
    """All runs on one fleet."""
    with tempfile.TemporaryDirectory() as name:
        fleet = Fleet(Path(name) / "state", _SETTINGS)
        fleet.start()
        try:
            with more_workers(fleet, "second", "third"):
                first, golden = fleet.revision(), golden_answers()
                eventually(lambda: serving(fleet) == {first: 3}, _PATIENCE_S)
                found = []
                for tensor in TENSORS[:runs]:
                    bad = publish_scrambled(fleet, Path(name), golden, tensor)
                    found.append(asyncio.run(_withdrawn(fleet, bad.revision)))
        finally:
            fleet.stop()
    return [
        _row("failed golden probe to a pointer without the canary", [f[0] for f in found], "s"),
        _row("from the roll to its end", [f[1] for f in found], "s", None),
        _row("answers of the bad revision", [f[2] for f in found], "", 0),
        _row("answers that were not whole", [f[3] for f in found], "", 0),
        _row("answers meanwhile", [f[4] for f in found], "", None),
    ]


async def _withdrawn(fleet: Fleet, revision: str) -> tuple[float, float, int, int, int]:
    """One canary: seconds from the failed probe and from the roll, and what callers got."""
    async with traffic(fleet) as callers:
        began = time.monotonic()
        await asyncio.to_thread(_roll, fleet, revision)
        await until_async(
            lambda: asyncio.to_thread(refused, fleet, revision), deadline_s=_PATIENCE_S
        )
        refused_s = time.monotonic()
        await asyncio.to_thread(eventually, lambda: stage(fleet) == "aborted", _PATIENCE_S)
        over = time.monotonic()
    bad = sum(answer.digest == revision for answer in callers.answers)
    broken = sum(not answer.whole for answer in callers.answers)
    return over - refused_s, over - began, bad, broken, len(callers.answers)


def _roll(fleet: Fleet, revision: str) -> None:
    with fleet.origin_admin() as admin:
        admin.start_rollout(LOCAL_MODEL, "stable", revision, percent=10)


def _row(name: str, runs: list[float], unit: str, target: float | None = TARGET_S) -> Row:
    return Row(name=name, unit=unit, runs=runs, target=target, higher_is_better=False)


def main(*, quick: bool = False) -> None:
    """Measure and report."""
    machine, started = Machine(), time.monotonic()
    rows = measure(1 if quick else 5)
    print(f"{report('canary', rows, machine)}, {time.monotonic() - started:.0f} s")
