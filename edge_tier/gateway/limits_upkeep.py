"""What a process owes to a shared Redis: settlements that it could not take, and signs of life.

A running request holds a place of its subjects' ``concurrent_streams`` only as long as its edge
tells of it, so that an edge that was killed frees its places within ``stream_lease_s``. A
settlement that Redis missed is made up for when it is back: a day's budget and the places must not
be lost to a hiccup. So is a reservation whose answer never came and which may stand in Redis all
the same: its client has left, or was served on the lease. One task does it all, and exists only
while there is something to do.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from typing import NamedTuple

import structlog

from edge_tier.gateway.gcra import Debts
from edge_tier.gateway.limits import Subject

_log = structlog.get_logger("limits")
_RENEWALS = 3
"""Signs of life within a lease."""


class Settlement(NamedTuple):
    """All that is needed to settle a reservation."""

    id: str
    tenant: str
    subjects: list[Subject]
    reserved: Debts
    used: Debts


class Upkeep:
    """Settlements that are owed, and requests that run.

    Args:
        clock: monotonic seconds.
        settle: hand one to Redis; False while it is gone.
        renew: tell Redis that these reservations run, by a subject's key; whether to put them back
            where they are missing; False while it is gone.
        losses: how often Redis was lost so far.
        lease_s: how long a sign of life counts.
        period_s: how often to look.
        most: settlements that are remembered; the oldest is given up, and drains by itself.
    """

    def __init__(
        self,
        *,
        clock: Callable[[], float],
        settle: Callable[[Settlement], Awaitable[bool]],
        renew: Callable[[str, Sequence[str], bool], Awaitable[bool]],
        losses: Callable[[], int],
        lease_s: float,
        period_s: float,
        most: int,
    ) -> None:
        self._clock = clock
        self._settle = settle
        self._renew = renew
        self._losses = losses
        self._lost_before = losses()
        self._lease_s = lease_s
        self._period_s = period_s
        self._most = most
        self._owed: dict[str, tuple[Settlement, float]] = {}
        self._running: dict[str, list[str]] = {}
        self._renew_at_s = 0.0
        self._task: asyncio.Task[None] | None = None

    def owe(self, settlement: Settlement, after_s: float = 0.0) -> None:
        """Settle this when Redis is there, but not before ``after_s``."""
        self._owed[settlement.id] = (settlement, self._clock() + after_s)
        if len(self._owed) > self._most:
            del self._owed[next(iter(self._owed))]
        self._go_on()

    def started(self, reservation: str, keys: list[str]) -> None:
        """A request runs, and holds a place under each of these keys."""
        if not self._running:
            self._renew_at_s = self._clock() + self._lease_s / _RENEWALS
        self._running[reservation] = keys
        self._go_on()

    def ended(self, reservation: str) -> None:
        """It does so no longer."""
        self._running.pop(reservation, None)

    async def catch_up(self, *, wait: bool = True) -> None:
        """Do what is due now; without ``wait`` all that is owed."""
        if await self._settle_owed(wait=wait) and self._running:
            await self._renew_running()

    async def aclose(self) -> None:
        """Settle what can be settled, and end the task; may be called twice."""
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)
            self._task = None
        self._running.clear()
        await self.catch_up(wait=False)

    async def _settle_owed(self, *, wait: bool) -> bool:
        """Whether Redis took all that was due."""
        now = self._clock()
        due = [one for one, at_s in self._owed.values() if at_s <= now or not wait]
        for settlement in due:
            if not await self._settle(settlement):
                return False
            self._owed.pop(settlement.id, None)
        return True

    async def _renew_running(self) -> None:
        losses = self._losses()
        if self._clock() < self._renew_at_s and losses == self._lost_before:
            return
        by_key: dict[str, list[str]] = {}
        for reservation, keys in self._running.items():
            for key in keys:
                by_key.setdefault(key, []).append(reservation)
        for key, reservations in by_key.items():
            running = [one for one in reservations if one in self._running]  # some end meanwhile
            if not await self._renew(key, running, losses != self._lost_before):
                return
        self._lost_before = losses
        self._renew_at_s = self._clock() + self._lease_s / _RENEWALS

    def _go_on(self) -> None:
        if self._task is None or self._task.done():
            self._task = asyncio.create_task(self._run(), name="limits-upkeep")
            self._task.add_done_callback(_log_death)

    async def _run(self) -> None:
        while self._owed or self._running:
            await asyncio.sleep(self._period_s)
            await self.catch_up()


def _log_death(task: asyncio.Task[None]) -> None:
    if not task.cancelled() and (error := task.exception()) is not None:
        _log.error("upkeep of limits died", exc_info=error)
