"""Keeps a child process alive: start with a deadline, notice death at once, restart with backoff.

A child of our own is handed one line on stdin, which then stays open as its lifeline: when the
worker dies in any way, the child reads the end of file and exits. It answers with one line of JSON
on stdout when it is ready. Somebody else's program is asked until it answers (``Launch.answers``).
What a child says otherwise goes to a bounded tail that error reports quote.

A child that ends has a verdict (``gpu_worker.faults``), which streams that it broke off ask for.
One that hangs is condemned by whoever found that, and killed: a frozen one hears no polite signal.

States of :class:`EngineProcess`, all changed in this file::

    stopped ──start()──► starting ──it is ready──► up ──exit──► waiting (backoff) ──► starting …
                            │                                         │
                       first start fails                      restarts used up
                            ▼                                         ▼
                          closed ◄───────────── aclose() ─────────── dead
"""

from __future__ import annotations

import asyncio
import signal
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any, Literal, cast

import msgspec
import structlog

from gpu_worker.child import Child, Launch, Life, LogTail, end_life, kill_group, spawn
from gpu_worker.engine import EngineStartError
from gpu_worker.faults import End, Tally, ending_of, name_fault, oom_kills, telling
from wire.workers import Fault

__all__ = ["Backoff", "EngineProcess", "Launch", "SupervisorConfig"]

_log = structlog.get_logger("engine")

State = Literal["stopped", "starting", "up", "waiting", "dead", "closed"]
_REPORTED_LINES = 3
_LAST_WORDS_S = 1.0
_MUTE_STARTS = 3


@dataclass(frozen=True, slots=True, kw_only=True)
class SupervisorConfig:
    """Deadlines and bounds of a supervised child."""

    ready_timeout_s: float = 600.0
    """As long as a worker waits for a load altogether: 40 GB that are read from a cold disk of
    100 MB/s take 400 s."""
    stop_grace_s: float = 2.0
    """After SIGTERM; then SIGKILL."""
    backoff_initial_s: float = 0.1
    """Before the first restart; twice as long before each further one ..."""
    backoff_max_s: float = 30.0
    """... but no longer than this."""
    poll_s: float = 0.05
    """Between two questions whether a program that does not say so is ready."""
    restarts: int = 8
    """Deaths in a row that are answered with a restart; then the engine is given up."""
    stable_s: float = 60.0
    """A child that lived so long was well: the count of deaths starts again."""
    standby_s: float = 900.0
    """So long a child waits for its orders ahead of its work (``gpu_worker.standby``)."""
    log_lines: int = 200
    """Of what the child wrote last, kept for error messages."""
    log_line_bytes: int = 1_000
    """A longer line is cut."""

    def log_tail(self) -> LogTail:
        """What takes a child's words."""
        return LogTail(lines=self.log_lines, line_bytes=self.log_line_bytes)


class Backoff:
    """How long to wait before the next restart, doubling up to a bound. Sans-IO."""

    def __init__(self, config: SupervisorConfig) -> None:
        self._config = config
        self._deaths = 0

    def after_death(self, lived_s: float) -> float | None:
        """Seconds to wait before the next start, or None: give up."""
        if lived_s >= self._config.stable_s:
            self._deaths = 0
        self._deaths += 1
        if self._deaths > self._config.restarts:
            return None
        # The exponent is bounded too: 2.0**1024 would not be a number any more.
        doubled = self._config.backoff_initial_s * 2.0 ** min(self._deaths - 1, 64)
        return min(doubled, self._config.backoff_max_s)


class EngineProcess:
    """A supervised child process.

    Args:
        name: for logs, error messages and the name of the watching task.
        launch: called before every start, so each life has fresh secrets.
        clock: monotonic seconds.
        on_ready: given the ready line of every life, before ``start`` returns or ``state`` is up;
            may raise :class:`EngineStartError`.
        tally: where its ends and restarts are counted.
    """

    def __init__(
        self,
        name: str,
        launch: Callable[[], Launch],
        config: SupervisorConfig,
        *,
        clock: Callable[[], float],
        on_ready: Callable[[dict[str, Any]], None],
        tally: Tally | None = None,
    ) -> None:
        self.name = name
        self.state: State = "stopped"
        self.restarts = 0
        self.last_death = ""
        self.fault: Fault = ""
        """What ended the last life that ended by itself."""
        self.dead: asyncio.Future[str] = asyncio.get_running_loop().create_future()
        self.launch = launch
        self._config = config
        self._clock = clock
        self._on_ready = on_ready
        self._tally = tally or Tally()
        self._backoff = Backoff(config)
        self._mute = False
        """Whether the last start failed in good order and without a reason."""
        self._child: Child | None = None
        self._transport: asyncio.SubprocessTransport | None = None
        self._watcher: asyncio.Task[None] | None = None

    @property
    def pid(self) -> int | None:
        """The child's process id while it lives."""
        return self._transport.get_pid() if self._transport is not None else None

    @property
    def verdict(self) -> asyncio.Future[Fault] | None:
        """What will have ended the child of now, or ended the last one; empty: we stopped it."""
        return self._child.verdict if self._child is not None else None

    def log_tail(self) -> list[str]:
        """The last lines that the child of now, or the last one, wrote to stderr."""
        return self._child.log.lines() if self._child is not None else []

    async def start(self) -> None:
        """Start the child, wait for its ready line, and watch it from then on.

        Raises:
            EngineStartError: it died, spoke nonsense, or was not ready in time. It is not tried
                again: a file that cannot be loaded now will not load in a second. Only a program
                that went in good order and did not say why is asked once more: llama-server was
                seen to lose its last words in one of twenty such ends.
        """
        if self.state != "stopped":
            raise EngineStartError(f"{self.name} was started before")
        try:
            for left in reversed(range(_MUTE_STARTS)):
                try:
                    child = await self._begin()
                    break
                except EngineStartError:
                    if not (self._mute and left):
                        raise
        except BaseException:
            await self.aclose()
            raise
        self._watcher = asyncio.create_task(
            self._watch(child), name=f"engine-supervisor:{self.name}"
        )
        self._watcher.add_done_callback(self._on_watcher_done)

    def condemn(self, fault: Fault, why: str) -> None:
        """Kill the child of now at once for ``fault``; the restart follows as after any death."""
        child = self._child
        if child is not None and self.state == "up" and not child.condemned[0]:
            child.condemned = (fault, why)
            self._kill(signal.SIGKILL)

    async def aclose(self) -> None:
        """Stop the child for good. May be called twice, also while it starts. Who cancels this
        leaves no child behind either: it is killed then."""
        self.state = "closed"
        try:
            if self._watcher is not None:
                self._watcher.cancel()
                await asyncio.gather(self._watcher, return_exceptions=True)
        finally:
            try:
                await self._stop()
            finally:
                if not self.dead.done():
                    self.dead.set_result("closed")

    async def _watch(self, child: Child) -> None:
        """From one death to the next, until the restarts are used up."""
        alive: Child | None = child
        while alive is not None:
            began = self._clock()
            # Not awaited itself: cancelling this task must not cancel what it waits for.
            await asyncio.wait({alive.exited})
            self.state = "waiting"
            await self._drain(alive)
            # Every word of the report before the verdict: who waits for that may quote it.
            self.last_death = self._report(alive.condemned[1] or f"died ({self._exit_text()})")
            self.fault = self._fault(alive)
            alive.judge(self.fault)
            await self._stop()
            alive = await self._revive(self._clock() - began)
        self.state = "dead"
        _log.error("engine given up", engine=self.name, why=self.last_death)
        self.dead.set_result(self.last_death)

    async def _revive(self, lived_s: float) -> Child | None:
        """Wait and start again until that works; None when the restarts are used up."""
        delay_s = self._backoff.after_death(lived_s)
        while delay_s is not None:
            _log.warning(
                "engine died",
                engine=self.name,
                fault=self.fault,
                why=self.last_death,
                restart_in_s=delay_s,
            )
            await asyncio.sleep(delay_s)
            self.restarts += 1
            self._tally.restarts += 1
            try:
                return await self._begin()
            except EngineStartError as error:
                self.state = "waiting"
                self.last_death, self.fault = error.message, error.fault
            delay_s = self._backoff.after_death(0.0)
        return None

    async def _begin(self) -> Child:
        """One life of the child until it is ready."""
        self.state = "starting"
        launch = self.launch()
        life = await launch.spares.take(launch) if launch.spares is not None else None
        life = life or await spawn(launch, self._config.log_tail())
        if cast(State, self.state) == "closed":  # meanwhile
            await end_life(life, self._config.stop_grace_s)
            raise EngineStartError(f"{self.name} was closed")
        transport, child = life.transport, life.child
        self._transport, self._child = transport, child
        try:
            self._on_ready(await self._until_ready(launch, transport, child))
        except BaseException:
            await self._stop()
            raise
        self.state = "up"
        return child

    async def _until_ready(
        self, launch: Launch, transport: asyncio.SubprocessTransport, child: Child
    ) -> dict[str, Any]:
        """What the child said when it was ready.

        Raises:
            EngineStartError: it never was; its ``fault`` says what ended it.
        """
        cast(asyncio.WriteTransport, transport.get_pipe_transport(0)).write(
            launch.first_line + b"\n"
        )
        timeout_s = self._config.ready_timeout_s
        asking = asyncio.create_task(self._ask(launch.answers)) if launch.answers else None
        ready = asking or child.ready
        try:
            signs: set[asyncio.Future[Any]] = {ready, child.exited}
            await asyncio.wait(signs, timeout=timeout_s, return_when=asyncio.FIRST_COMPLETED)
            if child.ready.done():
                return await self._read_ready(child)
            if ready.done() and not child.exited.done():
                return {}
        finally:
            if asking is not None:
                asking.cancel()
                await asyncio.gather(asking, return_exceptions=True)
        if child.exited.done():
            raise await self._start_error(child, f"died while loading ({self._exit_text()})")
        raise await self._start_error(child, f"was not ready after {timeout_s:g} s", late=True)

    async def _ask(self, answers: Callable[[], Awaitable[bool]]) -> None:
        while not await answers():  # noqa: ASYNC110 - another process sets no event
            await asyncio.sleep(self._config.poll_s)

    async def _start_error(
        self, child: Child, what: str, *, late: bool = False, said: str = ""
    ) -> EngineStartError:
        if not late:
            await self._drain(child)
        fault = self._fault(child, loading=True, timed_out=late, said=said)
        code = self._transport.get_returncode() if self._transport is not None else None
        self._mute = fault == "crashed" and bool(said or (code and code > 0))
        child.judge(fault)
        return EngineStartError(self._report(what), fault=fault)

    def _fault(
        self, child: Child, *, loading: bool = False, timed_out: bool = False, said: str = ""
    ) -> Fault:
        """The name of an end, which is counted; asked once for each."""
        transport = self._transport
        log = [*child.log.lines(), said]
        end = End(
            condemned=child.condemned[0],
            returncode=transport.get_returncode() if transport is not None else None,
            loading=loading,
            timed_out=timed_out,
            oom_kills=oom_kills() - child.oom_kills,
            log=log,
        )
        fault = name_fault(end)
        self._tally.endings[ending_of(fault, log)] += 1
        return fault

    async def _read_ready(self, child: Child) -> dict[str, Any]:
        try:
            line = msgspec.json.decode(child.ready.result(), type=dict[str, Any])
        except msgspec.DecodeError as error:
            raise await self._start_error(child, "sent a malformed ready line") from error
        if "error" in line:
            said = str(line["error"])
            raise await self._start_error(child, f"could not load the model: {said}", said=said)
        return line

    def _on_watcher_done(self, task: asyncio.Task[None]) -> None:
        if task.cancelled() or task.exception() is None:
            return
        _log.error("engine supervisor died", engine=self.name, exc_info=task.exception())
        self.state = "dead"
        if not self.dead.done():
            self.dead.set_result("its supervisor died")

    async def _stop(self) -> None:
        """SIGTERM, a grace, SIGKILL; then nothing of this child is left."""
        transport, child = self._transport, self._child
        if transport is None or child is None:
            return
        child.judge("")
        try:
            await end_life(Life(transport, child), self._config.stop_grace_s)
        finally:
            self._transport = None

    def _kill(self, number: signal.Signals) -> None:
        if self._transport is not None and self._child is not None:
            kill_group(Life(self._transport, self._child), number)

    async def _drain(self, child: Child) -> None:
        """Death is known before the last lines are read; give them a moment for the report. What
        the child has started would keep its pipes open."""
        self._kill(signal.SIGKILL)
        await asyncio.wait({child.drained}, timeout=_LAST_WORDS_S)

    def _exit_text(self) -> str:
        code = self._transport.get_returncode() if self._transport is not None else None
        if code is not None and code < 0:
            return f"killed by {signal.Signals(-code).name}"
        return f"exit status {code}"

    def _report(self, what: str) -> str:
        tail = self.log_tail()
        last = " | ".join(dict.fromkeys(filter(None, [telling(tail), *tail[-_REPORTED_LINES:]])))
        return f"{self.name} {what}" + (f": {last}" if last else "")
