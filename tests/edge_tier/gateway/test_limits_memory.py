"""What one process remembers is bounded, and what never ends stops counting."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from edge_tier.gateway.limits import Limiter, LimitsConfig, RateLimitedError, Subject
from edge_tier.gateway.limits_memory import MemoryLimiter
from edge_tier.gateway.request import Caller, Charge, Limits
from tests.fakes.limits import charge, requests, tokens

MakeCaller = Callable[..., Caller]


async def admitted(limiter: Limiter, caller: Caller, count: int) -> bool:
    try:
        await limiter.reserve(caller, charge(count))
    except RateLimitedError:
        return False
    return True


def streaming(streams: int) -> Caller:
    """A caller with a limit on requests at once and no other."""
    limits = Limits(requests_per_minute=0, tokens_per_minute=0, concurrent_streams=streams)
    return Caller(key_id="key00001", tenant="acme", scopes=frozenset(), limits=limits)


async def test_closing_twice_is_fine(clock: Any) -> None:
    limiter = MemoryLimiter(clock)
    await limiter.aclose()
    await limiter.aclose()


async def test_the_caller_untouched_for_longest_is_forgotten(
    clock: Any, caller: MakeCaller
) -> None:
    limiter = MemoryLimiter(clock, LimitsConfig(max_subjects=2))
    busy, idle, new = (caller(requests=1, key_id=name) for name in ("busy", "idle", "new1"))
    await limiter.reserve(busy, charge(1))
    await limiter.reserve(idle, charge(1))
    clock.advance(60)
    await limiter.reserve(busy, charge(1))
    await limiter.reserve(new, charge(1))
    assert not await admitted(limiter, busy, 1)
    assert not await admitted(limiter, new, 1)
    assert await admitted(limiter, idle, 1)


async def test_open_reservations_are_bounded(clock: Any, caller: MakeCaller) -> None:
    limiter = MemoryLimiter(clock, LimitsConfig(max_open=1))
    first = await limiter.reserve(caller(tokens=100), charge(50))
    second = await limiter.reserve(caller(tokens=100), charge(50))
    await limiter.settle(first, 0, 0)
    assert not await admitted(limiter, caller(tokens=100), 50)
    await limiter.settle(second, 0, 0)
    assert await admitted(limiter, caller(tokens=100), 50)


async def test_requests_that_never_end_stop_counting_each_in_its_time(clock: Any) -> None:
    limiter = MemoryLimiter(clock, LimitsConfig(hold_s=100))
    acme = streaming(2)
    await limiter.reserve(acme, charge(1))
    clock.advance(60)
    await limiter.reserve(acme, charge(1))
    clock.advance(39)
    assert not await admitted(limiter, acme, 1)
    clock.advance(1)
    assert await admitted(limiter, acme, 1)
    assert not await admitted(limiter, acme, 1)


async def test_a_request_settled_after_its_time_frees_no_place_of_another(clock: Any) -> None:
    limiter = MemoryLimiter(clock, LimitsConfig(hold_s=100))
    acme = streaming(1)
    late = await limiter.reserve(acme, charge(1))
    clock.advance(100)
    assert await admitted(limiter, acme, 1)
    await limiter.settle(late, 1, 0)
    assert not await admitted(limiter, acme, 1)


async def test_a_refusal_by_the_last_subject_charges_none(clock: Any) -> None:
    limiter = MemoryLimiter(clock)
    free, full = (
        Subject("key", name, Limits(requests_per_minute=count, tokens_per_minute=0))
        for name, count in (("free", 5), ("full", 1))
    )
    acme = streaming(0)
    limiter.reserve_for([full], acme, charge(1))
    for _ in range(9):
        with pytest.raises(RateLimitedError):
            limiter.reserve_for([free, full], acme, charge(1))
    assert requests(limiter.reserve_for([free], acme, charge(1))).remaining == 4


@pytest.mark.parametrize("asked", [charge(-1), charge(2, -1), charge(-1, 5)])
async def test_negative_tokens_give_nobody_anything(
    clock: Any, caller: MakeCaller, asked: Charge
) -> None:
    limiter = MemoryLimiter(clock)
    acme = caller(requests=10, tokens=10)
    await limiter.reserve(acme, charge(4))
    with pytest.raises(ValueError, match="fewer than 0"):
        await limiter.reserve(acme, asked)
    left = await limiter.reserve(acme, charge(1))
    assert (requests(left).remaining, tokens(left).remaining) == (8, 5)


async def test_a_caller_without_limits_leaves_nothing_behind(
    clock: Any, caller: MakeCaller
) -> None:
    limiter = MemoryLimiter(clock, LimitsConfig(max_open=1))
    held = await limiter.reserve(caller(tokens=100), charge(100))
    free = [await limiter.reserve(caller(), charge(10**9)) for _ in range(3)]
    assert {(one.id, one.standings) for one in free} == {("", ())}
    await limiter.settle(held, 0, 0)
    assert await admitted(limiter, caller(tokens=100), 100)


async def test_two_limiters_do_not_settle_each_others_reservations(
    clock: Any, caller: MakeCaller
) -> None:
    one, other = MemoryLimiter(clock), MemoryLimiter(clock)
    acme = caller(tokens=10)
    held = await one.reserve(acme, charge(10))
    await other.reserve(acme, charge(10))
    await other.settle(held, 0, 0)
    assert not await admitted(other, acme, 1)
    await one.settle(held, 0, 0)
    assert await admitted(one, acme, 10)
