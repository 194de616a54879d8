"""infra.watching: on a terminal of its own."""

from __future__ import annotations

import io
import os
import pty
import sys
import termios
import threading
import tty
from collections.abc import Iterator

import pytest
from rich.console import Console

from infra.watching import keyboard, watch


@pytest.fixture
def terminal(monkeypatch: pytest.MonkeyPatch) -> Iterator[int]:
    """The other side of a terminal that is this process's standard input."""
    outside, inside = pty.openpty()
    with os.fdopen(inside, "rb", buffering=0) as stream:
        monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(stream))
        yield outside
    os.close(outside)


def test_a_picture_is_drawn_until_q_is_pressed(terminal: int) -> None:
    drawn: list[int] = []

    def draw() -> str:
        drawn.append(len(drawn))
        if len(drawn) == 3:
            os.write(terminal, b"xq")
        return f"picture {len(drawn)}"

    out = io.StringIO()
    watch(draw, Console(file=out, width=80), every_s=0.01)
    assert 3 <= len(drawn) < 1_000
    assert "picture" in out.getvalue()


def test_ctrl_c_ends_it_too(terminal: int) -> None:
    def interrupted() -> str:
        raise KeyboardInterrupt

    watch(interrupted, Console(file=io.StringIO()), every_s=0.01)


def test_the_terminal_is_as_it_was_afterwards(terminal: int) -> None:
    before = termios.tcgetattr(sys.stdin.fileno())
    with keyboard():
        assert not termios.tcgetattr(sys.stdin.fileno())[tty.LFLAG] & termios.ECHO
    assert termios.tcgetattr(sys.stdin.fileno()) == before


def test_without_a_terminal_nothing_is_read(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "stdin", io.StringIO("q"))
    with keyboard() as pause:
        assert not pause(0.001)
    assert sys.stdin.read() == "q"


def test_a_key_ends_the_waiting_at_once(terminal: int) -> None:
    with keyboard() as pause:
        threading.Timer(0.01, os.write, (terminal, b"q")).start()
        assert pause(60)
