"""edge_tier.gateway.backends, where test_routes does not reach: several workers, and the cloud."""

from __future__ import annotations

import asyncio
import dataclasses
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import msgspec
import pytest
from aiohttp import web
from aiohttp.test_utils import TestServer

from edge_tier.gateway.backends import Backends
from edge_tier.gateway.breaker import BreakerConfig
from edge_tier.gateway.cloud import Cloud, CloudConfig
from edge_tier.gateway.errors import NoBackendError
from edge_tier.gateway.hedge import HedgeConfig
from edge_tier.gateway.opened import Wanted
from edge_tier.gateway.request import Message, Plan, Prompt, Sampling, Step, Tokens
from edge_tier.gateway.upstream import UpstreamConfig
from tests.fakes.clock import ManualClock
from tests.fakes.gateway import CLOUD_MODEL, MODEL, Backend, Gateway, gateway_in

PROMPT = Prompt(kind="chat", model=MODEL, messages=(Message("user", "hi"),))


@pytest.fixture
async def gateway(tmp_path: Path) -> AsyncIterator[Gateway]:
    async with gateway_in(tmp_path) as made:
        yield made


def given(prompt: Prompt) -> Callable[[], Awaitable[Prompt]]:
    async def give() -> Prompt:
        return prompt

    return give


def wanted(gateway: Gateway, *targets: str, prompt: Prompt = PROMPT) -> Wanted:
    steps = [
        Step(target="cloud", model=CLOUD_MODEL)
        if t == "cloud"
        else Step(target="worker", model=MODEL)
        for t in targets
    ]
    return Wanted(
        plan=Plan(steps=tuple(steps), reasons=()),
        prompt=prompt,
        as_text=given(prompt),
        tokens=Tokens(model=MODEL, revision=gateway.revision, ids=(1, 2)),
        max_tokens=5,
    )


async def test_another_worker_answers_where_one_is_gone(gateway: Gateway) -> None:
    gateway.report(worker="dead", url="http://127.0.0.1:9", slots=100)
    gateway.report(busy=1)
    gateway.report(worker="alive", busy=3)
    opened = await gateway.backends.open(wanted(gateway, "worker"))
    assert opened.worker in {"alive", "w1"}
    assert opened.fallbacks == 1
    opened.close()
    again = await gateway.backends.open(wanted(gateway, "worker"))
    assert again.fallbacks == 0  # the dead one is the last choice for a while
    again.close()


async def test_in_flight_counts_go_down_whatever_happens(gateway: Gateway) -> None:
    member = gateway.fleet.pick(MODEL)
    assert member is not None
    opened = await gateway.backends.open(wanted(gateway, "worker"))
    assert member.in_flight == 1
    opened.close()
    opened.close()
    assert member.in_flight == 0
    gateway.worker.answer = gateway.worker.failing
    with pytest.raises(NoBackendError):
        await gateway.backends.open(wanted(gateway, "worker"))
    assert member.in_flight == 0


async def test_waiting_for_a_backend_can_be_cancelled(gateway: Gateway) -> None:
    member = gateway.fleet.pick(MODEL)
    assert member is not None
    asked = asyncio.Event()

    async def silent(_request: Any) -> Any:
        asked.set()
        await asyncio.Event().wait()

    gateway.worker.answer = silent
    task = asyncio.create_task(gateway.backends.open(wanted(gateway, "worker")))
    await asked.wait()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert member.in_flight == 0


async def test_a_cloud_that_failed_is_left_alone_for_a_moment(gateway: Gateway) -> None:
    gateway.cloud.answer = gateway.cloud.failing
    opened = await gateway.backends.open(wanted(gateway, "cloud", "worker"))
    assert opened.step.target == "worker"
    opened.close()


async def test_a_cloud_that_keeps_failing_is_not_offered_for_a_while(gateway: Gateway) -> None:
    clock = ManualClock()
    config = CloudConfig(url="http://127.0.0.1:9", breaker=BreakerConfig(failures=2, open_s=5))
    cloud = Cloud(config, None, clock=clock)
    backends = Backends(gateway.fleet, cloud, gateway.models, worker_token="w")
    for _ in range(2):
        assert cloud.ready == {CLOUD_MODEL}
        with pytest.raises(NoBackendError):
            await backends.open(wanted(gateway, "cloud"))
    assert cloud.ready == frozenset()
    assert cloud.offered == {CLOUD_MODEL}
    with pytest.raises(NoBackendError, match="left alone"):
        await backends.open(wanted(gateway, "cloud"))
    clock.advance(5)
    assert cloud.ready == {CLOUD_MODEL}


@asynccontextmanager
async def second_worker(gateway: Gateway) -> AsyncIterator[Backend]:
    """Another worker, a little busier than the first."""
    backend = Backend("second")
    app = web.Application()
    app.router.add_post("/v1/{path:.*}", backend.handle)
    async with TestServer(app, handler_cancellation=True) as server:
        backend.url = str(server.make_url("")).rstrip("/")
        gateway.report(worker="second", url=backend.url, busy=1)
        yield backend


async def hedging(gateway: Gateway) -> Backends:
    """Backends that have seen enough requests to know how long they take."""
    backends = Backends(
        gateway.fleet,
        Cloud(CloudConfig(), None),
        gateway.models,
        worker_token="w",
        hedge=HedgeConfig(budget=1.0, min_delay_s=0.02, quantile=0.5),
    )
    for _ in range(20):
        (await backends.open(wanted(gateway, "worker"))).close()
    return backends


async def test_a_request_that_waits_too_long_is_raced_by_another_worker(gateway: Gateway) -> None:
    backends = await hedging(gateway)
    async with second_worker(gateway) as other:
        gateway.worker.answer = gateway.worker.silent
        opened = await backends.open(wanted(gateway, "worker"))
        assert (opened.worker, opened.hedged, opened.fallbacks) == ("second", True, 0)
        await asyncio.wait_for(gateway.worker.gone.wait(), 30)
        assert len(other.bodies) == 1
        first = gateway.fleet.pick(MODEL, avoid=frozenset({"second"}))
        assert first is not None
        assert first.in_flight == 0
        opened.close()
        await backends.aclose()


@pytest.mark.parametrize("change", [{"priority": "batch"}, {"hedge": False}])
async def test_a_batch_request_is_never_hedged_nor_one_whose_row_says_so(
    gateway: Gateway, change: dict[str, Any]
) -> None:
    backends = await hedging(gateway)
    asked = wanted(gateway, "worker")
    plan = msgspec.structs.replace(asked.plan, **change)
    async with second_worker(gateway) as other:
        gateway.worker.answer = gateway.worker.silent
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.2):
                await backends.open(dataclasses.replace(asked, plan=plan))
        assert other.bodies == []
        await backends.aclose()


async def test_where_both_of_a_race_fail_the_next_step_answers(gateway: Gateway) -> None:
    backends = await hedging(gateway)
    async with second_worker(gateway) as other:

        async def late(request: web.Request) -> web.StreamResponse:
            await asyncio.sleep(0.1)
            return await gateway.worker.failing(request)

        gateway.worker.answer, other.answer = late, other.failing
        with pytest.raises(NoBackendError):
            await backends.open(wanted(gateway, "worker"))
        assert all(
            member.in_flight == 0
            for name in ("w1", "second")
            if (member := gateway.fleet.pick(MODEL, avoid=frozenset({"w1", "second"} - {name})))
        )
        await backends.aclose()


async def test_comments_are_no_answer_yet(gateway: Gateway) -> None:
    """A worker whose queue is long sends comments; when it then breaks, another backend answers."""

    async def queued(request: web.Request) -> web.StreamResponse:
        response = await gateway.worker.begin(request)
        await response.write(b": ping\n\n")
        await asyncio.sleep(0.05)
        assert request.transport is not None
        request.transport.close()
        return response

    gateway.worker.answer = queued
    prompt = msgspec.structs.replace(PROMPT, stream=True)
    opened = await gateway.backends.open(wanted(gateway, "worker", "cloud", prompt=prompt))
    assert (opened.step.target, opened.fallbacks) == ("cloud", 2)
    opened.close()


async def test_what_only_the_engine_tokenizes_is_sent_as_text(gateway: Gateway) -> None:
    asked = wanted(gateway, "worker")
    estimate = Tokens(model=MODEL, revision=gateway.revision, estimate=9)
    asked = Wanted(
        plan=asked.plan, prompt=PROMPT, as_text=given(PROMPT), tokens=estimate, max_tokens=5
    )
    (await gateway.backends.open(asked)).close()
    assert gateway.worker.bodies[0]["messages"] == [{"role": "user", "content": "hi"}]
    assert "prompt_token_ids" not in gateway.worker.bodies[0]


async def test_a_worker_that_takes_no_ids_is_sent_messages(gateway: Gateway) -> None:
    gateway.report(features=frozenset({"logprobs", "messages_only"}))
    (await gateway.backends.open(wanted(gateway, "worker"))).close()
    assert gateway.worker.bodies[0]["messages"] == [{"role": "user", "content": "hi"}]
    assert not {"prompt_token_ids", "revision"} & gateway.worker.bodies[0].keys()
    gateway.report(features=frozenset({"logprobs"}))
    (await gateway.backends.open(wanted(gateway, "worker"))).close()
    assert gateway.worker.bodies[1]["prompt_token_ids"] == [1, 2]


@pytest.mark.parametrize(("top", "sent"), [(None, 0), (3, 3)])
async def test_logprobs_of_a_completion_are_a_number(
    gateway: Gateway, top: int | None, sent: int
) -> None:
    prompt = Prompt(
        kind="completion",
        model=MODEL,
        text="Once",
        sampling=Sampling(logprobs=True, top_logprobs=top),
    )
    (await gateway.backends.open(wanted(gateway, "worker", prompt=prompt))).close()
    assert gateway.worker.bodies[0]["logprobs"] == sent
    assert gateway.worker.bodies[0]["prompt"] == [1, 2]


async def test_a_revision_this_edge_cannot_load_costs_only_that_worker(gateway: Gateway) -> None:
    member = gateway.fleet.member("w1", MODEL)
    assert member is not None
    gateway.report(revision="f" * 64)
    opened = await gateway.backends.open(wanted(gateway, "worker", "cloud"))
    assert opened.step.target == "cloud"
    assert member.in_flight == 0
    assert member.breaker.state() == "closed"
    opened.close()


async def test_what_a_backend_says_of_our_token_is_told_nobody(gateway: Gateway) -> None:
    async def refusing(_request: web.Request) -> web.StreamResponse:
        said = {"error": {"message": "Incorrect API key provided: sk-abc"}}
        return web.json_response(said, status=401)

    gateway.cloud.answer = refusing
    with pytest.raises(NoBackendError, match="401") as caught:
        await gateway.backends.open(wanted(gateway, "cloud"))
    assert "sk-abc" not in caught.value.message


async def test_who_leaves_while_a_race_is_cleared_up_leaves_nothing_open(gateway: Gateway) -> None:
    backends = await hedging(gateway)
    async with second_worker(gateway):
        gateway.worker.answer = gateway.worker.silent
        first, second = gateway.fleet.member("w1", MODEL), gateway.fleet.member("second", MODEL)
        assert first is not None
        assert second is not None
        opening = asyncio.create_task(backends.open(wanted(gateway, "worker")))
        while not second.in_flight:  # noqa: ASYNC110 - every step of the loop counts
            await asyncio.sleep(0)
        while first.in_flight:  # noqa: ASYNC110 - until the one that lost was stopped
            await asyncio.sleep(0)
        assert opening.cancel()
        with pytest.raises(asyncio.CancelledError):
            await opening
        assert (first.in_flight, second.in_flight) == (0, 0)
        await backends.aclose()


async def test_a_backend_that_only_says_it_will_answer_is_given_up(gateway: Gateway) -> None:
    backends = Backends(
        gateway.fleet,
        Cloud(CloudConfig(url=gateway.cloud.url), "cloud-token"),
        gateway.models,
        worker_token="worker-token",
        upstream=UpstreamConfig(head_timeout_s=1.0),
    )

    async def only_a_head(request: web.Request) -> web.StreamResponse:
        await gateway.worker.begin(request)
        return await gateway.worker.silent(request)

    gateway.worker.answer = only_a_head
    opened = await backends.open(wanted(gateway, "worker", "cloud"))
    assert opened.step.target == "cloud"
    opened.close()
    await backends.aclose()
