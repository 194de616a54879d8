from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any, Literal

import msgspec
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from redis import Redis
from redis.crc import key_slot
from structlog.testing import capture_logs

from edge_tier.gateway.limits import (
    Limiter,
    LimitsConfig,
    RateLimitedError,
    TokensOverLimitError,
)
from edge_tier.gateway.limits_headers import rate
from edge_tier.gateway.limits_redis import RedisLimiter, leased
from edge_tier.gateway.request import Caller, Charge, Limits, SharedLimits
from tests.fakes.limits import admitted, charge, requests, tokens

KINDS: tuple[Literal["requests"], Literal["tokens"]] = ("requests", "tokens")
MakeCaller = Callable[..., Caller]
MakeLimiter = Callable[..., RedisLimiter]


async def test_two_processes_together_never_overspend(
    redis_url: str, limiter_at: MakeLimiter, caller: MakeCaller
) -> None:
    one, two = limiter_at(redis_url), limiter_at(redis_url)
    acme = caller(requests=100, tokens=60)
    passed = await asyncio.gather(
        *(admitted(limiter, acme, 1) for _ in range(100) for limiter in (one, two))
    )
    assert sum(passed) == 60


async def test_another_process_settles_into_the_same_bucket(
    redis_url: str, limiter_at: MakeLimiter, caller: MakeCaller
) -> None:
    one, two = limiter_at(redis_url), limiter_at(redis_url)
    held = await one.reserve(caller(tokens=60), charge(60))
    assert not await admitted(two, caller(tokens=60), 1)
    await one.settle(held, 0, 0)
    assert await admitted(two, caller(tokens=60), 60)


async def test_killed_in_between_it_leases_and_comes_back_by_itself(
    redis_server: Any, limiter_at: MakeLimiter, caller: MakeCaller, clock: Any
) -> None:
    limiter = limiter_at(redis_server.url, circuit_s=1.0, lease_fraction=0.25)
    acme = caller(requests=100, tokens=10_000)
    held = await limiter.reserve(acme, charge(100))
    redis_server.kill()
    passed = await asyncio.gather(*(admitted(limiter, acme, 100) for _ in range(200)))
    assert sum(passed) == 25
    assert limiter.degraded
    await limiter.settle(held, 0, 0)
    redis_server.start()
    assert not await admitted(limiter, acme, 100)  # it is not asked before its time
    clock.advance(1.0)
    assert tokens(await limiter.reserve(acme, charge(100))).limit == 10_000
    assert not limiter.degraded


async def test_a_hanging_redis_costs_one_timeout_and_nobody_an_error(
    redis_server: Any, limiter_at: MakeLimiter, caller: MakeCaller, clock: Any
) -> None:
    limiter = limiter_at(redis_server.url, timeout_s=1.0, max_connections=4)
    acme = caller(requests=400, tokens=40_000)
    await limiter.reserve(acme, charge(1))
    redis_server.pause()
    passed = await asyncio.gather(*(admitted(limiter, acme, 1) for _ in range(200)))
    assert sum(passed) == 100
    redis_server.resume()
    with redis_server.admin() as admin:
        stats: Any = admin.info("stats")
    # Not a timeout and a connection for each of 200.
    assert stats["total_connections_received"] <= 4 + 2


async def test_after_a_timeout_no_answer_meets_the_wrong_question(
    redis_server: Any, limiter_at: MakeLimiter, caller: MakeCaller, clock: Any
) -> None:
    limiter = limiter_at(redis_server.url, timeout_s=1.0, circuit_s=1.0)
    one = caller(requests=100, key_id="one1")
    await limiter.reserve(one, charge(0))
    redis_server.pause()
    await limiter.reserve(one, charge(0))
    assert limiter.degraded
    redis_server.resume()
    with redis_server.admin() as admin:
        assert admin.ping()
    await _until_back(limiter, one, clock)
    two = await limiter.reserve(caller(requests=10, key_id="two2"), charge(0))
    assert requests(two)[:2] == (10, 9)


async def _until_back(limiter: RedisLimiter, caller: Caller, clock: Any) -> None:
    for _ in range(50):
        clock.advance(1.0)
        await limiter.reserve(caller, charge(0))
        if not limiter.degraded:
            return
    raise AssertionError("Redis was not taken up again")


async def test_while_it_is_down_one_request_at_a_time_tries(
    redis_server: Any, limiter_at: MakeLimiter, caller: MakeCaller, clock: Any
) -> None:
    limiter = limiter_at(redis_server.url, timeout_s=30.0, circuit_s=1.0)
    acme = caller(requests=4_000)
    redis_server.kill()
    await limiter.reserve(acme, charge(0))
    assert limiter.degraded
    redis_server.start()
    redis_server.pause()
    clock.advance(1.0)
    trying = asyncio.create_task(limiter.reserve(acme, charge(0)))
    await asyncio.sleep(0)
    for _ in range(20):  # none waits
        await limiter.reserve(acme, charge(0))
    assert not trying.done()
    redis_server.resume()
    await trying


async def test_a_lease_is_not_renewed_by_flapping(
    redis_server: Any, limiter_at: MakeLimiter, caller: MakeCaller, clock: Any
) -> None:
    limiter = limiter_at(redis_server.url, circuit_s=0.001, lease_fraction=0.5)
    acme = caller(requests=4)
    redis_server.kill()
    assert [await admitted(limiter, acme, 0) for _ in range(3)] == [True, True, False]
    redis_server.start()
    clock.advance(0.001)
    await limiter.reserve(acme, charge(0))
    redis_server.kill()
    assert not await admitted(limiter, acme, 0)


async def test_a_leased_reservation_is_settled_in_the_lease(
    redis_server: Any, limiter_at: MakeLimiter, caller: MakeCaller
) -> None:
    limiter = limiter_at(redis_server.url, lease_fraction=0.5)
    redis_server.kill()
    held = await limiter.reserve(caller(tokens=60), charge(30))
    assert not await admitted(limiter, caller(tokens=60), 1)
    redis_server.start()
    await limiter.settle(held, 10, 0)
    assert tokens(await limiter.reserve(caller(tokens=60), charge(15))).remaining == 5


async def test_what_only_a_whole_bucket_holds_waits_for_redis(
    redis_server: Any, limiter_at: MakeLimiter, caller: MakeCaller
) -> None:
    limiter = limiter_at(redis_server.url, lease_fraction=0.25, circuit_s=3.0)
    redis_server.kill()
    with pytest.raises(RateLimitedError, match="reduced for the moment") as refused:
        await limiter.reserve(caller(tokens=100), charge(26))
    assert refused.value.headers["Retry-After"] == "3"
    with pytest.raises(TokensOverLimitError):
        await limiter.reserve(caller(tokens=100), charge(101))


async def test_trouble_is_told_once_and_without_the_url(
    redis_server: Any, limiter_at: MakeLimiter, caller: MakeCaller, clock: Any
) -> None:
    limiter = limiter_at(redis_server.url, circuit_s=1.0)
    redis_server.kill()
    with capture_logs() as logs:
        for _ in range(3):
            await limiter.reserve(caller(requests=100), charge(0))
            clock.advance(2.0)
        redis_server.start()
        await limiter.reserve(caller(requests=100), charge(0))
    assert [entry["log_level"] for entry in logs] == ["warning", "info"]
    assert redis_server.url not in str(logs)


async def test_a_server_that_refuses_commands_is_as_good_as_gone(
    redis_server: Any, limiter_at: MakeLimiter, caller: MakeCaller
) -> None:
    limiter = limiter_at(redis_server.url)
    with redis_server.admin() as admin:
        admin.config_set("requirepass", "a-password")
    assert requests(await limiter.reserve(caller(requests=100), charge(0))).limit == 25
    assert limiter.degraded


async def test_scripts_are_sent_again_to_a_server_that_forgot_them(
    redis_url: str, limiter_at: MakeLimiter, caller: MakeCaller
) -> None:
    limiter = limiter_at(redis_url)
    await limiter.reserve(caller(requests=10), charge(0))
    with Redis.from_url(redis_url) as admin:
        admin.script_flush()
    assert requests(await limiter.reserve(caller(requests=10), charge(0))).remaining == 8
    assert not limiter.degraded


async def test_keys_of_a_caller_share_a_slot_of_a_cluster(
    redis_url: str, limiter_at: MakeLimiter, caller: MakeCaller
) -> None:
    for _ in range(3):
        await limiter_at(redis_url).reserve(caller(requests=10, tokens=60), charge(10))
    with Redis.from_url(redis_url) as admin:
        keys = [*admin.scan_iter()]
    assert len(keys) == 4
    assert len({key_slot(key) for key in keys}) == 1


async def test_nothing_stays_in_redis_for_longer_than_it_counts(
    redis_url: str, limiter_at: MakeLimiter, caller: MakeCaller
) -> None:
    limiter = limiter_at(redis_url, limits=LimitsConfig(hold_s=600))
    settled = await limiter.reserve(caller(requests=10, tokens=100), charge(50))
    await limiter.settle(settled, 25, 0)
    await limiter.reserve(caller(requests=10, tokens=100), charge(5))
    with Redis.from_url(redis_url) as admin:
        lives = {bytes(key).decode(): _milliseconds(admin, key) for key in admin.scan_iter()}
    buckets = lives.pop("headwater:limits:{acme}:key:key00001")
    assert 60_000 < buckets <= 120_000  # past any debt, so that one that is missing was lost
    (open_reservation,) = lives.values()
    assert 540_000 < open_reservation <= 600_000


def _milliseconds(admin: Redis, key: bytes) -> int:
    answer: Any = admin.pttl(key)
    return int(answer)


async def test_fractions_of_a_token_survive_in_redis(
    redis_url: str, limiter_at: MakeLimiter, caller: MakeCaller
) -> None:
    limiter = limiter_at(redis_url)
    acme = caller(requests=7, tokens=70_000_000)
    left = [requests(await limiter.reserve(acme, charge(10_000_000))).remaining for _ in range(7)]
    assert left == [6, 5, 4, 3, 2, 1, 0]


def test_a_lease_is_never_nothing_and_unlimited_stays_so() -> None:
    part = leased(Limits(requests_per_minute=2, tokens_per_minute=0), 0.25)
    assert (part.requests_per_minute, part.tokens_per_minute) == (1, 0)


def some(*choices: int) -> st.SearchStrategy[int]:
    """No limit, or one of these."""
    return st.sampled_from([0, *choices])


SHARED = st.builds(
    SharedLimits,
    requests_per_minute=some(6, 60),
    tokens_per_minute=some(60, 120),
    input_tokens_per_minute=some(60),
    output_tokens_per_minute=some(60),
    concurrent_streams=some(1, 3),
    tokens_per_day=some(300),
    tokens_per_month=some(200),
)
STEPS = st.lists(
    st.one_of(
        st.tuples(st.just("reserve"), st.integers(0, 60), st.integers(0, 60)),
        st.tuples(st.just("settle"), st.integers(0, 90), st.integers(0, 60)),
        st.tuples(st.just("wait"), st.integers(1, 59), st.just(0)),
    ),
    max_size=25,
)


@given(steps=STEPS, key=SHARED, tenant=SHARED, model=SHARED)
@settings(
    max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
async def test_the_scripts_decide_as_the_memory_does(
    twins: Any,
    steps: list[tuple[str, int, int]],
    key: SharedLimits,
    tenant: SharedLimits,
    model: SharedLimits,
) -> None:
    """Whole seconds pass, which refill whole tokens; so the milliseconds that pass meanwhile on
    Redis's own clock never tip a decision."""
    memory, redis = await twins(LimitsConfig(tenants={"acme": tenant}, models={"m": model}))
    limits = Limits(**msgspec.structs.asdict(key))
    caller = Caller(key_id="key00001", tenant="acme", scopes=frozenset(), limits=limits)
    held: list[Any] = []
    for kind, amount, more in steps:
        if kind == "wait":
            memory.advance(amount)
            redis.advance(amount)
            await redis.limiter.catch_up()  # a sign of life of what runs
        elif kind == "settle" and held:
            ours, theirs = held.pop(amount % len(held))
            await memory.limiter.settle(ours, amount, more)
            await redis.limiter.settle(theirs, amount, more)
        elif kind == "reserve":
            asked = charge(amount, more)
            answers = [await _outcome(one.limiter, caller, asked) for one in (memory, redis)]
            if isinstance(answers[0], str):
                assert answers[0] == answers[1]
            else:
                held.append(answers)
                # What is left is the same too, but for the moment that passed.
                left = [[rate(one, kind).remaining for kind in KINDS] for one in answers]
                assert left[0] == pytest.approx(left[1], abs=1)


async def _outcome(limiter: Limiter, caller: Caller, asked: Charge) -> Any:
    try:
        return await limiter.reserve(caller, asked)
    except (RateLimitedError, TokensOverLimitError) as error:
        return f"{error.code} {error.message.split(';')[0]}"
