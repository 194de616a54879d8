"""Limits that the processes of an edge share through Redis, and what holds when Redis is gone.

The same arithmetic as ``gcra.py``, in one Lua script to reserve and one to settle: a script runs
alone, so both buckets are charged or neither. Redis's own clock counts. A caller's keys share a
hash tag, so they lie on one node of a cluster.

When Redis fails or stays silent for ``timeout_s``, requests are counted in this process against
``lease_fraction`` of the limits, and Redis is asked again after ``circuit_s``. P processes then let
through at most P times ``lease_fraction`` of a limit per minute (and once as much at the start)
beyond what Redis had admitted. Nobody gets a server error for it.
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

import msgspec
import structlog
from redis.asyncio import Redis
from redis.asyncio.connection import ConnectionPool
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff
from redis.exceptions import NoScriptError, RedisError

from edge_tier.gateway.gcra import FULL, TICKS, Debts
from edge_tier.gateway.limits import (
    MemoryLimiter,
    RateLimitedError,
    check_size,
    refusal,
    reserved,
    retry_headers,
)
from edge_tier.gateway.request import Caller, Limits, Reservation

_log = structlog.get_logger("limits")

# KEYS: the caller's buckets, the reservation. ARGV: requests and tokens per minute, tokens asked
# for, milliseconds to remember the reservation. Answers {1 or 0, debt of requests, of tokens}:
# after the charge when admitted, before it when not.
RESERVE = f"""
local TICKS = {TICKS}
local per_minute, tokens_per_minute = tonumber(ARGV[1]), tonumber(ARGV[2])
local time = redis.call('TIME')
local now = time[1] * 1000000 + time[2]
local state = redis.call('HMGET', KEYS[1], 'requests', 'tokens', 'at')
local elapsed = math.max(0, now - (tonumber(state[3]) or now))

local function debt(value, limit)
  if limit == 0 then return 0 end
  return math.max(0, (tonumber(value) or 0) - elapsed * limit)
end

local requests, tokens = debt(state[1], per_minute), debt(state[2], tokens_per_minute)
local after_requests, after_tokens = requests, tokens
if per_minute > 0 then after_requests = requests + TICKS end
if tokens_per_minute > 0 then after_tokens = tokens + tonumber(ARGV[3]) * TICKS end
if after_requests > per_minute * TICKS or after_tokens > tokens_per_minute * TICKS then
  return {{0, requests, tokens}}
end

local idle = 1
if per_minute > 0 then idle = math.max(idle, after_requests / per_minute) end
if tokens_per_minute > 0 then idle = math.max(idle, after_tokens / tokens_per_minute) end
local text = string.format
redis.call('HSET', KEYS[1], 'requests', text('%.0f', after_requests),
  'tokens', text('%.0f', after_tokens), 'at', text('%.0f', now))
redis.call('PEXPIRE', KEYS[1], math.ceil(idle / 1000))
if tokens_per_minute > 0 then
  redis.call('SET', KEYS[2], text('%.0f %.0f', after_tokens, now), 'PX', ARGV[4])
end
return {{1, after_requests, after_tokens}}
"""

# KEYS: the same. ARGV: requests and tokens per minute, tokens reserved, tokens used. Answers 1 if
# the reservation was open.
SETTLE = f"""
local TICKS = {TICKS}
local per_minute, tokens_per_minute = tonumber(ARGV[1]), tonumber(ARGV[2])
local open = redis.call('GET', KEYS[2])
if not open then return 0 end
redis.call('DEL', KEYS[2])
local placed, at = string.match(open, '^(%d+) (%d+)$')
local time = redis.call('TIME')
local now = time[1] * 1000000 + time[2]
local state = redis.call('HMGET', KEYS[1], 'requests', 'tokens', 'at')
local elapsed = math.max(0, now - (tonumber(state[3]) or now))
local requests = math.max(0, (tonumber(state[1]) or 0) - elapsed * per_minute)
local tokens = math.max(0, (tonumber(state[2]) or 0) - elapsed * tokens_per_minute)

local difference = (tonumber(ARGV[4]) - tonumber(ARGV[3])) * TICKS
if difference > 0 then
  tokens = math.max(tokens, math.min(tokens + difference, 2 * tokens_per_minute * TICKS))
else
  local undrained = math.max(0, placed - math.max(0, now - at) * tokens_per_minute)
  tokens = math.max(0, tokens + math.max(difference, -undrained))
end

local idle = math.max(1, tokens / tokens_per_minute)
if per_minute > 0 then idle = math.max(idle, requests / per_minute) end
local text = string.format
redis.call('HSET', KEYS[1], 'requests', text('%.0f', requests),
  'tokens', text('%.0f', tokens), 'at', text('%.0f', now))
redis.call('PEXPIRE', KEYS[1], math.ceil(idle / 1000))
return 1
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class RedisLimits:
    """How limits are shared."""

    prefix: str = "headwater:limits:"
    timeout_s: float = 0.05
    """For one round trip, connecting included."""
    circuit_s: float = 1.0
    """How long Redis is left alone after a failure."""
    lease_fraction: float = 0.25
    """What each process may let through meanwhile, of every limit."""
    hold_s: float = 3_600.0
    """How long an unsettled reservation is remembered; longer than any answer takes."""
    max_connections: int = 16


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
        *,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._client = client
        self._config = config
        self._clock = clock
        self._lease = MemoryLimiter(clock)
        self._slots = asyncio.Semaphore(config.max_connections)
        self._prefix = f"r{secrets.token_hex(8)}-"
        self._numbers = count()
        self._hold_ms = int(config.hold_s * 1e3)
        self._retry_at_s: float | None = None

    @property
    def degraded(self) -> bool:
        """Whether Redis failed when it was last asked, so that the lease is in force."""
        return self._retry_at_s is not None

    async def reserve(self, caller: Caller, tokens: int) -> Reservation:
        """See ``Limiter``."""
        limits = caller.limits
        check_size(limits, tokens)
        if not limits.requests_per_minute and not limits.tokens_per_minute:
            return reserved("", caller, tokens, FULL)
        id = f"{self._prefix}{next(self._numbers)}"  # noqa: A001 - the field's own name
        answer = await self._ask(
            _RESERVE,
            *self._keys(caller.key_id, id),
            limits.requests_per_minute,
            limits.tokens_per_minute,
            tokens,
            self._hold_ms,
        )
        if answer is None:
            return await self._reserve_leased(caller, tokens)
        admitted, requests_debt, tokens_debt = answer
        debts = Debts(requests_debt, tokens_debt)
        if not admitted:
            raise refusal(caller, tokens, debts)
        return reserved(id, caller, tokens, debts)

    async def settle(self, reservation: Reservation, used_tokens: int) -> None:
        """See ``Limiter``. A refund that Redis cannot take is lost: its debt drains by itself.

        Once begun it is finished, also for a client that leaves just then.
        """
        if not reservation.id.startswith(self._prefix):
            await self._lease.settle(reservation, used_tokens)
        elif reservation.limit_tokens:
            asked = self._ask(
                _SETTLE,
                *self._keys(reservation.key, reservation.id),
                reservation.limit_requests,
                reservation.limit_tokens,
                reservation.tokens,
                used_tokens,
            )
            await asyncio.shield(asked)

    async def aclose(self) -> None:
        """See ``Limiter``."""
        await self._client.aclose()
        await self._lease.aclose()

    def _keys(self, key: str, id: str) -> tuple[str, str]:  # noqa: A002 - the field's own name
        buckets = f"{self._config.prefix}{{{key}}}"
        return buckets, f"{buckets}:{id}"

    async def _reserve_leased(self, caller: Caller, tokens: int) -> Reservation:
        limits = leased(caller.limits, self._config.lease_fraction)
        if 0 < limits.tokens_per_minute < tokens:
            wait_s = self._config.circuit_s
            raise RateLimitedError(
                f"limits are reduced for the moment: {limits.tokens_per_minute} tokens per minute,"
                f" this request needs {tokens}; try again soon",
                headers=retry_headers(wait_s),
            )
        return await self._lease.reserve(msgspec.structs.replace(caller, limits=limits), tokens)

    async def _ask(self, script: _Script, *args: str | int) -> Any:
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
                    answer = await script.run(self._client, args)
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

    return Limits(
        requests_per_minute=part(limits.requests_per_minute),
        tokens_per_minute=part(limits.tokens_per_minute),
        max_output_tokens=limits.max_output_tokens,
    )


@dataclass(frozen=True, slots=True)
class _Script:
    """A script that Redis keeps under its SHA-1, and gets sent where it does not know it."""

    text: str
    sha: str

    @classmethod
    def of(cls, text: str) -> _Script:
        return cls(text, hashlib.sha1(text.encode(), usedforsecurity=False).hexdigest())

    async def run(self, client: RedisClient, args: tuple[str | int, ...]) -> Any:
        """Run it with two keys and the arguments after them."""
        try:
            return await client.execute_command("EVALSHA", self.sha, 2, *args)
        except NoScriptError:
            return await client.execute_command("EVAL", self.text, 2, *args)


_RESERVE = _Script.of(RESERVE)
_SETTLE = _Script.of(SETTLE)
