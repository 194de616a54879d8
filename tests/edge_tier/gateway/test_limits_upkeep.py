from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from typing import Any

import pytest
from structlog.testing import capture_logs

from edge_tier.gateway.gcra import FULL
from edge_tier.gateway.limits_redis import RedisLimiter
from edge_tier.gateway.limits_upkeep import Settlement, Upkeep
from tests.fakes.limits import acme_with, admitted, charge, refusal
from tests.fakes.waiting import until

MakeLimiter = Callable[..., RedisLimiter]


SHORT_S = 1.0
"""Is waited out, and yet longer than an answer takes on a busy machine."""


class Taker:
    """A Redis that takes what it is owed, or does not."""

    def __init__(self) -> None:
        self.settled: list[str] = []
        self.renewed: list[tuple[str, tuple[str, ...], bool]] = []
        self.losses = 0
        self.away = False

    async def settle(self, settlement: Settlement) -> bool:
        if not self.away:
            self.settled.append(settlement.id)
        return not self.away

    async def renew(self, key: str, reservations: Sequence[str], anew: bool) -> bool:
        if not self.away:
            self.renewed.append((key, tuple(reservations), anew))
        return not self.away


@pytest.fixture
def redis() -> Taker:
    return Taker()


@pytest.fixture
def upkeep(redis: Taker, clock: Any) -> Upkeep:
    return Upkeep(
        clock=clock,
        settle=redis.settle,
        renew=redis.renew,
        losses=lambda: redis.losses,
        lease_s=60.0,
        period_s=0.01,
        most=3,
    )


def owed(name: str) -> Settlement:
    return Settlement(name, "acme", [], FULL, FULL)


async def test_what_is_owed_is_settled_once_and_when_it_is_due(
    upkeep: Upkeep, redis: Taker, clock: Any
) -> None:
    upkeep.owe(owed("a"))
    upkeep.owe(owed("b"), 1.0)
    await upkeep.catch_up()
    assert redis.settled == ["a"]
    clock.advance(1.0)
    for _ in range(2):
        await upkeep.catch_up()
    assert redis.settled == ["a", "b"]


async def test_it_stays_owed_while_nobody_takes_it(upkeep: Upkeep, redis: Taker) -> None:
    redis.away = True
    for name in "abcd":
        upkeep.owe(owed(name))
    await upkeep.catch_up()
    redis.away = False
    await upkeep.catch_up()
    assert redis.settled == ["b", "c", "d"]  # and not more than it may remember


async def test_what_runs_gives_a_sign_of_life_in_time(
    upkeep: Upkeep, redis: Taker, clock: Any
) -> None:
    upkeep.started("one", ["k", "t"])
    upkeep.started("two", ["t"])
    await upkeep.catch_up()
    assert redis.renewed == []
    clock.advance(20)
    for _ in range(2):
        await upkeep.catch_up()
    assert redis.renewed == [("k", ("one",), False), ("t", ("one", "two"), False)]
    upkeep.ended("one")
    clock.advance(20)
    await upkeep.catch_up()
    assert redis.renewed[2:] == [("t", ("two",), False)]
    upkeep.ended("two")
    await upkeep.aclose()


async def test_after_a_loss_what_runs_is_put_back_at_once(upkeep: Upkeep, redis: Taker) -> None:
    upkeep.started("one", ["k"])
    redis.losses += 1
    redis.away = True
    await upkeep.catch_up()
    redis.away = False
    for _ in range(2):
        await upkeep.catch_up()
    assert redis.renewed == [("k", ("one",), True)]
    await upkeep.aclose()


async def test_it_does_its_work_by_itself(upkeep: Upkeep, redis: Taker) -> None:
    for name in "ab":
        upkeep.owe(owed(name))
        await until(lambda: redis.settled[-1:] == [name])  # noqa: B023 - awaited in the loop
    await upkeep.aclose()


async def test_its_death_is_told_and_the_next_debt_starts_it_again(clock: Any) -> None:
    async def broken(_settlement: Settlement) -> bool:
        raise RuntimeError("no")

    taker = Taker()
    upkeep = Upkeep(
        clock=clock,
        settle=broken,
        renew=taker.renew,
        losses=lambda: 0,
        lease_s=60.0,
        period_s=0.0,
        most=3,
    )
    with capture_logs() as logs:
        for times in (1, 2):
            upkeep.owe(owed("a"))
            await until(lambda: len(logs) == times)  # noqa: B023 - awaited in the loop
    assert {entry["event"] for entry in logs} == {"upkeep of limits died"}


async def test_a_settlement_that_redis_missed_is_made_up_for(
    redis_server: Any, limiter_at: MakeLimiter, clock: Any
) -> None:
    limiter = limiter_at(redis_server.url, timeout_s=SHORT_S)
    acme = acme_with(tokens_per_day=100, concurrent_streams=1)
    held = await limiter.reserve(acme, charge(100))
    redis_server.pause()
    await limiter.settle(held, 40, 0)
    assert limiter.degraded
    redis_server.resume()
    clock.advance(1.0)
    await _caught_up(limiter, clock)
    assert await refusal(limiter, acme, charge(60)) == ""
    assert "0 left" in await refusal(limiter, acme_with(tokens_per_day=100), charge(1))


async def _caught_up(limiter: RedisLimiter, clock: Any) -> None:
    """A machine under load may need more than one try."""
    await limiter.catch_up()
    while limiter.degraded:
        clock.advance(1.0)
        await limiter.catch_up()


async def test_an_answer_that_never_came_leaves_no_charge_behind(
    redis_server: Any, limiter_at: MakeLimiter, clock: Any
) -> None:
    """Redis reads the question when it wakes, long after its time."""
    limiter = limiter_at(redis_server.url, timeout_s=SHORT_S)
    acme = acme_with(tokens_per_day=100, concurrent_streams=1)
    await limiter.settle(await limiter.reserve(acme, charge(1)), 1, 0)
    redis_server.pause()
    leased = await limiter.reserve(acme, charge(20))
    redis_server.resume()
    with redis_server.admin() as admin:
        assert admin.ping()
        assert admin.keys("*:open:*")
    await limiter.settle(leased, 20, 0)
    clock.advance(1.0)
    await _caught_up(limiter, clock)
    assert await admitted(limiter, acme, 99)


async def test_a_client_that_leaves_while_it_is_charged_is_not_charged(
    redis_server: Any, limiter_at: MakeLimiter, clock: Any
) -> None:
    limiter = limiter_at(redis_server.url, timeout_s=30.0)
    acme = acme_with(tokens_per_day=100, concurrent_streams=1)
    await limiter.settle(await limiter.reserve(acme, charge(0)), 0, 0)
    redis_server.pause()
    asking = asyncio.create_task(limiter.reserve(acme, charge(100)))
    await asyncio.sleep(0.01)
    asking.cancel()
    with pytest.raises(asyncio.CancelledError):
        await asking
    redis_server.resume()
    await limiter.catch_up()  # not yet: it may still be on its way
    clock.advance(1.0)
    await limiter.catch_up()
    assert not limiter.degraded
    assert await admitted(limiter, acme, 100)


async def test_an_edge_that_was_killed_does_not_hold_its_places_for_ever(
    redis_url: str, stage_over: Any, limiter_at: MakeLimiter
) -> None:
    acme = acme_with(concurrent_streams=2)
    killed, alive = limiter_at(redis_url), stage_over(redis_url)
    await killed.reserve(acme, charge(1))
    await alive.limiter.reserve(acme, charge(1))
    for _ in range(2):
        alive.advance(29)
        await alive.limiter.catch_up()
        assert "2 requests at once" in await refusal(alive.limiter, acme, charge(1))
    alive.advance(29)
    await alive.limiter.catch_up()
    assert await admitted(alive.limiter, acme, 1)
    assert not await admitted(alive.limiter, acme, 1)


async def test_places_are_taken_again_in_a_redis_that_forgot_them(
    redis_server: Any, limiter_at: MakeLimiter, clock: Any
) -> None:
    limiter, acme = limiter_at(redis_server.url), acme_with(concurrent_streams=2)
    held = [await limiter.reserve(acme, charge(1)) for _ in range(2)]
    redis_server.kill()
    await limiter.catch_up()
    await limiter.reserve(acme_with(requests_per_minute=9), charge(1))
    redis_server.start()
    clock.advance(1.0)
    await limiter.catch_up()
    assert not await admitted(limiter, acme, 1)
    await limiter.settle(held[0], 1, 0)
    assert await admitted(limiter, acme, 1)


async def test_what_is_owed_is_settled_before_an_edge_ends(
    redis_server: Any, limiter_at: MakeLimiter, clock: Any
) -> None:
    limiter, acme = limiter_at(redis_server.url, timeout_s=SHORT_S), acme_with(tokens_per_day=100)
    held = await limiter.reserve(acme, charge(100))
    redis_server.pause()
    await limiter.settle(held, 0, 0)
    redis_server.resume()
    with redis_server.admin() as admin:
        assert admin.ping()
    clock.advance(1.0)
    await limiter.aclose()
    assert await admitted(limiter_at(redis_server.url), acme, 100)
