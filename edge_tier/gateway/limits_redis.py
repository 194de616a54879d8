"""Limits that the processes of an edge share through Redis, and what holds when Redis is gone.

The scripts stand in ``limits_lua``. When Redis fails or stays silent for ``timeout_s``, requests
are counted in this process against ``lease_fraction`` of every limit, and Redis is asked again
after ``circuit_s``. P processes then let through at most P times ``lease_fraction`` of a limit per
minute (and once as much at the start) beyond what Redis had admitted; of a budget, as much in its
day or month. Nobody gets a server error for it. A Redis that comes back empty has forgotten what
was spent: keep it with a file (``appendonly yes``) where budgets must outlive it.
"""

from __future__ import annotations

import asyncio
import hashlib
import secrets
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from itertools import count
from typing import Any, Protocol

import structlog
from redis.asyncio import Redis
from redis.asyncio.connection import ConnectionPool
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff
from redis.exceptions import NoScriptError, RedisError

from edge_tier.gateway import budgets
from edge_tier.gateway.budgets import Spent
from edge_tier.gateway.gcra import Debts, costs
from edge_tier.gateway.limits import (
    LimitsConfig,
    RateLimitedError,
    Subject,
    Subjects,
    budget_refusal,
    check_size,
    crowd_refusal,
    rate_refusal,
    retry_headers,
)
from edge_tier.gateway.limits_lua import RESERVE, SETTLE, keys, limits_of
from edge_tier.gateway.limits_memory import MemoryLimiter
from edge_tier.gateway.request import Caller, Charge, Limits, Reservation, Standing

_log = structlog.get_logger("limits")
_DEFAULTS = LimitsConfig()


@dataclass(frozen=True, slots=True, kw_only=True)
class RedisLimits:
    """How limits are shared."""

    prefix: str = "headwater:limits:"
    timeout_s: float = 0.25
    """For one round trip, connecting included."""
    circuit_s: float = 1.0
    """How long Redis is left alone after a failure."""
    lease_fraction: float = 0.25
    """What each process may let through meanwhile, of every limit."""
    max_connections: int = 16
    cluster: bool = False
    """A Redis Cluster: a model's limits are then counted for each tenant apart."""


class RedisClient(Protocol):
    """What is needed of ``redis.asyncio.Redis`` and ``redis.asyncio.RedisCluster`` alike."""

    def execute_command(self, *args: Any) -> Awaitable[Any]:
        """Send one command and read its answer."""
        ...

    async def aclose(self) -> None:
        """Close all connections."""
        ...


def connect(url: str, config: RedisLimits) -> RedisClient:
    """A client for ``redis://``, ``rediss://`` or ``unix://``; connects when first used.

    It does not repeat commands by itself: a script that ran must not run again.
    """
    return Redis.from_pool(
        ConnectionPool.from_url(
            url, max_connections=config.max_connections, retry=Retry(NoBackoff(), 0)
        )
    )


class RedisLimiter:
    """Limits shared through Redis, with a lease of this process to fall back on.

    Owns the client. A cancelled ``reserve`` may leave a charge behind; it drains by itself.
    """

    def __init__(
        self,
        client: RedisClient,
        config: RedisLimits,
        limits: LimitsConfig = _DEFAULTS,
        *,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._client = client
        self._config = config
        self._subjects = Subjects(limits)
        self._clock = clock
        self._lease = MemoryLimiter(clock, limits)
        self._slots = asyncio.Semaphore(config.max_connections)
        self._prefix = f"r{secrets.token_hex(8)}-"
        self._numbers = count()
        self._hold_ms = int(limits.hold_s * 1e3)
        self._retry_at_s: float | None = None

    @property
    def degraded(self) -> bool:
        """Whether Redis failed when it was last asked, so that the lease is in force."""
        return self._retry_at_s is not None

    async def reserve(self, caller: Caller, charge: Charge) -> Reservation:
        """See ``Limiter``."""
        charged = self._subjects.of(caller, charge.model)
        if not charged:
            return Reservation(caller=caller, charge=charge)
        for subject in charged:
            check_size(subject, charge)
        id = f"{self._prefix}{next(self._numbers)}"  # noqa: A001 - the field's own name
        answer = await self._ask(
            _RESERVE, charged, caller, id, *costs(charge), 0, 0, 0, 0, *limits_of(charged)
        )
        if answer is None:
            return self._reserve_leased(charged, caller, charge)
        refusing, why, *rest = answer
        if refusing:
            raise _refusal(charged[refusing - 1], charge, why.decode(), rest)
        standings = tuple(
            _standing(subject.limits, *rest[at * 6 : at * 6 + 6])
            for at, subject in enumerate(charged)
        )
        return Reservation(id=id, caller=caller, charge=charge, standings=standings)

    async def settle(self, reservation: Reservation, input_tokens: int, output_tokens: int) -> None:
        """See ``Limiter``. A refund that Redis cannot take is lost: its debt drains by itself.

        Once begun it is finished, also for a client that leaves just then.
        """
        if not reservation.id.startswith(self._prefix):
            await self._lease.settle(reservation, input_tokens, output_tokens)
            return
        caller, charge = reservation.caller, reservation.charge
        charged = self._subjects.of(caller, charge.model)
        used = Debts(1, input_tokens + output_tokens, input_tokens, output_tokens)
        asked = self._ask(
            _SETTLE,
            charged,
            caller,
            reservation.id,
            *costs(charge),
            *used,
            *limits_of(charged),
        )
        await asyncio.shield(asked)

    async def aclose(self) -> None:
        """See ``Limiter``."""
        await self._client.aclose()
        await self._lease.aclose()

    def _reserve_leased(
        self, charged: list[Subject], caller: Caller, charge: Charge
    ) -> Reservation:
        fraction = self._config.lease_fraction
        reduced = [Subject(s.kind, s.name, leased(s.limits, fraction)) for s in charged]
        for subject in reduced:
            smallest = _smallest(subject.limits)
            if 0 < smallest < charge.tokens:
                raise RateLimitedError(
                    f"limits are reduced for the moment: {smallest} tokens, this request needs "
                    f"{charge.tokens}; try again soon",
                    headers=retry_headers(self._config.circuit_s),
                )
        return self._lease.reserve_for(reduced, caller, charge)

    async def _ask(
        self,
        script: _Script,
        charged: list[Subject],
        caller: Caller,
        reservation: str,
        *args: int,
    ) -> Any:
        """The script's answer, or None while Redis is gone."""
        if self._resting():
            return None
        async with self._slots:
            if self._resting():  # it failed while this one waited for its turn
                return None
            if self._retry_at_s is not None:
                # One request tries whether Redis is back; the others stay on the lease meanwhile.
                self._retry_at_s = self._clock() + self._config.circuit_s
            try:
                async with asyncio.timeout(self._config.timeout_s):
                    named = keys(
                        self._config.prefix,
                        charged,
                        caller.tenant,
                        reservation,
                        cluster=self._config.cluster,
                    )
                    header = (len(charged), reservation, self._hold_ms)
                    answer = await script.run(self._client, named, (*header, *args))
            except (RedisError, OSError, TimeoutError) as error:
                self._failed(error)
                return None
        self._answered()
        return answer

    def _resting(self) -> bool:
        return self._retry_at_s is not None and self._clock() < self._retry_at_s

    def _failed(self, error: Exception) -> None:
        if self._retry_at_s is None:
            # Only the kind of error: its text may hold the URL, and that a password.
            _log.warning(
                "Redis is gone, limits are leased locally",
                error=type(error).__name__,
                lease_fraction=self._config.lease_fraction,
            )
        self._retry_at_s = self._clock() + self._config.circuit_s

    def _answered(self) -> None:
        if self._retry_at_s is not None:
            self._retry_at_s = None
            _log.info("Redis is back, limits are shared again")


def leased(limits: Limits, fraction: float) -> Limits:
    """The part of the limits that one process may give out by itself; at least 1 of each."""

    def part(limit: int) -> int:
        return max(1, int(limit * fraction)) if limit else 0

    parts = {name: part(getattr(limits, name)) for name in limits.__struct_fields__}
    return Limits(**parts | {"max_output_tokens": limits.max_output_tokens})


def _smallest(limits: Limits) -> int:
    """The smallest limit on prompt and answer together."""
    return min(
        (
            limit
            for limit in (limits.tokens_per_minute, limits.tokens_per_day, limits.tokens_per_month)
            if limit
        ),
        default=0,
    )


def _standing(limits: Limits, *answer: int) -> Standing:
    """How a subject stands, as Redis says it: four debts, and what it has spent."""
    spent = Spent(in_day=answer[4], in_month=answer[5])
    return Standing(limits, answer[:4], budgets.part_used(spent, limits))  # type: ignore[arg-type]


def _refusal(subject: Subject, charge: Charge, why: str, rest: list[int]) -> RateLimitedError:
    if why == "rate":
        return rate_refusal(subject, charge, Debts(*rest))
    if why == "crowd":
        return crowd_refusal(subject)
    used, unix_s = rest
    limits = subject.limits
    if why == "day":
        left_s = budgets.seconds_to_day_end(unix_s)
        return budget_refusal(subject, charge, why, limits.tokens_per_day, used, left_s)
    left_s = budgets.seconds_to_month_end(unix_s)
    return budget_refusal(subject, charge, why, limits.tokens_per_month, used, left_s)


@dataclass(frozen=True, slots=True)
class _Script:
    """A script that Redis keeps under its SHA-1, and gets sent where it does not know it."""

    text: str
    sha: str

    @classmethod
    def of(cls, text: str) -> _Script:
        return cls(text, hashlib.sha1(text.encode(), usedforsecurity=False).hexdigest())

    async def run(self, client: RedisClient, named: list[str], args: tuple[str | int, ...]) -> Any:
        """Run it with its keys and the arguments after them."""
        try:
            return await client.execute_command("EVALSHA", self.sha, len(named), *named, *args)
        except NoScriptError:
            return await client.execute_command("EVAL", self.text, len(named), *named, *args)


_RESERVE = _Script.of(RESERVE)
_SETTLE = _Script.of(SETTLE)
