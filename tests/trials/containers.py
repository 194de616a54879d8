"""``make try-containers``: docs/how-to/deploy-services.md, "In containers", on a real engine.

What it proves, that no test without an engine can: the Dockerfiles build; no library that a wheel
needs is missing in an image; what the page says, typed line by line into a fresh clone of the last
commit, ends in four healthy services that stream an answer; each of them runs without root, without
capabilities and on a root file system that it cannot write; an edge that is killed comes back and
answers; and ``stop`` ends all of them with exit status 0.

CI does not run it, since it needs a container engine, a registry and root. It is skipped, and says
why, where one of them is missing (exit status 0; 1 where a step fails). Its images, containers,
volumes and ports are its own, beside any that are there, and are removed at the end, whatever
happens; what it pulled, and the engine's build cache, stay.
"""

from __future__ import annotations

import argparse
import json
import signal
import sys
import tempfile
from contextlib import ExitStack
from pathlib import Path
from types import FrameType

from rich.console import Console

from tests.trials.container_steps import BASE, REDIS, Trial
from tests.trials.stepping import TrialError
from tests.trials.terminal import MissingError, fetch_image, find_engine


def _end(signum: int, _: FrameType | None) -> None:
    raise SystemExit(128 + signum)  # so that everything is removed first


def main() -> int:
    """The trial, as a table or a JSON document."""
    parser = argparse.ArgumentParser(prog="tests.trials.containers", description="see the module")
    parser.add_argument("--base", default=BASE, help=f"another image than {BASE}")
    parser.add_argument("--json", action="store_true", help="a JSON document instead of a table")
    given = parser.parse_args()
    signal.signal(signal.SIGTERM, _end)
    try:
        engine = find_engine()
        for image in (given.base, REDIS):
            fetch_image(image)
    except MissingError as error:
        print(json.dumps({"skipped": str(error)}) if given.json else f"skipped: {error}")
        return 0
    notes = Console(stderr=True, highlight=False)
    problem = ""
    with tempfile.TemporaryDirectory(prefix="headwater-try-") as folder:
        trial = Trial(engine, Path(folder), given.base)
        trial.steps.tell = lambda text: notes.print(text, style="dim", markup=False)
        try:
            # Removed last, also after a signal; a failure there is a failure of the trial.
            with ExitStack() as stack:
                stack.callback(trial.remove)
                _run(trial)
        except TrialError as error:
            problem = str(error)
    if given.json:
        print(json.dumps({"engine": str(engine), **trial.steps.as_json(problem)}, indent=1))
    else:
        Console(highlight=False).print(trial.steps.as_table())
    if problem:
        notes.print(f"error: {problem}", markup=False, soft_wrap=True)
    return 1 if problem else 0


def _run(trial: Trial) -> None:
    try:
        trial.run()
    except TrialError:
        print(trial.logs(), file=sys.stderr)
        raise


if __name__ == "__main__":
    sys.exit(main())
