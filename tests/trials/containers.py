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
from dataclasses import asdict
from pathlib import Path
from types import FrameType

from rich.console import Console

from infra.render import table
from tests.trials.steps import BASE, REDIS, Trial
from tests.trials.terminal import MissingError, StepError, fetch_image, find_engine


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
    with tempfile.TemporaryDirectory(prefix="headwater-try-") as folder:
        trial = Trial(engine, Path(folder), given.base)
        try:
            # Removed last, also after a signal; a failure there is a failure of the trial.
            with ExitStack() as stack:
                stack.callback(trial.remove)
                _run(trial)
        except StepError as error:
            print(error, file=sys.stderr)
    return report(trial, as_json=given.json)


def _run(trial: Trial) -> None:
    try:
        trial.run()
    except StepError:
        print(trial.logs(), file=sys.stderr)
        raise


def report(trial: Trial, *, as_json: bool) -> int:
    """Print the steps. The exit status."""
    well = not any(step.problem for step in trial.steps)
    if as_json:
        steps = [asdict(step) | {"seconds": round(step.seconds, 3)} for step in trial.steps]
        print(json.dumps({"engine": str(trial.engine), "well": well, "steps": steps}, indent=2))
    else:
        rows = [
            (step.name, f"{step.seconds:.1f}", step.problem.partition("\n")[0] or "well")
            for step in trial.steps
        ]
        Console(highlight=False).print(table(("step", "seconds", ""), rows, right="seconds"))
        seconds = sum(step.seconds for step in trial.steps)
        print(f"{'all well' if well else 'FAILED'} in {seconds:.0f} s ({trial.engine})")
    return 0 if well else 1


if __name__ == "__main__":
    sys.exit(main())
