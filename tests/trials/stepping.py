"""The steps of a trial: what was done, how long it took, what was seen."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field

from rich.table import Table

from infra.render import table

_POLL_S = 0.5


class TrialError(Exception):
    """A step failed; says why, with what the machine said."""


@dataclass(slots=True)
class Step:
    """One line of the table."""

    step: str
    seconds: float = 0.0
    seen: str = ""
    ok: bool = False


@dataclass(slots=True)
class Steps:
    """The steps so far. ``tell`` gets a line when one begins."""

    tell: Callable[[str], None] = lambda _: None
    done: list[Step] = field(default_factory=list)

    @contextmanager
    def step(self, name: str) -> Iterator[Step]:
        """One step: the block sets ``seen``. Whatever it raises, its line stays."""
        self.tell(f"{name} ...")
        one = Step(name)
        self.done.append(one)
        began = time.monotonic()
        try:
            yield one
            one.ok = True
        except BaseException:
            one.seen = f"FAILED {one.seen}".strip()
            raise
        finally:
            one.seconds = round(time.monotonic() - began, 1)

    def as_json(self, problem: str) -> dict[str, object]:
        """All that was found, for programs."""
        return {
            "ok": not problem and all(one.ok for one in self.done),
            "steps": [asdict(one) for one in self.done],
            "problem": problem,
        }

    def as_table(self) -> Table:
        """The same for people, in 80 columns."""
        rows = [(one.step, f"{one.seconds:.1f}", one.seen) for one in self.done]
        return table(("step", "seconds", "seen"), rows, right="seconds")


def wait_for(
    what: str, holds: Callable[[], str], within_s: float, alive: Callable[[], bool]
) -> None:
    """Return as soon as ``holds`` says nothing; until then it says what is missing.

    Raises:
        TrialError: not in time, or what it depends on has ended (``alive``).
    """
    deadline = time.monotonic() + within_s
    while missing := holds():
        if not alive():
            raise TrialError(f"{what}: the machine ended; {missing}")
        if time.monotonic() > deadline:
            raise TrialError(f"{what}: not within {within_s:g} s: {missing}")
        time.sleep(_POLL_S)
