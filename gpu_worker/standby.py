"""A child process that has started ahead of its work and waits for its orders.

Starting an interpreter and loading an engine's libraries (with a GPU: its driver, too) takes no
model, so it is done while the weights are still being pulled. The spare child waits for the line
on stdin that any child gets; it holds no secret and no file until then, and ends with the worker
as any child does. There is one at most. One that died while it waited is not missed: the engine is
started as without it. One that nobody takes for long (its model sleeps, or is no GGUF) is stopped:
it holds memory.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping

import structlog

from gpu_worker.child import Launch, Life, end_life, spawn
from gpu_worker.engine import EngineStartError
from gpu_worker.faults import oom_kills
from gpu_worker.supervisor import SupervisorConfig

_log = structlog.get_logger("standby")


class Standby:
    """Keeps one spare child. Used from one event loop.

    Args:
        argv, environ: of the child; only a launch with the same takes it.
    """

    def __init__(
        self,
        argv: tuple[str, ...],
        environ: Mapping[str, str],
        config: SupervisorConfig | None = None,
    ) -> None:
        self._launch = Launch(argv=argv, first_line=b"", environ=dict(environ))
        self._config = config or SupervisorConfig()
        self._spare: asyncio.Task[Life] | None = None
        self._timer: asyncio.TimerHandle | None = None
        self._ending: set[asyncio.Task[None]] = set()
        self._closed = False

    @property
    def pid(self) -> int | None:
        """The spare's process id, where one waits."""
        life = self._life()
        return life.transport.get_pid() if life is not None else None

    def prepare(self) -> None:
        """Start a spare child, unless one waits already. Returns at once."""
        if self._closed:
            return
        if not self._starting() and self._life() is None:
            child = spawn(self._launch, self._config.log_tail())
            self._spare = asyncio.create_task(child, name="standby")
        self._unwind()
        loop = asyncio.get_running_loop()
        self._timer = loop.call_later(self._config.standby_s, self._dismiss)

    async def take(self, launch: Launch) -> Life | None:
        """The spare child, which is the caller's from then on; None where there is none that
        lives, or the launch is of something else."""
        spare, same = self._spare, self._launch
        if spare is None or (launch.argv, launch.environ) != (same.argv, same.environ):
            return None
        self._spare = None
        self._unwind()
        try:
            # Not awaited itself: who is cancelled here must not lose a child that has started.
            await asyncio.wait({spare})
        except asyncio.CancelledError:
            self._return(spare)
            raise
        try:
            life = spare.result()
        except EngineStartError as error:
            _log.warning("no child stands by", why=error.message)
            return None
        if life.child.exited.done():
            _log.warning("the child that stood by died", log=life.child.log.lines()[-3:])
            await end_life(life, self._config.stop_grace_s)
            return None
        life.child.oom_kills = oom_kills()  # what was killed while it waited was not its work
        return life

    async def aclose(self) -> None:
        """Stop the spare. May be called twice."""
        self._closed = True
        self._unwind()
        self._dismiss()
        if self._ending:
            await asyncio.wait(self._ending)

    def _return(self, spare: asyncio.Task[Life]) -> None:
        """It is for the next one, unless another stands by already."""
        if self._spare is not None or self._closed:
            self._end(spare)
            return
        self._spare = spare
        self.prepare()

    def _unwind(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _dismiss(self) -> None:
        spare, self._spare = self._spare, None
        if spare is not None:
            self._end(spare)

    def _end(self, spare: asyncio.Task[Life]) -> None:
        """Stop it, as soon as it has started."""
        task = asyncio.create_task(self._stopped(spare), name="standby-end")
        self._ending.add(task)
        task.add_done_callback(self._ending.discard)

    async def _stopped(self, spare: asyncio.Task[Life]) -> None:
        (life,) = await asyncio.gather(spare, return_exceptions=True)
        if isinstance(life, Life):
            await end_life(life, self._config.stop_grace_s)

    def _starting(self) -> bool:
        return self._spare is not None and not self._spare.done()

    def _life(self) -> Life | None:
        spare = self._spare
        if spare is None or not spare.done() or spare.cancelled() or spare.exception() is not None:
            return None
        life = spare.result()
        return None if life.child.exited.done() else life
