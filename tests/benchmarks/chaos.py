"""``bench chaos``: kill -9 of engines, workers, edge and origin at random under load and rolls."""

from __future__ import annotations

import asyncio
import tempfile
import time
from pathlib import Path
from typing import Any

from infra.local_config import LOCAL_MODEL
from tests.benchmarks.results import Machine, Row, report
from tests.fakes.chaos import Chaos, Report, wrong_files
from tests.fakes.fleet import Fleet

SETTINGS = {
    "HEADWATER_EDGE__REFRESH_S": "1",
    "HEADWATER_WORKER__REVALIDATE_S": "2",
    "HEADWATER_WORKER__ENGINE__SLOTS": "8",
}


def measure(seconds: float, seed: int) -> list[Row]:
    """Two workers of one fleet, so that one can go on where the other died."""
    with tempfile.TemporaryDirectory() as name:
        fleet = Fleet(Path(name) / "state", SETTINGS)
        fleet.start()
        try:
            first = fleet.revision()
            second = fleet.publish_demo("edge-small-r2", "next").revision
            disk = Path(name) / "second"
            places: dict[str, Any] = {"models_dir": disk / "models", "trust_dir": disk / "trust"}
            with fleet.extra("worker", "worker-2", **places) as other:
                chaos = Chaos(fleet, other, (first, second), seed=seed)
                found = asyncio.run(chaos.run(seconds))
                disks = (disk / "models", fleet.state.tier("worker") / "models")
                wrong = [one for models in disks for one in wrong_files(models, LOCAL_MODEL)]
        finally:
            fleet.stop()
    return _rows(found, wrong, seconds)


def _rows(found: Report, wrong: list[str], seconds: float) -> list[Row]:
    def row(name: str, value: float, target: float | None = None, unit: str = "") -> Row:
        return Row(name=name, unit=unit, runs=[value], target=target, higher_is_better=False)

    print(f"killed in {seconds:.0f} s: {dict(found.killed)}; rolls: {found.rolls}")
    return [
        row("kill -9 of engine, worker, edge, origin", sum(found.killed.values())),
        row("whole answers", found.whole),
        row("answers that broke off and said so", found.broken),
        row("requests refused", found.refused),
        row("answers that end in silence", len(found.silent), 0),
        row("whole answers that are not their revision's", len(found.wrong), 0),
        row("wrong chunks on the workers' disks", len(wrong), 0),
        row("everything back by itself after the last kill", found.heal_s, 60, "s"),
    ]


def main(*, quick: bool = False) -> None:
    """Measure and report."""
    machine, started = Machine(), time.monotonic()
    rows = measure(20 if quick else 300, int(started))
    print(f"{report('chaos', rows, machine)}, {time.monotonic() - started:.0f} s")
