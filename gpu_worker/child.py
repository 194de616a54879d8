"""One life of a child process, as asyncio tells it: how it is started, what it says, how it ends.

What follows from that is decided in ``gpu_worker.supervisor``.
"""

from __future__ import annotations

import asyncio
import os
import signal
from collections import deque
from collections.abc import Awaitable, Callable
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Protocol

from gpu_worker.engine import EngineStartError
from gpu_worker.faults import oom_kills
from wire.workers import Fault

MAX_READY_LINE_BYTES = 64 * 1024
_KEPT_NAMES = frozenset({"PATH", "HOME", "LANG", "TMPDIR", "TZ", "VIRTUAL_ENV", "LD_LIBRARY_PATH"})
_KEPT_PREFIXES = (
    "LC_", "PYTHON", "OMP_", "GOMP_", "KMP_", "GGML_", "CUDA_", "NVIDIA_", "HIP_", "ROCR_", "VK_",
    "VLLM_", "NCCL_", "TORCH_", "TRITON_",
)  # fmt: skip


@dataclass(frozen=True, slots=True, kw_only=True)
class Launch:
    """How to start a child. ``first_line`` goes to its stdin and may hold secrets; argv may not.

    ``answers`` asks a program that says nothing by itself whether it is ready; None: it says so by
    a line.
    """

    argv: tuple[str, ...]
    first_line: bytes = b""
    environ: dict[str, str] = field(default_factory=dict)
    answers: Callable[[], Awaitable[bool]] | None = None
    spares: Spares | None = None
    """Where a child may stand by that has started already."""


class Spares(Protocol):
    """Children that have started and wait for their first line (``gpu_worker.standby``)."""

    async def take(self, launch: Launch) -> Life | None:
        """One that would do for this launch, and is the caller's from then on."""
        ...


class LogTail:
    """The last lines of a stream of bytes, bounded in lines and in bytes per line."""

    def __init__(self, *, lines: int, line_bytes: int) -> None:
        self._lines: deque[str] = deque(maxlen=lines)
        self._line_bytes = line_bytes
        self._partial = b""

    def feed(self, data: bytes) -> None:
        """Add bytes, cut anywhere."""
        *whole, rest = (self._partial + data).split(b"\n")
        self._partial = rest[: self._line_bytes]
        self._lines.extend(self._text(line) for line in whole if line.strip())

    def lines(self) -> list[str]:
        """The tail, the oldest line first; the last one may be unfinished."""
        partial = [self._text(self._partial)] if self._partial.strip() else []
        return [*self._lines, *partial]

    def _text(self, line: bytes) -> str:
        return line[: self._line_bytes].decode("utf-8", "replace")


class Child(asyncio.SubprocessProtocol):
    """One life of the child: its ready line, its log, its exit.

    Args:
        talks: whether stdout is for the ready line, not for the log.
        log: what takes its words.
    """

    def __init__(self, *, talks: bool, log: LogTail) -> None:
        loop = asyncio.get_running_loop()
        self.ready: asyncio.Future[bytes] = loop.create_future()
        self.exited: asyncio.Future[None] = loop.create_future()
        self.drained: asyncio.Future[None] = loop.create_future()
        self.verdict: asyncio.Future[Fault] = loop.create_future()
        """What ended it, once that is known; empty: we stopped it."""
        self.log = log
        self.condemned: tuple[Fault, str] = ("", "")
        self.oom_kills = oom_kills()
        self._talks = talks
        self._stdout = b""

    def pipe_data_received(self, fd: int, data: bytes) -> None:
        if fd == 2 or not self._talks:
            self.log.feed(data)
        elif not self.ready.done():
            self._stdout += data
            line, found, _ = self._stdout.partition(b"\n")
            if found:
                self.ready.set_result(line)
            elif len(self._stdout) > MAX_READY_LINE_BYTES:
                self.ready.set_result(b"")

    def process_exited(self) -> None:
        if not self.exited.done():
            self.exited.set_result(None)

    def connection_lost(self, _exc: Exception | None) -> None:
        if not self.drained.done():
            self.drained.set_result(None)

    def judge(self, fault: Fault) -> None:
        """Tell those who wait what it was."""
        if not self.verdict.done():
            self.verdict.set_result(fault)


@dataclass(frozen=True, slots=True)
class Life:
    """A child that runs."""

    transport: asyncio.SubprocessTransport
    child: Child


async def spawn(launch: Launch, log: LogTail) -> Life:
    """Start a child; it is told nothing yet.

    Raises:
        EngineStartError: it cannot be run.
    """
    try:
        transport, child = await asyncio.get_running_loop().subprocess_exec(
            lambda: Child(talks=launch.answers is None, log=log),
            *launch.argv,
            env={**child_environ(), **launch.environ},
            # A terminal's Ctrl-C must reach the worker alone: it drains first.
            start_new_session=True,
        )
    except OSError as error:
        raise EngineStartError(f"cannot run {launch.argv[0]}: {error.strerror}") from error
    return Life(transport, child)


async def end_life(life: Life, grace_s: float) -> None:
    """SIGTERM, a grace, SIGKILL; then nothing of this child is left. Who cancels this cuts the
    grace short, and no more."""
    try:
        for number in (signal.SIGTERM, signal.SIGKILL):
            if life.child.exited.done():
                break
            with suppress(ProcessLookupError):
                life.transport.send_signal(number)
            await asyncio.wait({life.child.exited}, timeout=grace_s)
    finally:
        # An engine may have processes of its own, which would go on holding its memory.
        kill_group(life, signal.SIGKILL)
        life.transport.close()


def kill_group(life: Life, number: signal.Signals) -> None:
    """Send a signal to a child and all that it started: it leads a group of its own."""
    with suppress(ProcessLookupError):
        os.killpg(life.transport.get_pid(), number)


def child_environ() -> dict[str, str]:
    """What a child may know of the worker's environment: a hostile file may take the child over,
    so nothing that could be a secret."""
    return {
        name: value
        for name, value in os.environ.items()
        if name in _KEPT_NAMES or name.startswith(_KEPT_PREFIXES)
    }
