"""What a command says: a result on stdout, as text or as one JSON document; all else on stderr.

Exit status: 0 done, 1 failed, 2 usage or configuration, 130 interrupted.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import typer

from wire.errors import (
    ConfigError,
    HeadwaterError,
    NameInvalidError,
    SourceUnavailableError,
)

if TYPE_CHECKING:
    from rich.console import Console

FAILED, USAGE, INTERRUPTED = 1, 2, 130
ProgressBar = Callable[[str, int, int], None]
"""Told what is done, how much of it and the total, in bytes."""


class Output:
    """Where a command's words go.

    Args:
        as_json: the result is one JSON document on stdout.
    """

    def __init__(self, *, as_json: bool) -> None:
        from rich.console import Console

        self.as_json = as_json
        self.console: Console = Console(highlight=False, soft_wrap=False)
        self.notes: Console = Console(stderr=True, highlight=False)

    def result(self, value: object, show: Callable[[Console], None]) -> None:
        """The outcome: ``value`` as JSON, or what ``show`` prints."""
        if self.as_json:
            print_json(value)
        else:
            show(self.console)

    def note(self, text: str) -> None:
        """Something by the way, on stderr."""
        self.notes.print(text, style="dim", markup=False)

    def failure(self, error: HeadwaterError) -> None:
        """What went wrong and what to do, in one line; JSON on stdout too where asked for."""
        from infra.render import plain

        message = plain(error.message)
        if isinstance(error, SourceUnavailableError):
            message += " (is it running? start everything with `headwater up`)"
        if self.as_json:
            print_json({"error": {"code": error.code, "message": message}})
        self.notes.print(f"error: {message}", style="red", markup=False, soft_wrap=True)

    @contextmanager
    def progress(self, title: str) -> Iterator[ProgressBar]:
        """A progress bar on stderr, where that is a terminal."""
        if not self.notes.is_terminal:
            yield lambda *_: None
            return
        from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn
        from rich.progress import TransferSpeedColumn as Speed

        columns = (TextColumn("{task.description}"), BarColumn(), DownloadColumn(), Speed())
        with Progress(*columns, console=self.notes, transient=True) as bars:
            task = bars.add_task(title, total=None)

            def update(step: str, done: int, total: int) -> None:
                bars.update(
                    task, description=f"{title}: {step}", completed=done, total=total or None
                )

            yield update


@contextmanager
def command(*, as_json: bool) -> Iterator[Output]:
    """Around a command's work: errors become one line and an exit status, never a traceback.

    Raises:
        typer.Exit: with the status that says how it ended, where it did not end well.
    """
    output = Output(as_json=as_json)
    try:
        yield output
    except HeadwaterError as error:
        output.failure(error)
        usage = isinstance(error, ConfigError | NameInvalidError)
        raise typer.Exit(USAGE if usage else FAILED) from None
    except KeyboardInterrupt:
        raise typer.Exit(INTERRUPTED) from None


def print_json(value: Any) -> None:
    """One JSON document on stdout."""
    import msgspec

    text = msgspec.json.format(msgspec.json.encode(value), indent=2).decode()
    sys.stdout.write(text + "\n")
    sys.stdout.flush()
