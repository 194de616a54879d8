"""Ways around limits that were thought of, each of which must lead nowhere."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import pytest
from aiohttp import ClientResponse

from edge_tier.gateway.limits import BudgetExceededError, LimitsConfig, RateLimitedError
from edge_tier.gateway.limits_redis import RedisLimiter
from edge_tier.gateway.request import Limits, SharedLimits
from tests.fakes.gateway import MODEL, Gateway, gateway_in
from tests.fakes.limits import acme_with, charge
from tests.fakes.waiting import until, until_async

ASK = {"model": MODEL, "messages": [{"role": "user", "content": "What is the capital of France?"}]}
LIMIT = 100_000
UNLIMITED = {"requests_per_minute": 0, "tokens_per_minute": 0}
LENGTHS = ("max_tokens", "max_completion_tokens", "max_new_tokens", "n_predict", "min_tokens")


@pytest.fixture
async def gateway(tmp_path: Path) -> AsyncIterator[Gateway]:
    async with gateway_in(tmp_path) as made:
        yield made


def limit(gateway: Gateway, **limits: int) -> None:
    """From now on requests come with a key that has these limits and no others."""
    key = gateway.new_key(limits=Limits(**(UNLIMITED | limits)))
    gateway.headers = {"Authorization": f"Bearer {key}"}


async def ask(gateway: Gateway, **fields: Any) -> ClientResponse:
    return await gateway.client.post(
        "/v1/chat/completions", json=ASK | fields, headers=gateway.headers
    )


async def leave_after_the_first_token(gateway: Gateway) -> int:
    """The status that a client saw which then closes its connection."""
    answer = await ask(gateway, stream=True)
    if answer.status == 200:
        await answer.content.readany()
    answer.close()
    return answer.status


@pytest.mark.parametrize(
    "fields",
    [
        {},
        {"max_tokens": None},
        {"max_tokens": 5},
        {"max_completion_tokens": 5},
        {"max_tokens": 5, "max_completion_tokens": 900},
        {"max_tokens": "900"},
        {"max_tokens": 5.5},
        {"max_tokens": -1},
        {"max_tokens": 0},
        {"MAX_TOKENS": 5},
        {"max_tokens": 5, "n_predict": 900},
        {"max_tokens": 5, "max_new_tokens": 900, "min_tokens": 900},
        {"max_tokens": 5, "extra_body": {"max_tokens": 900}},
        {"max_tokens": 5, "n": 3},
        {"max_tokens": 5, "n": 3, "best_of": 9},
    ],
)
async def test_no_spelling_of_max_tokens_gets_more_than_was_set_aside(
    gateway: Gateway, fields: dict[str, Any]
) -> None:
    limit(gateway, output_tokens_per_minute=LIMIT)
    answer = await ask(gateway, **fields)
    assert (answer.status == 400) == (not gateway.worker.bodies)
    for told in gateway.worker.bodies:
        set_aside = LIMIT - int(answer.headers["x-ratelimit-remaining-tokens"])
        lengths = [told[name] for name in LENGTHS if name in told]
        assert lengths
        assert max(lengths) * told.get("n", 1) <= set_aside


async def test_more_than_a_key_may_ask_for_is_refused_under_either_name(gateway: Gateway) -> None:
    limit(gateway, max_output_tokens=10)
    for name in ("max_tokens", "max_completion_tokens"):
        assert (await ask(gateway, **{name: 11})).status == 400
        assert (await ask(gateway, **{name: 10})).status == 200


@pytest.mark.parametrize("limited", [MODEL, "auto"])
async def test_an_alias_is_no_way_around_a_models_limits(tmp_path: Path, limited: str) -> None:
    limits = LimitsConfig(models={limited: SharedLimits(requests_per_minute=2)})
    async with gateway_in(tmp_path, limits=limits) as gateway:
        limit(gateway)
        assert [(await ask(gateway, model="auto")).status for _ in range(3)] == [200, 200, 429]
        assert (await ask(gateway)).status == (429 if limited == MODEL else 200)


async def test_an_abort_gives_no_request_back(gateway: Gateway) -> None:
    limit(gateway, requests_per_minute=4)
    gateway.worker.answer = gateway.worker.endless
    statuses = [await leave_after_the_first_token(gateway) for _ in range(6)]
    assert statuses == [200] * 4 + [429] * 2


async def test_an_abort_pays_for_the_prompt_and_what_was_emitted(gateway: Gateway) -> None:
    budget, allowed = 400, 100
    limit(gateway, tokens_per_day=budget)
    gateway.worker.answer = gateway.worker.endless
    caller = gateway.pipeline.authenticate(gateway.headers["Authorization"])

    def left() -> int:
        try:
            probe = gateway.limiter.try_reserve(caller, charge(budget))
        except BudgetExceededError as error:
            return int(error.message.split(" left")[0].split()[-1])
        gateway.limiter.try_settle(probe, 0, 0)
        return budget

    before = budget
    for _ in range(3):
        answer = await ask(gateway, stream=True, max_tokens=allowed)
        await answer.content.readany()
        prompt = before - left() - allowed  # while it runs, all of it is set aside
        assert prompt > 0
        answer.close()
        after = before - prompt - 1
        await until(lambda: left() == after)  # noqa: B023 - awaited in the loop
        before = after


async def test_an_abort_gives_its_place_back_and_not_two(gateway: Gateway) -> None:
    limit(gateway, concurrent_streams=2)
    gateway.worker.answer = gateway.worker.endless
    running = [await ask(gateway, stream=True) for _ in range(2)]
    assert [answer.status for answer in running] == [200, 200]
    assert (await ask(gateway, stream=True)).status == 429
    running[0].close()

    async def passes() -> bool:
        running[0] = await ask(gateway, stream=True)
        return running[0].status == 200

    await until_async(passes)
    assert (await ask(gateway, stream=True)).status == 429
    for answer in running:
        answer.close()


async def test_several_edges_at_once_spend_no_more_than_one(
    redis_url: str, limiter_at: Callable[..., RedisLimiter]
) -> None:
    """200 at once over four edges, of which most use less than they set aside."""
    edges = [limiter_at(redis_url) for _ in range(4)]
    acme = acme_with(tokens_per_day=600, concurrent_streams=20)
    spent = running = most = 0

    async def one(number: int) -> bool:
        """Whether it was admitted."""
        nonlocal spent, running, most
        edge = edges[number % 4]
        try:
            held = await edge.reserve(acme, charge(6, 10))
        except RateLimitedError:
            return False
        running += 1
        most = max(most, running)
        await asyncio.sleep(0)
        running -= 1
        await edge.settle(held, 6, number % 11)
        spent += 6 + number % 11
        return True

    while any(await asyncio.gather(*(one(number) for number in range(200)))):
        pass
    assert 600 - 16 < spent <= 600
    assert 1 < most <= 20
