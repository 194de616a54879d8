"""``headwater demo``: the main job end to end on this machine, told in steps and measured.

Nothing here is simulated and no figure is typed in: real files, real processes, a real engine.
"""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.text import Text

from infra.demo.artifacts import publish_models, start_worker, warm_edge
from infra.demo.prompts import ask_questions
from infra.demo.roll import roll_under_load
from infra.demo.story import Story
from infra.local import Local
from wire.errors import HeadwaterError


async def run_demo(console: Console, state_dir: Path | None = None) -> dict[str, Any]:
    """Tell the whole story.

    Args:
        state_dir: where everything is kept; None for a temporary folder, removed at the end.

    Returns:
        What was measured; ``passed`` says whether every step did, ``error`` names the one that
        did not.
    """
    story = Story(console)
    console.print(
        Text.assemble(
            ("Headwater", "bold"),
            "  all tiers on this machine, nothing simulated, all measured",
        )
    )
    with _folder(state_dir) as folder:
        try:
            await _tell(story, folder)
        except HeadwaterError as error:
            console.print(Text(f"\n✗ {error.message}", style="bold red"))
            return story.report(error.message)
    report = story.report()
    console.print(
        Text(f"\nAll {len(story.steps)} steps passed in {report['seconds']:.1f} s.", "bold green")
    )
    return report


async def _tell(story: Story, folder: Path) -> None:
    local = Local(folder, report=story.aside)
    try:
        with story.step("Start an origin: keys, a signed root, an empty repository") as figures:
            await local.__aenter__()
            figures["origin"] = await local.start("origin")
            await local.ready("origin")
            story.say(f"{figures['origin']}   keys and state in {folder}")
        await publish_models(story, local)
        with story.step("Start an edge, and a server that plays the cloud") as figures:
            figures["cloud"] = await local.start("cloud")
            figures["edge"] = await local.start("edge")
            await local.ready("cloud")
            await local.ready("edge")
            story.say(f"edge {figures['edge']}   cloud {figures['cloud']}")
        await warm_edge(story, local)
        await start_worker(story, local)
        await ask_questions(story, local)
        await roll_under_load(story, local)
    except BaseException:
        await _stop(local)
        raise
    with story.step("Stop everything: worker, edge, cloud, origin") as figures:
        figures["restarts"] = {child.name: child.restarts for child in local.children()}
        await _stop(local)
        left = [child.name for child in local.children() if child.pid is not None]
        figures["left_running"] = left
        story.say("no process is left" if not left else f"left running: {', '.join(left)}")


async def _stop(local: Local) -> None:
    await local.__aexit__(None, None, None)


@contextmanager
def _folder(state_dir: Path | None) -> Iterator[Path]:
    if state_dir is not None:
        yield state_dir
        return
    with tempfile.TemporaryDirectory(prefix="headwater-demo-") as folder:
        yield Path(folder)
