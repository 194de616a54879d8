"""A canary of callers: who meets which revision, and that nobody else ever meets the new one."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web
from aiohttp.test_utils import TestServer
from hypothesis import given
from hypothesis import strategies as st

from edge_tier.gateway.backends import Backends
from edge_tier.gateway.canary import ANYWHERE, Lane, lane_of
from edge_tier.gateway.cloud import Cloud, CloudConfig
from edge_tier.gateway.hedge import HedgeConfig
from edge_tier.gateway.opened import Wanted
from edge_tier.gateway.request import Plan, Step, Tokens
from tests.edge_tier.gateway.test_backends import PROMPT
from tests.edge_tier.gateway.test_backends import given as giving
from tests.fakes.gateway import MODEL, Backend, Gateway, gateway_in, trusting
from tests.fakes.going_on import Worker
from wire.channel import Canary

CHAT = {"model": MODEL, "messages": [{"role": "user", "content": "hi"}], "max_tokens": 3}
CANARY = Canary(revision="b" * 64, percent=30, by="callers")


@given(st.text(min_size=1, max_size=30))
def test_everybody_is_on_one_side(caller: str) -> None:
    lane = lane_of(CANARY, caller)
    new = CANARY.revision
    assert lane in {Lane(only=new), Lane(never=new)}
    assert (lane == Lane(only=new)) is CANARY.takes(caller)
    assert lane_of(CANARY, caller) == lane


@pytest.mark.parametrize("canary", [None, Canary(revision="b" * 64, percent=99)])
def test_without_a_canary_of_callers_all_go_anywhere(canary: Canary | None) -> None:
    assert lane_of(canary, "anybody") == ANYWHERE


class Rig:
    """A gateway with a worker of each revision, and a key on each side of a canary."""

    def __init__(self, gateway: Gateway, trial: Backend) -> None:
        self.gateway = gateway
        self.trial = trial
        self.canary = Canary(revision=gateway.other_revision, percent=50, by="callers")
        gateway.worker.name, trial.name = gateway.revision, gateway.other_revision
        self.inside, self.outside = self._keys()
        gateway.views[:] = [trusting(gateway.revision, gateway.other_revision, canary=self.canary)]

    def _keys(self) -> tuple[str, str]:
        found: dict[bool, str] = {}
        while len(found) < 2:
            record, key = self.gateway.keys.create(tenant="t")
            found[self.canary.takes(record.key_id)] = key
        return found[True], found[False]

    async def ask(self, key: str, **fields: Any) -> tuple[int, str]:
        """Status, and the revision that answered."""
        headers = {"Authorization": f"Bearer {key}"}
        body = {**CHAT, **fields}
        answer = await self.gateway.client.post("/v1/chat/completions", json=body, headers=headers)
        await answer.read()
        return answer.status, answer.headers.get("x-model-digest", "")

    def trial_reports(self, **changes: Any) -> None:
        fields = {"worker": "w2", "url": self.trial.url, "revision": self.canary.revision}
        self.gateway.report(**(fields | changes))


@asynccontextmanager
async def rig_in(folder: Path) -> AsyncIterator[Rig]:
    trial = Backend("trial")
    app = web.Application()
    app.router.add_post("/v1/{path:.*}", trial.handle)
    async with gateway_in(folder) as gateway, TestServer(app, handler_cancellation=True) as server:
        trial.url = str(server.make_url("")).rstrip("/")
        rig = Rig(gateway, trial)
        rig.trial_reports()
        yield rig


@pytest.fixture
async def rig(tmp_path: Path) -> AsyncIterator[Rig]:
    async with rig_in(tmp_path) as made:
        yield made


@pytest.mark.parametrize("stream", [False, True])
async def test_callers_of_the_canary_meet_it_and_no_others_do(rig: Rig, stream: bool) -> None:
    for _ in range(6):
        assert await rig.ask(rig.inside, stream=stream) == (200, rig.canary.revision)
        assert await rig.ask(rig.outside, stream=stream) == (200, rig.gateway.revision)


async def test_ids_are_made_for_the_revision_that_will_be_met(rig: Rig) -> None:
    await rig.ask(rig.inside)
    await rig.ask(rig.outside)
    assert rig.trial.bodies[0]["revision"] == rig.canary.revision
    assert rig.gateway.worker.bodies[0]["revision"] == rig.gateway.revision


async def test_where_no_worker_of_the_canary_is_left_its_callers_go_to_the_stable_one(
    rig: Rig,
) -> None:
    rig.trial_reports(state="failed")
    assert await rig.ask(rig.inside) == (200, rig.gateway.revision)
    assert rig.gateway.worker.bodies[0]["revision"] == rig.gateway.revision
    (fallbacks,) = [f for f in rig.gateway.counts.collect() if f.name.endswith("fallbacks")]
    assert fallbacks.samples[0].value == 1


async def test_a_canary_that_fails_a_request_leaves_it_to_the_stable_revision(rig: Rig) -> None:
    rig.trial.answer = rig.trial.failing
    status, revision = await rig.ask(rig.inside)
    assert (status, revision) == (200, rig.gateway.revision)
    failed = {f.revision: f.failed for f in rig.gateway.counts.figures()}
    assert failed == {rig.canary.revision: 1, rig.gateway.revision: 0}


async def test_callers_outside_get_an_honest_503_rather_than_the_canary(rig: Rig) -> None:
    rig.gateway.report(state="failed")
    headers = {"Authorization": f"Bearer {rig.outside}"}
    answer = await rig.gateway.client.post("/v1/chat/completions", json=CHAT, headers=headers)
    assert answer.status == 503
    assert "outside the canary is ready" in (await answer.json())["error"]["message"]
    assert rig.trial.bodies == []


async def test_a_worker_that_rolled_meanwhile_is_not_asked_for_callers_outside(rig: Rig) -> None:
    """Its heartbeat still says the old revision, but it serves the new one already."""
    rig.trial_reports(revision=rig.gateway.revision)
    rig.gateway.report(busy=4)  # the other one is the better choice

    async def moved(_request: web.Request) -> web.StreamResponse:
        headers = {"x-model-digest": rig.canary.revision}
        return web.json_response({"error": {"message": "moved"}}, status=409, headers=headers)

    rig.trial.answer = moved
    assert await rig.ask(rig.outside) == (200, rig.gateway.revision)
    assert len(rig.trial.bodies) == 1


async def test_an_answer_of_the_canary_is_not_given_to_callers_outside(rig: Rig) -> None:
    """A prompt that goes as text is taken by any revision, so the answer's own word counts."""
    rig.trial_reports(revision=rig.gateway.revision, features={"logprobs", "tools"})
    rig.gateway.report(busy=4, features={"logprobs", "tools"})
    tool = {"type": "function", "function": {"name": "f", "parameters": {"type": "object"}}}
    assert await rig.ask(rig.outside, tools=[tool]) == (200, rig.gateway.revision)
    assert len(rig.trial.bodies) == 1


async def test_when_the_canary_is_over_everybody_goes_anywhere_again(rig: Rig) -> None:
    gateway = rig.gateway
    gateway.views[:] = [trusting(gateway.revision, gateway.other_revision)]
    gateway.report(state="failed")
    assert await rig.ask(rig.outside) == (200, rig.canary.revision)


async def test_a_request_counts_once_as_one_that_fell_back(rig: Rig) -> None:
    """Though two workers of the stable revision were asked."""
    rig.trial_reports(state="failed")
    rig.gateway.report(worker="w0", url="http://127.0.0.1:9", slots=100)
    assert await rig.ask(rig.inside) == (200, rig.gateway.revision)
    (fallbacks,) = [f for f in rig.gateway.counts.collect() if f.name.endswith("fallbacks")]
    assert fallbacks.samples[0].value == 1


@pytest.mark.parametrize("inside", [True, False])
async def test_a_hedge_stays_in_the_lane(rig: Rig, inside: bool) -> None:
    """The one worker of a lane says nothing, and the other lane's would answer at once."""
    gateway = rig.gateway
    key = rig.inside if inside else rig.outside
    lane, other = (rig.trial, gateway.worker) if inside else (gateway.worker, rig.trial)
    backends = Backends(
        gateway.fleet,
        Cloud(CloudConfig(), None),
        gateway.models,
        worker_token="w",
        hedge=HedgeConfig(budget=1.0, min_delay_s=0.01, quantile=0.5),
    )
    caller = gateway.keys.authenticate(f"Bearer {key}")
    revision = rig.canary.revision if inside else gateway.revision
    asked = Wanted(
        plan=Plan(steps=(Step(target="worker", model=MODEL),), reasons=()),
        prompt=PROMPT,
        as_text=giving(PROMPT),
        tokens=Tokens(model=MODEL, revision=revision, ids=(1, 2)),
        max_tokens=5,
        caller=caller.key_id,
    )
    for _ in range(20):
        (await backends.open(asked)).close()
    lane.answer, before = lane.silent, len(other.bodies)
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(0.1):
            await backends.open(asked)
    assert len(other.bodies) == before == 0
    await backends.aclose()


async def test_a_stream_of_an_aborted_canary_goes_on_nowhere_else(rig: Rig) -> None:
    """It is over while its answer runs, and its worker breaks: no other revision goes on."""
    gateway = rig.gateway
    features = frozenset({"logprobs", "token_ids"})
    first = Worker("w2", rig.trial, rig.canary.revision)
    rig.trial_reports(features=features)
    gateway.report(features=features)
    answer = rig.trial.answer

    async def over(request: web.Request) -> web.StreamResponse:
        gateway.views[:] = [trusting(gateway.revision, gateway.other_revision)]
        return await answer(request)

    rig.trial.answer, first.cuts = over, [800]
    headers = {"Authorization": f"Bearer {rig.inside}"}
    body = {**CHAT, "stream": True, "temperature": 0, "max_tokens": 50}
    got = await gateway.client.post("/v1/chat/completions", json=body, headers=headers)
    assert b"[DONE]" not in await got.read()
    assert gateway.worker.bodies == []


async def test_a_lane_without_a_worker_is_answered_by_the_cloud(rig: Rig) -> None:
    rig.gateway.report(state="failed")
    status, revision = await rig.ask(rig.outside, model="auto")
    assert (status, revision) == (200, "cloud")
    assert rig.trial.bodies == []
