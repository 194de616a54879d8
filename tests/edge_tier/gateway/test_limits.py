from __future__ import annotations

import asyncio
import re
from collections.abc import Callable
from typing import Any

import msgspec
import pytest

from edge_tier.gateway.limits import (
    Limiter,
    LimitsConfig,
    RateLimitedError,
    TokensOverLimitError,
)
from edge_tier.gateway.limits_headers import rate_headers
from edge_tier.gateway.limits_memory import MemoryLimiter
from edge_tier.gateway.request import Caller, Charge, SharedLimits
from tests.fakes.limits import acme_with, admitted, charge, refusal, requests, tokens

MakeCaller = Callable[..., Caller]


async def test_the_limit_passes_at_once_and_not_one_more(stage: Any, caller: MakeCaller) -> None:
    acme = caller(requests=5)
    passed = [await admitted(stage.limiter, acme, 1) for _ in range(6)]
    assert passed == [True] * 5 + [False]


async def test_requests_come_back_at_the_rate_of_the_limit(stage: Any, caller: MakeCaller) -> None:
    acme = caller(requests=6)
    for _ in range(6):
        await stage.limiter.reserve(acme, charge(1))
    stage.advance(10.5)
    assert await admitted(stage.limiter, acme, 1)
    assert not await admitted(stage.limiter, acme, 1)


async def test_a_minute_fills_the_bucket_and_no_more(stage: Any, caller: MakeCaller) -> None:
    acme = caller(tokens=60)
    await stage.limiter.reserve(acme, charge(60))
    stage.advance(3_600)
    assert tokens(await stage.limiter.reserve(acme, charge(60))).remaining == 0
    assert not await admitted(stage.limiter, acme, 1)


async def test_a_reservation_tells_what_is_left(stage: Any, caller: MakeCaller) -> None:
    reservation = await stage.limiter.reserve(caller(requests=10, tokens=600), charge(150))
    assert (reservation.caller.key_id, reservation.charge.tokens) == ("key00001", 150)
    assert requests(reservation)[:2] == (10, 9)
    assert requests(reservation).reset_s == pytest.approx(6, abs=0.1)
    assert tokens(reservation)[:2] == (600, 450)
    assert tokens(reservation).reset_s == pytest.approx(15, abs=0.1)


async def test_refused_for_tokens_costs_no_request(stage: Any, caller: MakeCaller) -> None:
    acme = caller(requests=10, tokens=60)
    await stage.limiter.reserve(acme, charge(40))
    for _ in range(20):
        assert not await admitted(stage.limiter, acme, 40)
    assert requests(await stage.limiter.reserve(acme, charge(20))).remaining == 8


async def test_refused_for_requests_costs_no_tokens(stage: Any, caller: MakeCaller) -> None:
    acme = caller(requests=2, tokens=60)
    for _ in range(2):
        await stage.limiter.reserve(acme, charge(15))
    for _ in range(20):
        assert not await admitted(stage.limiter, acme, 15)
    stage.advance(30)
    assert tokens(await stage.limiter.reserve(acme, charge(60))).remaining == 0


async def test_waiting_as_told_is_enough(stage: Any, caller: MakeCaller) -> None:
    acme = caller(requests=100, tokens=90)
    await stage.limiter.reserve(acme, charge(90))
    with pytest.raises(RateLimitedError) as refused:
        await stage.limiter.reserve(acme, charge(30))
    wait_ms = int(refused.value.headers["retry-after-ms"])
    assert 19_000 < wait_ms <= 20_000
    stage.advance(wait_ms / 1e3)
    assert await admitted(stage.limiter, acme, 30)


async def test_a_refusal_names_the_limit_and_carries_every_header(
    stage: Any, caller: MakeCaller
) -> None:
    acme = caller(requests=3, tokens=60)
    await stage.limiter.reserve(acme, charge(50))
    with pytest.raises(RateLimitedError, match=r"60 tokens per minute.* needs 40") as refused:
        await stage.limiter.reserve(acme, charge(40))
    error = refused.value
    assert (error.status, error.code) == (429, "rate_limit_exceeded")
    assert error.headers["Retry-After"] == "30"
    policies = '"tokens";q=60;w=60;qu="tokens", "requests";q=3;w=60'
    assert error.headers["RateLimit-Policy"] == policies
    assert re.fullmatch(
        r'"tokens";r=10;t=(49|50), "requests";r=2;t=(19|20)', error.headers["RateLimit"]
    )
    assert error.headers["x-ratelimit-remaining-tokens"] == "10"


async def test_what_was_not_used_comes_back(stage: Any, caller: MakeCaller) -> None:
    acme = caller(requests=10, tokens=60)
    first = await stage.limiter.reserve(acme, charge(60))
    await stage.limiter.settle(first, 15, 0)
    second = await stage.limiter.reserve(acme, charge(45))
    assert (tokens(second).remaining, requests(second).remaining) == (0, 8)


async def test_settled_twice_refunds_once(stage: Any, caller: MakeCaller) -> None:
    acme = caller(tokens=60)
    first = await stage.limiter.reserve(acme, charge(25))
    await stage.limiter.reserve(acme, charge(35))
    await stage.limiter.settle(first, 0, 0)
    await stage.limiter.settle(first, 0, 0)
    assert tokens(await stage.limiter.reserve(acme, charge(15))).remaining == 10


async def test_settling_many_at_once_refunds_each_once(stage: Any, caller: MakeCaller) -> None:
    acme = caller(tokens=60)
    held = [await stage.limiter.reserve(acme, charge(6)) for _ in range(10)]
    await asyncio.gather(*(stage.limiter.settle(one, 3, 0) for one in held * 3))
    assert tokens(await stage.limiter.reserve(acme, charge(30))).remaining == 0


async def test_what_was_used_beyond_the_reservation_is_charged_too(
    stage: Any, caller: MakeCaller
) -> None:
    acme = caller(tokens=60)
    first = await stage.limiter.reserve(acme, charge(10))
    await stage.limiter.settle(first, 40, 0)
    assert tokens(await stage.limiter.reserve(acme, charge(5))).remaining == 15


async def test_an_absurd_count_locks_nobody_out_for_long(stage: Any, caller: MakeCaller) -> None:
    acme = caller(tokens=60)
    first = await stage.limiter.reserve(acme, charge(10))
    await stage.limiter.settle(first, 10**14, 0)
    stage.advance(59)
    assert not await admitted(stage.limiter, acme, 1)
    stage.advance(3)
    assert await admitted(stage.limiter, acme, 1)


async def test_a_held_reservation_is_no_way_to_save_up(stage: Any, caller: MakeCaller) -> None:
    acme = caller(tokens=60)
    held = await stage.limiter.reserve(acme, charge(60))
    stage.advance(60)
    await stage.limiter.reserve(acme, charge(60))
    await stage.limiter.settle(held, 0, 0)
    assert not await admitted(stage.limiter, acme, 5)


async def test_a_late_count_beyond_the_reservation_still_counts(
    stage: Any, caller: MakeCaller
) -> None:
    acme = caller(tokens=60)
    held = await stage.limiter.reserve(acme, charge(5))
    stage.advance(120)
    await stage.limiter.settle(held, 35, 0)
    assert tokens(await stage.limiter.reserve(acme, charge(25))).remaining == 5


async def test_more_than_a_full_bucket_is_refused_for_good(stage: Any, caller: MakeCaller) -> None:
    acme = caller(requests=5, tokens=1_000)
    with pytest.raises(TokensOverLimitError, match=r"needs 1001 tokens.*limit is 1000") as refused:
        await stage.limiter.reserve(acme, charge(1_001))
    assert refused.value.status == 413
    assert "Retry-After" not in refused.value.headers
    assert requests(await stage.limiter.reserve(acme, charge(1_000))).remaining == 4


async def test_without_limits_all_passes(stage: Any, caller: MakeCaller) -> None:
    for _ in range(5):
        reservation = await stage.limiter.reserve(caller(), charge(10**12))
        await stage.limiter.settle(reservation, 10**13, 0)
    assert rate_headers(reservation.standings) == {}


async def test_a_limit_on_requests_alone_counts_no_tokens(stage: Any, caller: MakeCaller) -> None:
    acme = caller(requests=2)
    reservation = await stage.limiter.reserve(acme, charge(10**9))
    await stage.limiter.settle(reservation, 10**10, 0)
    assert requests(await stage.limiter.reserve(acme, charge(10**9))).remaining == 0
    assert not await admitted(stage.limiter, acme, 0)


async def test_callers_do_not_share_limits(stage: Any, caller: MakeCaller) -> None:
    assert await admitted(stage.limiter, caller(requests=1, key_id="one1"), 1)
    assert await admitted(stage.limiter, caller(requests=1, key_id="two2"), 1)
    assert not await admitted(stage.limiter, caller(requests=1, key_id="one1"), 1)


async def test_a_raised_limit_holds_at_once(stage: Any, caller: MakeCaller) -> None:
    for _ in range(2):
        await stage.limiter.reserve(caller(requests=2), charge(1))
    assert not await admitted(stage.limiter, caller(requests=2), 1)
    assert requests(await stage.limiter.reserve(caller(requests=5), charge(1))).remaining == 2


async def test_a_lifted_limit_leaves_no_debt(stage: Any, caller: MakeCaller) -> None:
    await stage.limiter.reserve(caller(requests=1, tokens=60), charge(60))
    assert await admitted(stage.limiter, caller(requests=0, tokens=120), 60)
    assert await admitted(stage.limiter, caller(requests=1, tokens=0), 60)


async def test_requests_come_back_while_tokens_are_settled(stage: Any, caller: MakeCaller) -> None:
    acme = caller(requests=6, tokens=60)
    held = [await stage.limiter.reserve(acme, charge(1)) for _ in range(6)]
    stage.advance(30)
    for one in held:
        await stage.limiter.settle(one, 0, 0)
    assert requests(await stage.limiter.reserve(acme, charge(1))).remaining == 2


async def test_200_at_once_never_overspend(stage: Any, caller: MakeCaller) -> None:
    acme = caller(requests=100, tokens=60)
    passed = await asyncio.gather(*(admitted(stage.limiter, acme, 1) for _ in range(200)))
    assert sum(passed) == 60


async def test_reservations_have_names_of_their_own(stage: Any, caller: MakeCaller) -> None:
    made = [await stage.limiter.reserve(caller(tokens=100), charge(1)) for _ in range(20)]
    assert len({one.id for one in made}) == 20


async def test_a_foreign_reservation_refunds_nothing(stage: Any, caller: MakeCaller) -> None:
    acme = caller(tokens=60)
    await stage.limiter.reserve(acme, charge(60))
    foreign = await MemoryLimiter().reserve(acme, charge(60))
    await stage.limiter.settle(foreign, 0, 0)
    assert not await admitted(stage.limiter, acme, 1)


async def test_a_negative_number_of_tokens_is_a_bug(stage: Any, caller: MakeCaller) -> None:
    with pytest.raises(ValueError, match="fewer than 0"):
        await stage.limiter.reserve(caller(tokens=100), charge(-1))


@pytest.mark.parametrize(
    ("limits", "passes", "refused"),
    [
        ({"input_tokens_per_minute": 60}, charge(60, 999), charge(1)),
        ({"output_tokens_per_minute": 60}, charge(999, 60), charge(0, 1)),
        ({"tokens_per_minute": 60}, charge(20, 40), charge(0, 1)),
    ],
)
async def test_prompt_and_answer_have_limits_of_their_own(
    stage: Any, limits: dict[str, int], passes: Charge, refused: Charge
) -> None:
    acme = acme_with(**limits)
    held = await stage.limiter.reserve(acme, passes)
    (name,) = limits
    assert name.replace("_", " ").replace(" per", "").split(" minute")[0] in (
        await refusal(stage.limiter, acme, refused)
    )
    await stage.limiter.settle(held, passes.input_tokens, 0)
    await stage.limiter.settle(held, 0, 0)
    answers = name != "input_tokens_per_minute"
    assert (await refusal(stage.limiter, acme, refused) == "") == answers


async def test_requests_at_once_are_bounded_until_they_are_settled(stage: Any) -> None:
    acme = acme_with(concurrent_streams=2)
    held = [await stage.limiter.reserve(acme, charge(1)) for _ in range(2)]
    assert "2 requests at once" in await refusal(stage.limiter, acme, charge(1))
    await stage.limiter.settle(held[0], 1, 0)
    await stage.limiter.settle(held[0], 1, 0)
    assert await refusal(stage.limiter, acme, charge(1)) == ""
    assert "2 requests at once" in await refusal(stage.limiter, acme, charge(1))


@pytest.mark.parametrize("period", ["day", "month"])
async def test_a_budget_holds_to_the_token_and_refunds_come_back(stage: Any, period: str) -> None:
    acme = acme_with(**{f"tokens_per_{period}": 100})
    first = await stage.limiter.reserve(acme, charge(30, 40))
    said = await refusal(stage.limiter, acme, charge(30, 1))
    assert said.startswith("insufficient_quota")
    assert f"100 tokens per {period} has 30 left" in said
    await stage.limiter.settle(first, 30, 10)
    assert await refusal(stage.limiter, acme, charge(60, 0)) == ""
    assert await refusal(stage.limiter, acme, charge(1)) != ""
    with pytest.raises(TokensOverLimitError, match=f"tokens per {period}"):
        await stage.limiter.reserve(acme, charge(101))


async def test_the_part_of_the_budgets_that_is_used_is_known_without_asking(stage: Any) -> None:
    acme = acme_with(tokens_per_day=100, tokens_per_month=400)
    assert stage.limiter.budget_used(acme) == 0
    for expected in (0.3, 0.6):
        held = await stage.limiter.reserve(acme, charge(30))
        assert stage.limiter.budget_used(acme) == pytest.approx(expected)
    await stage.limiter.settle(held, 10, 0)
    assert stage.limiter.budget_used(acme) == pytest.approx(0.4)
    assert stage.limiter.budget_used(acme_with(tokens_per_minute=100)) == 0


SHARED = LimitsConfig(
    tenants={"acme": SharedLimits(requests_per_minute=3)},
    tenant_default=SharedLimits(requests_per_minute=1),
    models={"big": SharedLimits(requests_per_minute=2)},
)


async def test_keys_of_a_tenant_share_its_limits_and_all_share_a_models(
    limited: Callable[[LimitsConfig], Limiter],
) -> None:
    limiter = limited(SHARED)
    one, two = (msgspec.structs.replace(acme_with(), key_id=name) for name in ("one1", "two2"))
    other = msgspec.structs.replace(acme_with(), key_id="three3", tenant="other")
    passed = [await refusal(limiter, key, charge(1)) == "" for key in (one, two, one, two)]
    assert passed == [True, True, True, False]
    assert "of the tenant" in await refusal(limiter, one, charge(1))
    assert [await refusal(limiter, other, charge(1)) == "" for _ in range(2)] == [True, False]


async def test_a_refusal_by_one_costs_none_of_the_others(
    limited: Callable[[LimitsConfig], Limiter],
) -> None:
    limiter = limited(SHARED)
    acme = acme_with(requests_per_minute=10)
    for _ in range(2):
        held = await limiter.reserve(acme, charge(1, model="big"))
    for _ in range(5):
        assert "of the model" in await refusal(limiter, acme, charge(1, model="big"))
    assert requests(held)[:2] == (2, 0)
    assert requests(await limiter.reserve(acme, charge(1))).remaining == 0  # the tenant's third
    assert "of the tenant" in await refusal(limiter, acme, charge(1))
