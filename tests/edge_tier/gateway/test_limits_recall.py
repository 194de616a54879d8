from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

import pytest
from redis import Redis

from edge_tier.gateway.gcra import Debts
from edge_tier.gateway.limits_recall import Recall, Told
from edge_tier.gateway.limits_redis import RedisLimiter
from tests.fakes.limits import acme_with, admitted, charge, refusal, tokens
from tests.fakes.waiting import until

MakeLimiter = Callable[..., RedisLimiter]


def test_what_was_heard_is_told_with_its_age(clock: Any) -> None:
    recall = Recall(clock, 10)
    assert recall.arguments("key:a") == ("", "")
    recall.note("key:a", Told(77, Debts(1, 2, 3, 4), 5, 6, 7, 8))
    clock.advance(1.5)
    assert recall.arguments("key:a") == (77, "1500000 1 2 3 4 5 6 7 8")


def test_the_one_not_heard_of_for_longest_is_forgotten(clock: Any) -> None:
    recall = Recall(clock, 2)
    for name in ("a", "b", "a", "c"):
        recall.note(name, Told(1, Debts(), 0, 0, 0, 0))
    assert [name for name in "abc" if recall.arguments(name)[0]] == ["a", "c"]


@pytest.mark.parametrize("limit", ["tokens_per_minute", "tokens_per_day", "tokens_per_month"])
async def test_a_redis_that_came_back_empty_gives_nothing_out_twice(
    redis_server: Any, limiter_at: MakeLimiter, clock: Any, limit: str
) -> None:
    limiter, acme = limiter_at(redis_server.url, lease_fraction=0.1), acme_with(**{limit: 100})
    await limiter.reserve(acme, charge(90))
    redis_server.kill()
    assert not await admitted(limiter, acme, 20)  # so much is not even in the lease
    redis_server.start()
    clock.advance(1.0)
    assert not await admitted(limiter, acme, 20)
    assert await admitted(limiter, acme, 10)
    assert not limiter.degraded


async def test_every_process_tells_what_it_heard(
    redis_server: Any, limiter_at: MakeLimiter, clock: Any
) -> None:
    """The first that asks again knew the least."""
    one, two = limiter_at(redis_server.url), limiter_at(redis_server.url)
    acme = acme_with(tokens_per_day=100)
    await one.reserve(acme, charge(40))
    await two.reserve(acme, charge(40))
    await _lose_all(redis_server, acme, clock, one, two)
    assert tokens(await one.reserve(acme, charge(10))).limit == 0
    assert "has 20 left" in await refusal(two, acme, charge(30))


async def _lose_all(server: Any, caller: Any, clock: Any, *limiters: RedisLimiter) -> None:
    server.kill()
    for limiter in limiters:
        await limiter.reserve(caller, charge(0))
    server.start()
    clock.advance(1.0)


async def test_what_drained_meanwhile_is_not_told(
    redis_server: Any, limiter_at: MakeLimiter, clock: Any
) -> None:
    limiter, acme = limiter_at(redis_server.url), acme_with(tokens_per_minute=60)
    await limiter.reserve(acme, charge(60))
    await _lose_all(redis_server, acme, clock, limiter)
    clock.advance(29)
    assert tokens(await limiter.reserve(acme, charge(20))).remaining == 10


async def test_a_refund_is_heard_too(
    redis_server: Any, limiter_at: MakeLimiter, clock: Any
) -> None:
    limiter, acme = limiter_at(redis_server.url), acme_with(tokens_per_day=100)
    held = await limiter.reserve(acme, charge(100))
    await limiter.settle(held, 30, 0)
    await _lose_all(redis_server, acme, clock, limiter)
    assert await admitted(limiter, acme, 70)
    assert not await admitted(limiter, acme, 1)


async def test_a_state_that_only_grew_old_is_not_taken_for_a_lost_one(
    redis_url: str, limiter_at: MakeLimiter, clock: Any
) -> None:
    """One process heard of a debt, the other of its refund; then Redis let the state expire, as it
    does when it is worth nothing any more."""
    one, two = limiter_at(redis_url), limiter_at(redis_url)
    acme = acme_with(tokens_per_minute=60)
    held = await one.reserve(acme, charge(50))
    await two.reserve(acme, charge(10))
    await one.settle(held, 0, 0)
    with Redis.from_url(redis_url) as admin:
        (state,) = admin.keys("headwater:limits:*key:key00001")
        assert 60_000 < int(admin.pttl(state)) <= 120_000
        admin.delete(state)
    clock.advance(120)
    assert await admitted(two, acme, 60)


async def test_redis_killed_and_restarted_under_load_overspends_the_lease_at_most(
    redis_server: Any, limiter_at: MakeLimiter, clock: Any
) -> None:
    """The clock of the lease stands still, so the lease is given out once by each process."""
    limit, share, size = 600, 0.25, 4
    limiters = [
        limiter_at(redis_server.url, timeout_s=0.25, circuit_s=0.05, lease_fraction=share)
        for _ in range(2)
    ]
    acme, spent = acme_with(tokens_per_day=limit), 0
    ended = asyncio.Event()

    async def ask(limiter: RedisLimiter) -> None:
        nonlocal spent
        while not ended.is_set():
            if not await refusal(limiter, acme, charge(size)):
                spent += size
            clock.advance(0.001)
            await asyncio.sleep(0)

    asking = [asyncio.create_task(ask(limiter)) for limiter in limiters * 10]
    for act in (redis_server.kill, redis_server.start, redis_server.kill, redis_server.start):
        await asyncio.sleep(0.1)
        await asyncio.to_thread(act)
    await until(lambda: spent >= limit and not any(limiter.degraded for limiter in limiters))
    ended.set()
    await asyncio.gather(*asking)
    assert limit <= spent <= limit + len(limiters) * share * limit + size


async def test_budgets_outlive_all_processes_where_redis_keeps_them(
    keeping_redis: Any, redis_server: Any, limiter_at: MakeLimiter, clock: Any
) -> None:
    acme = acme_with(tokens_per_day=100, tokens_per_month=100)
    for server, left in ((keeping_redis, 10), (redis_server, 100)):
        await limiter_at(server.url).reserve(acme, charge(90))
        server.kill()
        server.start()
        another = limiter_at(server.url)
        assert await admitted(another, acme, left)
        assert not await admitted(another, acme, 1)
