"""A child process with bounded time, output and environment: every engine runs in one.

Engines parse model files in C and C++, so a hostile file may crash or take over the process that
does; it holds no key and no secret, and its end is an error message here.
"""

from __future__ import annotations

import os
import signal
import subprocess
import threading
from collections import deque
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass

from origin.quantize.errors import QuantizeError

_KEPT_NAMES = frozenset({"PATH", "HOME", "LANG", "TMPDIR", "TZ", "VIRTUAL_ENV", "LD_LIBRARY_PATH"})
_KEPT_PREFIXES = ("LC_", "PYTHON", "OMP_", "GOMP_", "GGML_")
_REPORTED_LINES = 3


@dataclass(frozen=True, slots=True, kw_only=True)
class ProcessLimits:
    """What an engine's process may take."""

    timeout_s: float = 6 * 3600.0
    output_bytes: int = 64 * 1024 * 1024
    """llama-quantize says a line or two for each tensor."""
    line_bytes: int = 4_096
    stop_grace_s: float = 2.0
    """After SIGTERM; then SIGKILL."""


def run_process(
    argv: Sequence[str],
    *,
    first_line: bytes = b"",
    limits: ProcessLimits,
    on_line: Callable[[bytes], None],
) -> None:
    """Run a program to its end, and give away each line of its output and its errors.

    Args:
        first_line: written to its stdin, which stays open: its end tells the child that we died.
        on_line: may raise, which stops the child.

    Raises:
        QuantizeError: it cannot be run, failed, took too long or said too much; with the last
            lines that it said.
    """
    name = os.path.basename(argv[0])  # noqa: PTH119 - a program's name, not a file of ours
    try:
        child = subprocess.Popen(
            argv,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            env=_environ(),
            # A group of its own, so that what a wrapper script starts ends with it.
            start_new_session=True,
        )
    except OSError as error:
        raise QuantizeError(f"cannot run {argv[0]}: {error.strerror}") from error
    late = threading.Event()
    timer = threading.Timer(limits.timeout_s, _give_up, (child, late))
    timer.name, timer.daemon = f"deadline of {name}", True
    with child:
        timer.start()
        try:
            tail = _converse(child, first_line, limits, on_line)
            code = child.wait()
        finally:
            timer.cancel()
            _stop(child, limits.stop_grace_s)
    if code == 0 and not late.is_set():
        return
    why = f"took over {limits.timeout_s:g} s" if late.is_set() else _exit_text(code)
    last = " | ".join(list(tail)[-_REPORTED_LINES:])
    raise QuantizeError(f"{name} {why}" + (f": {last}" if last else ""))


def _converse(
    child: subprocess.Popen[bytes],
    first_line: bytes,
    limits: ProcessLimits,
    on_line: Callable[[bytes], None],
) -> deque[str]:
    """Write the first line and read to the end of the output; the last lines."""
    assert child.stdin is not None
    assert child.stdout is not None
    tail: deque[str] = deque(maxlen=_REPORTED_LINES)
    with suppress(BrokenPipeError):  # it died early; its exit status and its output say why
        child.stdin.write(first_line)
        child.stdin.flush()
    heard = 0
    while line := child.stdout.readline(limits.line_bytes):
        heard += len(line)
        if heard > limits.output_bytes:
            raise QuantizeError(f"the engine said more than {limits.output_bytes} B")
        on_line(line)
        if text := line.decode("utf-8", "replace").strip():
            tail.append(text)
    return tail


def _give_up(child: subprocess.Popen[bytes], late: threading.Event) -> None:
    late.set()
    _signal(child, signal.SIGKILL)


def _stop(child: subprocess.Popen[bytes], grace_s: float) -> None:
    """Nothing of the child is left afterwards."""
    if child.poll() is None:
        _signal(child, signal.SIGTERM)
        with suppress(subprocess.TimeoutExpired):
            child.wait(grace_s)
    if child.poll() is None:
        _signal(child, signal.SIGKILL)
        child.wait()


def _signal(child: subprocess.Popen[bytes], number: signal.Signals) -> None:
    with suppress(ProcessLookupError):
        os.killpg(child.pid, number)


def _exit_text(code: int) -> str:
    return f"was killed by {signal.Signals(-code).name}" if code < 0 else f"failed ({code})"


def _environ() -> dict[str, str]:
    """Nothing that could be a secret."""
    return {
        name: value
        for name, value in os.environ.items()
        if name in _KEPT_NAMES or name.startswith(_KEPT_PREFIXES)
    }
