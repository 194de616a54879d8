"""Two edge processes on one Redis: nobody gets more than a limit by asking both, or by killing
Redis."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import ExitStack, asynccontextmanager
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from infra.ask import CHAT_PATH
from infra.child import Child
from infra.local_config import CLOUD_MODEL
from tests.edge_tier.gateway.conftest import RedisServer
from tests.fakes.fleet import Fleet
from tests.fakes.waiting import until_async

ASK = [{"role": "user", "content": "What is the capital of France?"}]
ANSWER = 8
CROWD = 200
LEASE = 0.25


@dataclass(slots=True)
class Seen:
    """What a crowd of requests met."""

    statuses: list[int] = field(default_factory=list)
    used: int = 0
    largest: int = 0
    """Tokens of the largest answered request, its reservation's size."""
    seconds: float = 0.0

    def allowed(self, per_minute: int) -> float:
        """What the limit allows for the time that passed."""
        return per_minute * (1 + self.seconds / 60)


@pytest.fixture
def redis() -> Iterator[RedisServer]:
    server = RedisServer()
    yield server
    server.stop()


@asynccontextmanager
async def two_edges(
    fleet: Fleet, redis: RedisServer, folder: Path, *, patience_s: float = 10.0
) -> AsyncIterator[tuple[Child, Child]]:
    """Two more edges with the fleet's keys and cloud, which share their limits."""
    with ExitStack() as stack:
        edges = []
        for name in ("limits-one", "limits-two"):
            settings = {
                "cache__folder": folder / name / "cache",
                "trust_dir": folder / name / "trust",
                "gateway__redis_url": redis.url,
                # Where a test is not about a slow Redis, a slow machine must not make it one.
                "gateway__redis__timeout_s": patience_s,
                "gateway__redis__lease_fraction": LEASE,
                "gateway__redis__circuit_s": 0.2,
                # The limits are what is looked at here, not the queue.
                "gateway__pipeline__shedding__interactive_load": 0,
            }
            edges.append(stack.enter_context(fleet.extra("edge", name, **settings)))
        for edge in edges:
            await until_async(partial(_serves, fleet, edge.url))
        yield edges[0], edges[1]


async def _serves(fleet: Fleet, url: str) -> bool:
    async with aiohttp.ClientSession() as session:
        return (await _ask(session, url, fleet.local.api_key))[0] == 200


async def _ask(
    session: aiohttp.ClientSession, url: str, key: str, **fields: Any
) -> tuple[int, int]:
    """Status and tokens used."""
    body = {"model": CLOUD_MODEL, "messages": ASK, "max_tokens": ANSWER, **fields}
    headers = {"Authorization": f"Bearer {key}"}
    async with session.post(f"{url}{CHAT_PATH}", json=body, headers=headers) as answer:
        said = await answer.json()
        return answer.status, said["usage"]["total_tokens"] if answer.status == 200 else 0


async def crowd(edges: tuple[Child, Child], key: str, count: int = CROWD) -> Seen:
    """Ask both edges, as many at once."""
    seen, began = Seen(), time.monotonic()
    async with aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=0)) as session:

        async def one(number: int) -> None:
            status, used = await _ask(session, edges[number % 2].url, key)
            seen.statuses.append(status)
            seen.used += used
            seen.largest = max(seen.largest, used)

        await asyncio.gather(*(one(number) for number in range(count)))
    seen.seconds = time.monotonic() - began
    return seen


async def test_two_edges_together_never_overspend(
    fleet: Fleet, redis: RedisServer, tmp_path: Path
) -> None:
    limit = 600
    key = fleet.create_key(limits={"tokens_per_minute": limit, "requests_per_minute": 0})["key"]
    async with two_edges(fleet, redis, tmp_path) as edges:
        seen = await crowd(edges, key)
        assert set(seen.statuses) == {200, 429}
        assert seen.used <= seen.allowed(limit) + seen.largest
        # And it is not that nearly all were refused: what was not used came back.
        assert seen.used >= limit / 2


async def test_budgets_and_requests_at_once_are_shared_too(
    fleet: Fleet, redis: RedisServer, tmp_path: Path
) -> None:
    unlimited = {"tokens_per_minute": 0, "requests_per_minute": 0}
    daily = fleet.create_key(limits={**unlimited, "tokens_per_day": 300})["key"]
    few = fleet.create_key(limits={**unlimited, "concurrent_streams": 3})["key"]
    async with two_edges(fleet, redis, tmp_path) as edges:
        seen = await crowd(edges, daily, 60)
        assert set(seen.statuses) == {200, 429}
        assert seen.used <= 300
        later = await crowd(edges, daily, 20)
        assert seen.used + later.used <= 300
        assert set((await crowd(edges, few, 40)).statuses) == {200, 429}
        # Nothing is held for ever: what was in use is given back after its answer.
        await until_async(partial(_all_answered, edges, few))


async def _all_answered(edges: tuple[Child, Child], key: str) -> bool:
    return set((await crowd(edges, key, 2)).statuses) == {200}


async def test_redis_killed_and_restarted_under_load_is_nobodys_error(
    fleet: Fleet, redis: RedisServer, tmp_path: Path
) -> None:
    limit = 600
    key = fleet.create_key(limits={"tokens_per_minute": limit, "requests_per_minute": 0})["key"]
    async with two_edges(fleet, redis, tmp_path, patience_s=0.25) as edges:
        seen, began = Seen(), time.monotonic()

        async def ask_until(end: asyncio.Event) -> None:
            async with aiohttp.ClientSession() as session:
                while not end.is_set():
                    for edge in edges:
                        status, used = await _ask(session, edge.url, key)
                        seen.statuses.append(status)
                        seen.used += used
                        seen.largest = max(seen.largest, used)

        over = asyncio.Event()
        asking = [asyncio.create_task(ask_until(over)) for _ in range(8)]
        for act in (redis.kill, redis.start):
            await asyncio.sleep(1.0)
            act()
        await asyncio.sleep(1.5)
        over.set()
        await asyncio.gather(*asking)
        seen.seconds = time.monotonic() - began
        assert {status for status in seen.statuses if status >= 500} == set()
        assert seen.statuses.count(200) > 0
        # By two leases while it was away. It came back empty, but the edges remembered.
        leases = 2 * LEASE * seen.allowed(limit)
        assert seen.used <= seen.allowed(limit) + leases + seen.largest
