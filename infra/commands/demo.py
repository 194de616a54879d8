"""``headwater demo``: the whole story on this machine, measured."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from infra.commands.options import JsonOption
from infra.commands.output import FAILED, command


def demo(
    state_dir: Annotated[
        Path | None,
        typer.Option(
            "--state-dir",
            metavar="DIR",
            help="Where to keep everything; a temporary folder, removed at the end, if none is "
            "given.",
        ),
    ] = None,
    as_json: JsonOption = False,
) -> None:
    """Start all tiers here, publish, warm-start, ask, roll under load; says which step failed.

    Takes well under two minutes. With --json the story goes to stderr.

    Example:

      $ headwater demo
    """
    with command(as_json=as_json) as output:
        from infra.demo import run_demo
        from infra.signals import run_until_told

        console = output.notes if as_json else output.console
        report = run_until_told(run_demo(console, state_dir))
        output.result(report, lambda _: None)
    if not report["passed"]:
        raise typer.Exit(FAILED)
