"""edge_tier.gateway.backends, where test_routes does not reach: several workers, and the cloud."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from edge_tier.gateway.backends import Cloud, CloudConfig, Wanted
from edge_tier.gateway.errors import NoBackendError
from edge_tier.gateway.request import Message, Plan, Prompt, Sampling, Step, Tokens
from tests.fakes.gateway import CLOUD_MODEL, MODEL, Gateway, gateway_in

PROMPT = Prompt(kind="chat", model=MODEL, messages=(Message("user", "hi"),))


@pytest.fixture
async def gateway(tmp_path: Path) -> AsyncIterator[Gateway]:
    async with gateway_in(tmp_path) as made:
        yield made


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
        as_text=prompt,
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


def test_without_a_url_there_is_no_cloud() -> None:
    cloud = Cloud(CloudConfig(), None)
    assert cloud.offered == cloud.ready == frozenset()


def test_a_penalty_ends() -> None:
    cloud = Cloud(CloudConfig(url="http://127.0.0.1:9", penalty_s=0.0), None)
    cloud.penalize()
    assert cloud.ready == {CLOUD_MODEL}
    patient = Cloud(CloudConfig(url="http://127.0.0.1:9", penalty_s=60.0), None)
    patient.penalize()
    assert patient.ready == frozenset()


async def test_what_only_the_engine_tokenizes_is_sent_as_text(gateway: Gateway) -> None:
    asked = wanted(gateway, "worker")
    estimate = Tokens(model=MODEL, revision=gateway.revision, estimate=9)
    asked = Wanted(plan=asked.plan, prompt=PROMPT, as_text=PROMPT, tokens=estimate, max_tokens=5)
    (await gateway.backends.open(asked)).close()
    assert gateway.worker.bodies[0]["messages"] == [{"role": "user", "content": "hi"}]
    assert "prompt_token_ids" not in gateway.worker.bodies[0]


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
