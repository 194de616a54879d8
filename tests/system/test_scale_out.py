"""The scale-out proof in small: an origin and a prompt edge killed at once, under load."""

from __future__ import annotations

import asyncio
from functools import partial
from pathlib import Path

from tests.benchmarks.scale import judge
from tests.benchmarks.scale_out.load import Load
from tests.benchmarks.scale_out.rig import ORIGINS, PROMPTS, Rig
from tests.benchmarks.scale_out.story import Story


async def test_an_origin_and_a_prompt_edge_are_killed_and_nothing_is_lost(tmp_path: Path) -> None:
    async with Rig(tmp_path) as rig:
        load = Load(rig)
        story = Story(rig, load)
        await story.settle()
        await load.warm()
        await load.learn()
        running = asyncio.create_task(load.run())
        try:
            kill = partial(story.kill, ORIGINS[0], PROMPTS[0])
            phase = await story.phase("both", kill, _no_roll, 0.2)
        finally:
            load.end()
            await running
    assert phase.seen.whole > 0
    assert phase.seen.retried > 0
    assert phase.seen.pulls > 0
    assert not load.problems
    too_short = "the limited caller had only"  # a minute's worth is not asked for in this time
    assert [one for one in judge([phase]) if not one.startswith(too_short)] == []


async def _no_roll() -> str:
    """Rolls while origins are killed have tests of their own; here each costs seconds."""
    return ""
