"""A live picture in the terminal, until somebody presses q or Ctrl-C."""

from __future__ import annotations

import os
import select
import sys
import termios
import time
import tty
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from rich.console import Console, RenderableType
from rich.live import Live

_QUIT = frozenset({b"q", b"Q", b"\x03"})
Pause = Callable[[float], bool]
"""Wait so many seconds; True once somebody wants to leave."""


def watch(draw: Callable[[], RenderableType], console: Console, *, every_s: float = 1.0) -> None:
    """Draw again and again; returns when somebody presses q or Ctrl-C."""
    try:
        with (
            keyboard() as pause,
            Live(console=console, auto_refresh=False, screen=console.is_terminal) as live,
        ):
            while True:
                live.update(draw(), refresh=True)
                if pause(every_s):
                    return
    except KeyboardInterrupt:
        return


@contextmanager
def keyboard() -> Iterator[Pause]:
    """Single keys of the terminal, which is as it was afterwards. Without a terminal nothing is
    read, and only a signal ends the waiting."""
    if not sys.stdin.isatty():
        yield _sleep
        return
    descriptor = sys.stdin.fileno()
    before = termios.tcgetattr(descriptor)
    tty.setcbreak(descriptor)
    try:
        yield lambda seconds: _pressed(descriptor, seconds)
    finally:
        termios.tcsetattr(descriptor, termios.TCSADRAIN, before)


def _sleep(seconds: float) -> bool:
    time.sleep(seconds)
    return False


def _pressed(descriptor: int, seconds: float) -> bool:
    """Whether q is pressed within so many seconds; other keys are read and passed over."""
    until = time.monotonic() + seconds
    while (left_s := until - time.monotonic()) > 0:
        ready, _, _ = select.select([descriptor], [], [], left_s)
        if ready and (os.read(descriptor, 1) or b"q") in _QUIT:
            return True
    return False
