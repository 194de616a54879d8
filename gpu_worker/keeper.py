"""Keeps the models of a worker within its memory: does what ``gpu_worker.residents`` decides.

Every engine has a stay here from before it is loaded until it is closed, so what is being loaded
and what is being closed count as well. Whoever wants a stay waits until those that sleep for it are
closed; then the memory is really free.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Protocol

import structlog

from gpu_worker.engine import Engine
from gpu_worker.errors import NoRoomError
from gpu_worker.residents import (
    Busy,
    Decision,
    Place,
    Room,
    decide,
    idle_too_long,
    next_idle_s,
    room_bytes,
)
from gpu_worker.serving import Serving

_log = structlog.get_logger("keeper")
_TICK_S = 5.0
"""How often to look without a reason; oftener where a model is to sleep sooner."""
_BUSY_RETRY_S = 5
_NEVER_RETRY_S = 60
MIB = 2**20


class Tenant(Protocol):
    """A model that lives here."""

    @property
    def name(self) -> str: ...

    @property
    def pinned(self) -> bool:
        """Whether it must not be put to sleep."""
        ...

    @property
    def idle_unload_s(self) -> float: ...

    @property
    def serving(self) -> Serving: ...

    def doze(self, engine: Engine) -> asyncio.Task[None]:
        """Serve nothing from now on but a sleeper; the task has closed the engine when done."""
        ...

    def rouse(self) -> None:
        """Wake up, if it sleeps and can."""
        ...


@dataclass(slots=True, eq=False)
class Stay:
    """What one engine of a tenant takes. ``engine`` is None while it is loaded."""

    tenant: Tenant
    size_bytes: int
    engine: Engine | None = None
    leaving: bool = False

    def place(self) -> Place:
        """For the decision: as it is now."""
        serving = self.tenant.serving
        serves = self.engine is not None and serving.engine is self.engine
        return Place(
            model=self.tenant.name,
            size_bytes=self.size_bytes,
            pinned=self.tenant.pinned,
            in_flight=serving.in_flight if serves else 0,
            settled=serves and not self.leaving,
            last_used_s=serving.last_used_s,
            idle_unload_s=self.tenant.idle_unload_s,
        )


class Keeper:
    """Gives stays. Used from one event loop.

    Args:
        budget_bytes: what all engines may take together; None: nobody counts.
        clock: that of every tenant's ``Serving``; monotonic seconds.
    """

    def __init__(
        self, budget_bytes: int | None, *, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self.budget_bytes = budget_bytes
        self.unloads = 0
        """How often a model was put to sleep."""
        self._clock = clock
        self._stays: list[Stay] = []
        self._tenants: list[Tenant] = []
        self._changed = asyncio.Event()
        self._waiting = 0
        self._tick_s = _TICK_S

    def add(self, tenant: Tenant) -> None:
        """A model that ``run`` looks after."""
        self._tenants.append(tenant)
        if tenant.idle_unload_s:
            self._tick_s = min(self._tick_s, tenant.idle_unload_s)

    def used_bytes(self, name: str = "") -> int:
        """What the engines of a model take; of all models, where none is named."""
        return sum(s.size_bytes for s in self._current() if name in {"", s.tenant.name})

    def room_bytes(self, tenant: Tenant, free_bytes: int) -> int:
        """What a second engine of a model could take beside its first.

        Args:
            free_bytes: of the machine's memory, now.
        """
        if self.budget_bytes is None:
            return free_bytes
        places = [place for _, place in self._pairs()]
        room = room_bytes(places, tenant.name, self.budget_bytes)
        asleep_then = room - (self.budget_bytes - self.used_bytes())
        return min(room, free_bytes + asleep_then)

    def idle(self) -> None:
        """A model has no request in flight any more: who waits for room looks again. Called often,
        so nobody is woken for nothing."""
        if self._waiting:
            self._changed.set()

    async def admit(
        self, tenant: Tenant, size_bytes: int, *, evict: bool = True, wait_s: float = 0.0
    ) -> Stay:
        """A stay for an engine that may be loaded now; ``leave`` ends it.

        Args:
            evict: False: only where nobody has to sleep for it.
            wait_s: how long to wait for others' requests to end.

        Raises:
            NoRoomError: there is no room; says why.
        """
        deadline_s = asyncio.get_running_loop().time() + wait_s
        while not isinstance(decision := self._decide(tenant, size_bytes, evict), Room):
            await self._wait_for_room(tenant, size_bytes, decision, deadline_s)
        sleepers = [stay for stay, place in self._pairs() if place in decision.unload]
        stay = Stay(tenant, size_bytes)
        self._stays.append(stay)
        try:
            # Waited for, not gathered: who gives this up must not cut off a close that has begun.
            if going := [self._put_to_sleep(s, f"for {tenant.name}") for s in sleepers]:
                await asyncio.wait(going)
        except BaseException:
            self.leave(stay)
            raise
        return stay

    def settle(self, stay: Stay, engine: Engine) -> None:
        """The engine of a stay is loaded; the stay ends with it."""
        stay.engine = engine
        engine.dead.add_done_callback(lambda _dead: self.leave(stay))

    def leave(self, stay: Stay) -> None:
        """The stay is over; may be called twice."""
        if stay in self._stays:
            self._stays.remove(stay)
            self._changed.set()

    async def run(self) -> None:
        """Put to sleep who was not asked for long enough, and wake who should never sleep; until
        cancelled."""
        while True:
            self._changed.clear()
            self.tend()
            due_s = next_idle_s(place for _, place in self._pairs())
            wait_s = self._tick_s
            if due_s is not None:
                wait_s = min(max(due_s - self._clock(), 0.0), wait_s)
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(wait_s):
                    await self._changed.wait()

    def tend(self) -> None:
        """Once what ``run`` does."""
        due = idle_too_long([place for _, place in self._pairs()], self._clock())
        for stay, place in self._pairs():
            if place in due:
                self._put_to_sleep(stay, "idle")
        for tenant in self._tenants:
            if tenant.pinned:
                tenant.rouse()

    def _current(self) -> list[Stay]:
        """Without those whose engine is closed, but whose ``leave`` has still to be called."""
        return [s for s in self._stays if s.engine is None or not s.engine.dead.done()]

    def _pairs(self) -> list[tuple[Stay, Place]]:
        return [(stay, stay.place()) for stay in self._current()]

    def _decide(self, tenant: Tenant, size_bytes: int, evict: bool) -> Decision:
        if self.budget_bytes is None:
            return Room()
        places = [place for _, place in self._pairs()]
        return decide(places, tenant.name, size_bytes, self.budget_bytes, evict=evict)

    async def _wait_for_room(
        self, tenant: Tenant, size_bytes: int, decision: Decision, deadline_s: float
    ) -> None:
        """Wait until something changed.

        Raises:
            NoRoomError: it is no use, or the time is over.
        """
        needed = f"{tenant.name} needs {size_bytes // MIB} MiB of memory"
        if not isinstance(decision, Busy):
            most = max(0, getattr(decision, "most_bytes", 0)) // MIB
            raise NoRoomError(
                f"{needed}; beside pinned models this worker has {most} MiB. Raise "
                "memory_budget_bytes or unpin a model",
                retry_after_s=_NEVER_RETRY_S,
            )
        self._changed.clear()
        self._waiting += 1
        try:
            async with asyncio.timeout_at(deadline_s):
                await self._changed.wait()
        except TimeoutError as error:
            raise NoRoomError(
                f"{needed}, which {_list(decision.models)} have in use", retry_after_s=_BUSY_RETRY_S
            ) from error
        finally:
            self._waiting -= 1

    def _put_to_sleep(self, stay: Stay, why: str) -> asyncio.Task[None]:
        engine = stay.engine
        assert engine is not None
        _log.info("unload", model=stay.tenant.name, why=why, bytes=stay.size_bytes)
        stay.leaving = True
        self.unloads += 1
        return stay.tenant.doze(engine)


def _list(names: Iterable[str]) -> str:
    return ", ".join(names) or "others"
