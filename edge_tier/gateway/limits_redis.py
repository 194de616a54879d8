"""Limits that the processes of an edge share through Redis, and what holds when Redis is gone.

The scripts stand in ``limits_lua``: one reserves and one settles, over all of a request's subjects
at once. All keys of a script must lie in one slot of a Redis Cluster. A request's keys share a hash
tag, its tenant; so with ``cluster = true`` a model's limits are counted for each tenant apart, and
without it they are one for all.

When Redis fails or stays silent for ``timeout_s``, requests are counted in this process against
``lease_fraction`` of every limit, and Redis is asked again after ``circuit_s``. P processes then
let through at most P times ``lease_fraction`` of a limit per minute (and once as much at the start)
beyond what Redis had admitted; of a budget, as much in its day or month. Nobody gets a server error
for it. What a Redis that comes back has forgotten, it is told by the processes that asked it before
(``limits_recall``); what was spent is only lost where none of them still lives: keep it with a file
(``appendonly yes``) where budgets must outlive that. Settlements that Redis missed are made up for
(``limits_upkeep``).
"""

from __future__ import annotations

import asyncio
import secrets
import time
from collections.abc import Callable, Sequence
from itertools import count
from typing import Any

from edge_tier.gateway import budgets
from edge_tier.gateway.budgets import Spent
from edge_tier.gateway.gcra import FULL, Debts, costs
from edge_tier.gateway.limits import (
    LimitsConfig,
    RateLimitedError,
    Subject,
    Subjects,
    budget_refusal,
    check_size,
    crowd_refusal,
    rate_refusal,
    used_of,
)
from edge_tier.gateway.limits_client import AwayError, Circuit, RedisClient, RedisLimits, Script
from edge_tier.gateway.limits_headers import retry_headers
from edge_tier.gateway.limits_lua import RENEW, RESERVE, SETTLE, keys, limits_of
from edge_tier.gateway.limits_memory import MemoryLimiter
from edge_tier.gateway.limits_recall import Recall, Told
from edge_tier.gateway.limits_upkeep import Settlement, Upkeep
from edge_tier.gateway.request import Caller, Charge, Reservation, SharedLimits, Standing

_DEFAULTS = LimitsConfig()
_RESERVE = Script.of(RESERVE)
_SETTLE = Script.of(SETTLE)
_RENEW = Script.of(RENEW)
_TOLD = 7
"""Numbers that a script tells of each subject."""


class RedisLimiter:
    """Limits shared through Redis, with a lease of this process to fall back on.

    Owns the client.
    """

    def __init__(
        self,
        client: RedisClient,
        config: RedisLimits,
        limits: LimitsConfig = _DEFAULTS,
        *,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._config = config
        self._subjects = Subjects(limits)
        self._circuit = Circuit(client, config, clock)
        self._recall = Recall(clock, limits.max_subjects)
        self._lease = MemoryLimiter(clock, limits)
        self._upkeep = Upkeep(
            clock=clock,
            settle=self._hand_over,
            renew=self._renew,
            losses=lambda: self._circuit.losses,
            lease_s=config.stream_lease_s,
            period_s=config.upkeep_s,
            most=limits.max_open,
        )
        self._prefix = f"r{secrets.token_hex(8)}-"
        self._numbers = count()
        self._hold_ms = int(limits.hold_s * 1e3)
        self._lease_ms = int(config.stream_lease_s * 1e3)

    @property
    def degraded(self) -> bool:
        """Whether Redis failed when it was last asked, so that the lease is in force."""
        return self._circuit.is_open

    async def reserve(self, caller: Caller, charge: Charge) -> Reservation:
        """See ``Limiter``."""
        charged = self._subjects.of(caller, charge.model, charge.alias)
        if not charged:
            return Reservation(caller=caller, charge=charge)
        for subject in charged:
            check_size(subject, charge)
        id = f"{self._prefix}{next(self._numbers)}"  # noqa: A001 - the field's own name
        wanted = Settlement(id, caller.tenant, charged, costs(charge), FULL)
        try:
            answer = await self._run(_RESERVE, wanted)
        except AwayError as error:
            if error.asked:
                self._undo(wanted)
            return self._reserve_leased(charged, caller, charge)
        except asyncio.CancelledError:
            self._undo(wanted)
            raise
        refusing, why, unix_s, *told = answer
        if refusing:
            subject = charged[refusing - 1]
            (state,) = self._heard([subject], told)
            raise _refusal(subject, charge, why.decode(), state, unix_s)
        states = self._heard(charged, told)
        self._started(wanted)
        standings = tuple(
            [Standing(one.limits, told.debts) for one, told in zip(charged, states, strict=True)]
        )
        return Reservation(id=id, caller=caller, charge=charge, standings=standings)

    async def settle(self, reservation: Reservation, input_tokens: int, output_tokens: int) -> None:
        """See ``Limiter``. What Redis cannot take now, it is given when it is back.

        Once begun it is finished, also for a client that leaves just then.
        """
        if not reservation.id.startswith(self._prefix):
            self._lease.try_settle(reservation, input_tokens, output_tokens)
            return
        charge, tenant = reservation.charge, reservation.caller.tenant
        charged = self._subjects.of(reservation.caller, charge.model, charge.alias)
        used = used_of(input_tokens, output_tokens)
        self._upkeep.ended(reservation.id)
        settlement = Settlement(reservation.id, tenant, charged, costs(charge), used)
        await asyncio.shield(self._settle(settlement))

    def budget_used(self, caller: Caller) -> float:
        """See ``Limiter``."""
        used = 0.0
        for subject in self._subjects.of(caller):
            if subject.has_budget and (told := self._recall.heard(subject.id)) is not None:
                spent = budgets.now(Spent(*told[2:]), time.time())
                used = max(used, budgets.part_used(spent, subject.limits))
        return used

    async def catch_up(self) -> None:
        """What the limiter does by itself every ``upkeep_s`` while there is anything to do: settle
        what Redis missed, and tell it what runs."""
        await self._upkeep.catch_up()

    async def aclose(self) -> None:
        """See ``Limiter``."""
        await self._upkeep.aclose()
        await self._circuit.aclose()
        await self._lease.aclose()

    async def _settle(self, settlement: Settlement) -> None:
        if not await self._hand_over(settlement):
            self._upkeep.owe(settlement)

    def _undo(self, wanted: Settlement) -> None:
        """A reservation that may have been made, and that nobody will settle. Not at once: it may
        still be on its way."""
        self._upkeep.owe(wanted, self._config.circuit_s)

    async def _hand_over(self, settlement: Settlement) -> bool:
        """Whether Redis has settled it."""
        try:
            settled, *answer = await self._run(_SETTLE, settlement)
        except AwayError:
            return False
        if settled:
            self._heard(settlement.subjects, answer[2:])
        return True

    def _started(self, wanted: Settlement) -> None:
        crowded = [at for at, s in enumerate(wanted.subjects) if s.limits.concurrent_streams]
        if crowded:
            named = self._keys(wanted)[len(wanted.subjects) :]
            self._upkeep.started(wanted.id, [named[at] for at in crowded])

    async def _renew(self, key: str, reservations: Sequence[str], anew: bool) -> bool:
        try:
            times = [self._hold_ms, self._lease_ms]
            await self._circuit.run(_RENEW, [key], [*times, int(anew), *reservations])
        except AwayError:
            return False
        return True

    async def _run(self, script: Script, one: Settlement) -> Any:
        args: list[str | int] = [len(one.subjects), one.id, self._hold_ms, self._lease_ms]
        args += one.reserved
        args += one.used
        for subject in one.subjects:
            args += limits_of(subject)
            args += self._recall.arguments(subject.id)
        return await self._circuit.run(script, self._keys(one), args)

    def _keys(self, one: Settlement) -> list[str]:
        prefix, cluster = self._config.prefix, self._config.cluster
        return keys(prefix, one.subjects, one.tenant, one.id, cluster=cluster)

    def _heard(self, subjects: list[Subject], told: list[int]) -> list[Told]:
        """Note what a script tells: the day, the month, and seven numbers of each subject."""
        day, month, *numbers = told
        states = []
        for at, subject in enumerate(subjects):
            born, *debts, in_day, in_month = numbers[at * _TOLD : (at + 1) * _TOLD]
            state = Told(born, Debts(*debts), day, in_day, month, in_month)
            self._recall.note(subject.id, state)
            states.append(state)
        return states

    def _reserve_leased(
        self, charged: list[Subject], caller: Caller, charge: Charge
    ) -> Reservation:
        fraction = self._config.lease_fraction
        reduced = [Subject(s.kind, s.name, leased(s.limits, fraction)) for s in charged]
        cost = costs(charge)
        for subject in reduced:
            if limit := _too_small(subject, cost):
                raise RateLimitedError(
                    f"limits are reduced for the moment: {limit} tokens, this request needs "
                    f"{charge.tokens}; try again soon",
                    headers=retry_headers(self._config.circuit_s),
                )
        return self._lease.reserve_for(reduced, caller, charge)


def leased(limits: SharedLimits, fraction: float) -> SharedLimits:
    """The part of the limits that one process may give out by itself; at least 1 of each."""

    def part(limit: int) -> int:
        return max(1, int(limit * fraction)) if limit else 0

    names = SharedLimits.__struct_fields__
    return SharedLimits(**{name: part(getattr(limits, name)) for name in names})


def _too_small(subject: Subject, cost: Debts) -> int:
    """A limit on tokens that this request alone is over; 0 where there is none."""
    limits = subject.limits
    tokens = [(limit, cost[index]) for index, limit in subject.buckets if index]
    tokens += [(limits.tokens_per_day, cost.tokens), (limits.tokens_per_month, cost.tokens)]
    return min((limit for limit, needed in tokens if 0 < limit < needed), default=0)


def _refusal(
    subject: Subject, charge: Charge, why: str, state: Told, unix_s: int
) -> RateLimitedError:
    if why == "rate":
        return rate_refusal(subject, charge, state.debts)
    if why == "crowd":
        return crowd_refusal(subject)
    limits = subject.limits
    if why == "day":
        left_s = budgets.seconds_to_day_end(unix_s)
        return budget_refusal(subject, charge, why, limits.tokens_per_day, state.in_day, left_s)
    left_s = budgets.seconds_to_month_end(unix_s)
    return budget_refusal(subject, charge, why, limits.tokens_per_month, state.in_month, left_s)
