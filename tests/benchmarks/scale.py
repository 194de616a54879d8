"""``make scale-test``: two origins on one bucket, two edges of each plane on one Redis, three
workers; each kind killed in turn under load, with a roll in the middle. Prints a table, and exits
with 1 where something did not hold."""

from __future__ import annotations

import asyncio
import json
import sys
import tempfile
import time
from dataclasses import asdict
from pathlib import Path

from rich.console import Console

from infra.render import table
from tests.benchmarks.results import FOLDER
from tests.benchmarks.scale_out.load import Load, allowed, in_all
from tests.benchmarks.scale_out.rig import LEASE, REQUESTS_PER_MINUTE, Rig
from tests.benchmarks.scale_out.story import Phase, Story


async def prove(folder: Path) -> tuple[list[Phase], list[str]]:
    """Run it. The phases, and what did not hold, in words."""
    async with Rig(folder) as rig:
        load = Load(rig)
        story = Story(rig, load)
        await story.prepare()
        running = asyncio.create_task(load.run())
        try:
            await story.run()
        finally:
            load.end()
            await running
    return story.phases, judge(story.phases) + load.problems[:10]


def judge(phases: list[Phase]) -> list[str]:
    """What did not hold, in words."""
    seen = [phase.seen for phase in phases]
    sums, may = in_all(seen), allowed(seen)
    # While Redis is away, each of two edges may give out its lease.
    may += 2 * LEASE * REQUESTS_PER_MINUTE
    found = [
        f"{count} {what}"
        for what, count in (
            ("answers ended in silence", sums["silent"]),
            ("whole answers are not their revision's", sums["wrong"]),
            ("pulls failed", sums["failed_pulls"]),
            ("requests were answered with 500", sums["errors_500"]),
        )
        if count
    ]
    if sums["granted"] > may:
        found.append(f"the limited caller had {sums['granted']} requests of {may:.0f}")
    if sums["granted"] < REQUESTS_PER_MINUTE:
        found.append(f"the limited caller had only {sums['granted']} requests")
    # Both revisions are in the edges' caches from the beginning.
    if any(phase.origin_bytes for phase in phases):
        found.append("a warm edge asked an origin for chunks")
    found += [f"{p.name}: the roll was {p.rolled}" for p in phases if "never" in p.rolled]
    return found


def show(phases: list[Phase], console: Console) -> None:
    """The table, in 80 columns."""
    heads = ("killed", "whole", "moved", "broke", "gap", "back", "pulls", "roll")
    rows = [
        (
            phase.name,
            str(phase.seen.whole),
            str(phase.seen.retried),
            str(phase.seen.broken),
            f"{phase.seen.gap_s:.2f} s",
            f"{phase.heal_s:.1f} s",
            str(phase.seen.pulls),
            phase.rolled,
        )
        for phase in phases
    ]
    console.print(table(heads, rows))
    seen = [phase.seen for phase in phases]
    sums = in_all(seen)
    parts = (
        f"answers in silence: {sums['silent']}",
        f"wrong: {sums['wrong']}",
        f"requests that no edge took: {sums['unserved']}",
        f"limited caller: {sums['granted']} of {allowed(seen):.0f} and two leases of "
        f"{LEASE * REQUESTS_PER_MINUTE:.0f}",
        f"pulls that failed: {sums['failed_pulls']}",
        f"chunk bytes from the origins: {sum(phase.origin_bytes for phase in phases)}",
    )
    console.print("; ".join(parts))
    for one in seen:
        for reason, count in one.reasons.most_common(3):
            console.print(f"refused by both: {count} × {reason}", markup=False)


def main(*, quick: bool = False) -> None:
    """Prove and report."""
    started, console = time.monotonic(), Console()
    with tempfile.TemporaryDirectory(prefix="hw-scale-") as name:
        phases, problems = asyncio.run(prove(Path(name)))
    show(phases, console)
    FOLDER.mkdir(parents=True, exist_ok=True)
    result = {"phases": [asdict(phase) for phase in phases], "problems": problems}
    (FOLDER / "scale.json").write_text(json.dumps(result, indent=1))
    console.print(f"{time.monotonic() - started:.0f} s; {FOLDER / 'scale.json'}")
    for problem in problems:
        console.print(f"DID NOT HOLD: {problem}", markup=False)
    if problems:
        sys.exit(1)
