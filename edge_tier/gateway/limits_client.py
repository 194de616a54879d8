"""Scripts run by a Redis that may be gone at any moment.

When Redis fails or stays silent for ``timeout_s`` it is left alone for ``circuit_s``; then one
request asks whether it is back, and until it is, all others are told at once that it is away.
"""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import structlog
from redis.asyncio import Redis, RedisCluster
from redis.asyncio.connection import ConnectionPool
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff
from redis.exceptions import NoScriptError, RedisClusterException, RedisError

_log = structlog.get_logger("limits")
_FAULTS = (RedisError, RedisClusterException, OSError, TimeoutError)


@dataclass(frozen=True, slots=True, kw_only=True)
class RedisLimits:
    """How limits are shared."""

    prefix: str = "headwater:limits:"
    """Of all keys in Redis; edges that count together have the same."""
    timeout_s: float = 0.25
    """For one round trip, connecting included."""
    circuit_s: float = 1.0
    """How long Redis is left alone after a failure."""
    lease_fraction: float = 0.25
    """What each process may let through meanwhile, of every limit."""
    stream_lease_s: float = 60.0
    """A running request counts for so long after the last sign of life of its edge."""
    upkeep_s: float = 1.0
    """How often what Redis is owed is looked at: signs of life, and settlements it missed."""
    max_connections: int = 16
    """Further requests wait for one of them to be free."""
    cluster: bool = False
    """A Redis Cluster: a model's limits are then counted for each tenant apart."""

    def __post_init__(self) -> None:
        if not 0 < self.lease_fraction <= 1:
            raise ValueError("lease_fraction is a part of the limits: above 0, at most 1")
        if self.stream_lease_s < 3 * self.upkeep_s:
            raise ValueError("stream_lease_s is at least three times upkeep_s")


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

    It does not repeat commands by itself: a script that ran must not run again. Nor has it times of
    its own: the circuit has, and redis-py's are ``asyncio.wait_for``, which before Python 3.12 may
    swallow a cancellation (python/cpython#86296).
    """
    options: dict[str, Any] = {
        "max_connections": config.max_connections,
        "retry": Retry(NoBackoff(), 0),
        "socket_timeout": None,
        "socket_connect_timeout": None,
    }
    if config.cluster:
        return RedisCluster.from_url(url, **options)
    return Redis.from_pool(ConnectionPool.from_url(url, **options))


@dataclass(frozen=True, slots=True)
class Script:
    """A script that Redis keeps under its SHA-1, and gets sent where it does not know it."""

    text: str
    sha: str

    @classmethod
    def of(cls, text: str) -> Script:
        return cls(text, hashlib.sha1(text.encode(), usedforsecurity=False).hexdigest())

    async def run(self, client: RedisClient, keys: Sequence[str], args: Sequence[str | int]) -> Any:
        """Run it with its keys and the arguments after them."""
        try:
            return await client.execute_command("EVALSHA", self.sha, len(keys), *keys, *args)
        except NoScriptError:
            return await client.execute_command("EVAL", self.text, len(keys), *keys, *args)


class AwayError(Exception):
    """Redis gave no answer.

    Args:
        asked: it was asked, so what it was asked for may have been done.
    """

    def __init__(self, *, asked: bool) -> None:
        super().__init__("Redis was asked in vain" if asked else "Redis is left alone")
        self.asked = asked


class Circuit:
    """Runs scripts while Redis is there. Owns the client."""

    def __init__(
        self, client: RedisClient, config: RedisLimits, clock: Callable[[], float]
    ) -> None:
        self._client = client
        self._config = config
        self._clock = clock
        self._slots = asyncio.Semaphore(config.max_connections)
        self._retry_at_s: float | None = None
        self.losses = 0
        """How often Redis was lost so far."""

    @property
    def is_open(self) -> bool:
        """Whether Redis failed when it was last asked."""
        return self._retry_at_s is not None

    async def run(self, script: Script, keys: Sequence[str], args: Sequence[str | int]) -> Any:
        """The script's answer.

        Raises:
            AwayError: Redis is gone.
        """
        if self._resting():
            raise AwayError(asked=False)
        async with self._slots:
            if self._resting():  # it failed while this one waited for its turn
                raise AwayError(asked=False)
            if self._retry_at_s is not None:
                # One request tries whether Redis is back; the others stay away meanwhile.
                self._retry_at_s = self._clock() + self._config.circuit_s
            try:
                async with asyncio.timeout(self._config.timeout_s):
                    answer = await script.run(self._client, keys, args)
            except _FAULTS as error:
                self._failed(error)
                raise AwayError(asked=True) from None
        self._answered()
        return answer

    async def aclose(self) -> None:
        """Close the client; may be called twice."""
        await self._client.aclose()

    def _resting(self) -> bool:
        return self._retry_at_s is not None and self._clock() < self._retry_at_s

    def _failed(self, error: Exception) -> None:
        if self._retry_at_s is None:
            self.losses += 1
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
