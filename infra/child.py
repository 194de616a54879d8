"""One tier as a process of this machine: started, watched, restarted, stopped.

The lifeline (``wire.process``) is the reading end of a pipe whose other end only the launcher
holds, so the children stop even when the launcher is killed and can run no code. A child that dies
unasked is started again at the port it had, after a delay that doubles up to a bound.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import subprocess
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

import msgspec

from infra.errors import ChildError
from wire.errors import HeadwaterError
from wire.http_client import BlockingClient, ClientConfig
from wire.paths import READYZ
from wire.process import LIFELINE

_TAIL_BYTES = 4_096
_TAIL_LINES = 12
_MAX_ANSWER_BYTES = 64 * 1024
Report = Callable[[str], None]
"""Told in one line what happens to a child."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ChildConfig:
    """Deadlines of a child."""

    listen_timeout_s: float = 60.0
    ready_timeout_s: float = 60.0
    """After it listens."""
    stop_timeout_s: float = 45.0
    """After SIGTERM, for running streams to end; then SIGKILL."""
    poll_s: float = 0.04
    backoff_initial_s: float = 0.2
    backoff_max_s: float = 10.0
    stable_s: float = 30.0
    """A child that lived so long was well: the next delay is the shortest again."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Program:
    """What to run. ``argv`` gets ``--port N`` appended; no secret may stand in it."""

    name: str
    argv: tuple[str, ...]
    environ: Mapping[str, str]
    folder: Path
    """Working directory."""
    ready_file: Path
    """Where the program says ``{"url", "pid"}`` once it listens."""
    log: Path
    port: int = 0


class Backoff:
    """How long to wait before the next start: doubling, bounded, never giving up. Sans-IO."""

    def __init__(self, config: ChildConfig) -> None:
        self._config = config
        self._deaths = 0

    def after_death(self, lived_s: float) -> float:
        """Seconds to wait, after a child that lived for ``lived_s``."""
        if lived_s >= self._config.stable_s:
            self._deaths = 0
        self._deaths += 1
        # The exponent is bounded too: 2.0**1024 would not be a number any more.
        doubled = self._config.backoff_initial_s * 2.0 ** min(self._deaths - 1, 64)
        return min(doubled, self._config.backoff_max_s)


class _Listening(msgspec.Struct, frozen=True):
    url: str
    pid: int


class Child:
    """A process that is kept alive from :meth:`start` to :meth:`stop`.

    Args:
        lifeline: file descriptor that the child inherits and watches.
        report: told of deaths and restarts.
    """

    def __init__(
        self,
        program: Program,
        lifeline: int,
        *,
        config: ChildConfig | None = None,
        report: Report = lambda _: None,
    ) -> None:
        self._program = program
        self._lifeline = lifeline
        self._config = config or ChildConfig()
        self._report = report
        self._process: asyncio.subprocess.Process | None = None
        self._keeper: asyncio.Task[None] | None = None
        self._port = program.port
        self.url = ""
        self.restarts = 0

    @property
    def name(self) -> str:
        return self._program.name

    @property
    def pid(self) -> int | None:
        """The process that runs now."""
        process = self._process
        return process.pid if process is not None and process.returncode is None else None

    async def start(self) -> str:
        """Start it and wait until it listens; from then on it is kept alive.

        Returns:
            Its URL.

        Raises:
            ChildError: it died or said nothing in time; with the tail of its log.
        """
        self._program.log.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        self._rotate_log()
        started = time.monotonic()
        try:
            await self._launch()
        except BaseException:
            await self._end()
            raise
        self._keeper = asyncio.create_task(self._keep(started), name=f"keep-{self.name}")
        return self.url

    async def ready(self) -> None:
        """Wait until ``/readyz`` says 200.

        Raises:
            ChildError: not in time; with its reason, and the tail of its log.
        """
        deadline = time.monotonic() + self._config.ready_timeout_s
        reason = "no answer"
        client = BlockingClient(self.url, config=ClientConfig(stall_timeout_s=2.0))
        try:
            while time.monotonic() < deadline:
                try:
                    answer = await asyncio.to_thread(
                        client.get, READYZ, limit_bytes=_MAX_ANSWER_BYTES
                    )
                except HeadwaterError as error:
                    reason = error.message
                else:
                    if answer.status == 200:
                        return
                    reason = f"{answer.status} {bytes(answer.body[:300]).decode(errors='replace')}"
                if self._keeper is not None and self._keeper.done():
                    break
                await asyncio.sleep(self._config.poll_s)
        finally:
            client.close()
        raise self._failure(f"is not ready after {self._config.ready_timeout_s:g} s: {reason}")

    async def stop(self) -> None:
        """Stop it for good; may be called twice."""
        if self._keeper is not None:
            self._keeper.cancel()
            await asyncio.gather(self._keeper, return_exceptions=True)
        await self._end()

    def tail(self) -> str:
        """The last lines of its log."""
        try:
            with self._program.log.open("rb") as stream:
                stream.seek(0, os.SEEK_END)
                stream.seek(max(0, stream.tell() - _TAIL_BYTES))
                text = stream.read().decode("utf-8", "replace")
        except OSError:
            return ""
        return "\n".join(text.splitlines()[-_TAIL_LINES:])

    async def _launch(self) -> None:
        """Spawn, and wait for the ready file of this very process."""
        program = self._program
        program.ready_file.unlink(missing_ok=True)
        environ = {**program.environ, LIFELINE: str(self._lifeline)}
        with program.log.open("ab") as log:
            # A session of its own: Ctrl-C in the terminal reaches the launcher alone, which then
            # stops the tiers in order.
            process = await asyncio.create_subprocess_exec(
                *program.argv,
                "--port",
                str(self._port),
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                cwd=program.folder,
                env=environ,
                pass_fds=(self._lifeline,),
                start_new_session=True,
            )
        self._process = process
        deadline = time.monotonic() + self._config.listen_timeout_s
        while (found := self._listening(process.pid)) is None:
            if process.returncode is not None:
                raise self._failure(f"ended with status {process.returncode} before it listened")
            if time.monotonic() > deadline:
                raise self._failure(f"did not listen within {self._config.listen_timeout_s:g} s")
            await asyncio.sleep(self._config.poll_s)
        self.url = found.url
        self._port = int(found.url.rpartition(":")[2])

    async def _keep(self, started: float) -> None:
        backoff = Backoff(self._config)
        while self._process is not None:
            status = await self._process.wait()
            wait_s = backoff.after_death(time.monotonic() - started)
            self._note(f"{self.name} ended with status {status}; starting again in {wait_s:g} s")
            await asyncio.sleep(wait_s)
            started = time.monotonic()
            self.restarts += 1
            try:
                await self._launch()
            except ChildError as error:
                self._note(f"{self.name}: {error.message.splitlines()[0]}")
                await self._end()
            else:
                self._note(f"{self.name} listens again at {self.url}")

    async def _end(self) -> None:
        process = self._process
        if process is None or process.returncode is not None:
            return
        with contextlib.suppress(ProcessLookupError):
            process.terminate()
        try:
            async with asyncio.timeout(self._config.stop_timeout_s):
                await process.wait()
        except TimeoutError:
            self._note(f"{self.name} did not stop within {self._config.stop_timeout_s:g} s; killed")
            with contextlib.suppress(ProcessLookupError):
                process.kill()
            await process.wait()

    def _listening(self, pid: int) -> _Listening | None:
        try:
            found = msgspec.json.decode(self._program.ready_file.read_bytes(), type=_Listening)
        except (OSError, msgspec.DecodeError):
            return None
        return found if found.pid == pid else None

    def _rotate_log(self) -> None:
        """One earlier log is kept, so that logs cannot grow over many starts."""
        log = self._program.log
        if log.exists():
            log.replace(log.with_name(f"{log.name}.1"))

    def _note(self, text: str) -> None:
        with contextlib.suppress(OSError), self._program.log.open("ab") as log:
            log.write(f"launcher: {text}\n".encode())
        self._report(text)

    def _failure(self, text: str) -> ChildError:
        tail = self.tail()
        return ChildError(
            f"{self.name} {text} (log: {self._program.log})" + (f"\n{tail}" if tail else "")
        )
