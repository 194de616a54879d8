"""Engines that serve no more: their streams finish, to a deadline, and then they stop."""

from __future__ import annotations

import asyncio
from contextlib import AbstractContextManager, nullcontext

import structlog

from gpu_worker.engine import Engine
from gpu_worker.serving import Serving
from gpu_worker.waterfall import Waterfall

_log = structlog.get_logger("roll")


class Retiring:
    """The engines of one :class:`Serving` that are on their way out. ``drain_s``: the deadline."""

    def __init__(self, serving: Serving, drain_s: float) -> None:
        self._serving = serving
        self._drain_s = drain_s
        self._tasks: set[asyncio.Task[None]] = set()

    @property
    def running(self) -> bool:
        """Whether any has not stopped yet."""
        return bool(self._tasks)

    def soon(self, engine: Engine, waterfall: Waterfall | None = None) -> None:
        """Let an engine's streams finish in the background, then stop it; the last step of the roll
        that put another one in its place, if one did."""
        timed = waterfall.step("drain") if waterfall is not None else nullcontext()
        task = asyncio.create_task(
            self._retire(engine, timed), name=f"retire-{engine.revision[:12]}"
        )
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def aclose(self) -> None:
        """Wait for all of them to the deadline, then stop those that are left."""
        if self._tasks:
            await asyncio.wait(self._tasks, timeout=self._drain_s)
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    async def _retire(self, engine: Engine, timed: AbstractContextManager[None]) -> None:
        with timed:
            try:
                left = await self._serving.drain(engine, self._drain_s)
                if left:
                    revision = engine.revision
                    _log.warning("streams cut at the deadline", revision=revision, streams=left)
            finally:
                await engine.aclose()
