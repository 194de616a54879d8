"""The demo as a story: numbered steps, each timed, each with the figures it measured.

A step that fails names itself; nothing after it runs, and what was started is stopped.
"""

from __future__ import annotations

import time
import traceback
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from rich.console import Console, RenderableType
from rich.padding import Padding
from rich.text import Text

from infra.errors import StepError
from infra.render import plain
from wire.errors import HeadwaterError

INDENT = 3
STREAM_WIDTH = 74
"""Columns of a streamed line; the rest of a word may go a little beyond."""


class Story:
    """Tells the steps on a console and collects their figures.

    Args:
        console: where it is told.
    """

    def __init__(self, console: Console) -> None:
        self.console = console
        self.steps: list[dict[str, Any]] = []
        self._began = time.monotonic()
        self._column = 0

    @contextmanager
    def step(self, title: str) -> Iterator[dict[str, Any]]:
        """One step; the block puts what it measured into the dictionary it is given.

        Raises:
            StepError: the block failed; the message names the step.
        """
        number = len(self.steps) + 1
        figures: dict[str, Any] = {}
        entry: dict[str, Any] = {"name": title, "passed": False, "seconds": 0.0}
        entry["figures"] = figures
        self.steps.append(entry)
        self.console.print(Text.assemble((f"\n{number}  ", "bold cyan"), (title, "bold")))
        began = time.monotonic()
        try:
            yield figures
        except HeadwaterError as error:
            self._end_line()
            raise StepError(f"step {number} ({title}): {error.message}") from error
        except Exception as error:
            # A fault of ours, not of the system shown: the step is named all the same, and the
            # trace helps whoever has to find it.
            self._end_line()
            self.console.print(Text(traceback.format_exc(), style="dim"))
            why = f"{type(error).__name__}: {error}"
            raise StepError(f"step {number} ({title}): unexpected {why}") from error
        finally:
            entry["seconds"] = round(time.monotonic() - began, 3)
        entry["passed"] = True
        self._end_line()
        self.console.print(Text(f"   ✓ {entry['seconds']:.2f} s", style="green"))

    def show(self, what: RenderableType) -> None:
        """A table, a chart or a text, below the current step."""
        self._end_line()
        self.console.print(Padding(what, (0, 0, 0, INDENT), expand=False))

    def say(self, text: str, style: str = "") -> None:
        """A line below the current step."""
        self.show(Text(plain(text), style=style))

    def stream(self, text: str) -> None:
        """A piece of an answer, as it comes; broken between words where the line is full."""
        for line, piece in enumerate(plain(text).split("\n")):
            if line or (piece.startswith(" ") and self._column + len(piece) > STREAM_WIDTH):
                self._end_line()
                piece = piece.lstrip(" ")
            if not self._column:
                self.console.print(" " * INDENT, end="")
                self._column = INDENT
            self.console.print(Text(piece, style="bright_white"), end="", soft_wrap=True)
            self._column += len(piece)

    def aside(self, text: str) -> None:
        """Something that nobody asked for, such as a tier that died and was started again."""
        self.show(Text(plain(text), style="yellow"))

    def report(self, error: str = "") -> dict[str, Any]:
        """Everything that was measured, for ``--json``."""
        return {
            "passed": not error,
            "seconds": round(time.monotonic() - self._began, 3),
            "error": error,
            "steps": self.steps,
        }

    def _end_line(self) -> None:
        if self._column:
            self._column = 0
            self.console.print()


def expect(condition: bool, otherwise: str) -> None:
    """What must hold for a step to pass. Raises ``StepError`` where it does not."""
    if not condition:
        raise StepError(otherwise)
