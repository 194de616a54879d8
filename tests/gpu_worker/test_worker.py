"""Several models in one worker, over real HTTP, with engines that are fakes."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator

import pytest

from gpu_worker.config import ModelConfig
from gpu_worker.engine import EngineStartError
from tests.fakes.rolling import Faults
from tests.fakes.several import A1, A2, B1, B2, ONE_MODEL, Run, held, other, settled, two_models
from tests.fakes.waiting import until
from tests.fakes.worker_api import CHAT
from tests.fakes.yard import Yard


@pytest.fixture
async def yard() -> AsyncIterator[Yard]:
    async with two_models() as made:
        yield made


# In memory, and asleep


async def test_what_does_not_fit_sleeps_and_says_so(yard: Yard) -> None:
    async with Run(yard) as client:
        awake = await settled(client)
        await until(lambda: {r.model for r in yard.edge.reports} == {"a", "b"})
        await until(lambda: yard.edge.last(awake).state == "ready")
        await until(lambda: yard.edge.last(other(awake)).state == "asleep")
        assert yard.edge.last("a").revision == A1.id
        assert yard.edge.last("b").revision == B1.id
        assert yard.edge.last(other(awake)).slots > 0
        _, text = await client.get("/v1/models")
        assert [card["id"] for card in json.loads(text)["data"]] == ["a", "b"]
        assert (await client.get("/readyz"))[0] == 200
        _, metrics = await client.get("/metrics")
        assert f'headwater_worker_model_memory_bytes{{model="{other(awake)}"}} 0.0' in metrics
        assert f"headwater_worker_memory_budget_bytes {float(ONE_MODEL)}" in metrics


async def test_both_are_in_memory_where_both_fit(yard: Yard) -> None:
    async with Run(yard, memory_budget_bytes=2 * ONE_MODEL) as client:
        await client.until_states("ready", "ready")
        assert await client.whole("a") == A1.id
        assert await client.whole("b") == B1.id
        assert len(yard.engines) == 2


async def test_the_budget_is_a_share_of_what_is_free_where_none_is_set(yard: Yard) -> None:
    async with Run(yard, memory_budget_bytes=0, memory_share=0.5) as client:
        await client.until_states("ready", "ready")
        assert (client.worker.keeper.budget_bytes or 0) > 2 * ONE_MODEL


async def test_a_request_wakes_its_model_and_puts_the_idle_one_to_sleep(yard: Yard) -> None:
    async with Run(yard) as client:
        first = await settled(client)
        engine = yard.engines[-1]
        assert await client.whole(other(first)) == (B1 if first == "a" else A1).id
        assert engine.closed
        assert client.state(first) == "asleep"
        await client.whole(first)
        assert await settled(client) == first
        assert sum(not engine.closed for engine in yard.engines) == 1


async def test_many_requests_for_a_sleeper_load_it_once(yard: Yard) -> None:
    async with Run(yard) as client:
        first = await settled(client)
        before = len(yard.engines)
        await asyncio.gather(*(client.whole(other(first)) for _ in range(20)))
        assert len(yard.engines) == before + 1


async def test_a_stream_is_never_cut_for_another_model(yard: Yard) -> None:
    async with Run(yard, room_wait_s=0.1) as client:
        first = await settled(client)
        engine = yard.engines[-1]
        held(engine)
        stream = asyncio.create_task(client.whole(first))
        await engine.until_open(1)
        body = {"model": other(first), "prompt_token_ids": [1]}
        status, error, headers = await client.post(CHAT, body)
        assert (status, int(headers["Retry-After"]) > 0) == (503, True)
        assert f"{other(first)} needs" in error["error"]["message"]
        assert f"which {first} have in use" in error["error"]["message"]
        assert not engine.closed
        engine.gate.set()
        await stream


async def test_who_waits_for_room_gets_it_when_the_stream_ends(yard: Yard) -> None:
    async with Run(yard) as client:
        first = await settled(client)
        engine = yard.engines[-1]
        held(engine)
        stream = asyncio.create_task(client.whole(first))
        await engine.until_open(1)
        waiting = asyncio.create_task(client.whole(other(first)))
        resident = client.worker.residents[["a", "b"].index(other(first))]
        await until(lambda: resident.serving.load().queue == 1)
        assert not engine.closed
        engine.gate.set()
        await asyncio.gather(stream, waiting)
        assert engine.closed


async def test_a_pinned_model_keeps_its_place(yard: Yard) -> None:
    models = (ModelConfig(model="a", pinned=True), ModelConfig(model="b"))
    async with Run(yard, models=models, room_wait_s=0.05) as client:
        await client.until_states("ready", "asleep")
        status, text, _ = await client.ask("b")
        assert (status, "beside pinned models this worker has 0 MiB" in text) == (503, True)
        assert await client.whole("a") == A1.id
        assert client.state("a") == "ready"


async def test_an_idle_model_sleeps_and_a_pinned_one_does_not(yard: Yard) -> None:
    models = (
        ModelConfig(model="a", idle_unload_s=0.05),
        ModelConfig(model="b", idle_unload_s=0.05, pinned=True),
    )
    async with Run(yard, models=models, memory_budget_bytes=2 * ONE_MODEL) as client:
        await client.until_states("asleep", "ready")
        assert await client.whole("a") == A1.id
        await client.until_states("asleep", "ready")


async def test_one_model_alone_can_sleep_too(yard: Yard) -> None:
    models = (ModelConfig(model="a", idle_unload_s=0.05),)
    async with Run(yard, models=models, memory_budget_bytes=0) as client:
        await until(lambda: client.state("a") == "asleep")
        assert client.worker.keeper.budget_bytes is None
        assert await client.whole("a") == A1.id


# Routes


async def test_a_request_must_name_one_of_the_models(yard: Yard) -> None:
    async with Run(yard) as client:
        await settled(client)
        status, error, _ = await client.post(CHAT, {"prompt_token_ids": [1]})
        assert (status, error["error"]["message"]) == (
            400,
            "name a model; this worker serves a, b",
        )
        status, error, _ = await client.post(CHAT, {"prompt_token_ids": [1], "model": "c"})
        assert (status, error["error"]["message"]) == (404, "this worker serves a, b")


async def test_tokenize_wakes_the_model_that_it_names(yard: Yard) -> None:
    async with Run(yard) as client:
        asleep = other(await settled(client))
        status, body, headers = await client.post("/tokenize", {"model": asleep, "content": "x"})
        assert (status, body) == (200, {"tokens": [120]})
        assert headers["x-model-digest"] == (A1 if asleep == "a" else B1).id
        assert client.state(asleep) == "ready"


# Rolls


async def test_a_roll_of_a_sleeper_is_pulled_and_sleeps_on(yard: Yard) -> None:
    async with Run(yard) as client:
        asleep = other(await settled(client))
        new = A2 if asleep == "a" else B2
        before = len(yard.engines)
        yard.edge.source.publish(new)
        yard.edge.hub.publish("channel", ["trust"])
        await until(lambda: yard.edge.last(asleep).revision == new.id)
        assert (yard.edge.last(asleep).state, len(yard.engines)) == ("asleep", before)
        yard.edge.source.chunks.clear()  # it is on disk
        assert await client.whole(asleep) == new.id


async def test_a_roll_of_an_awake_model_drains_first_where_both_do_not_fit(yard: Yard) -> None:
    async with Run(yard) as client:
        awake = await settled(client)
        old, new = yard.engines[-1], A2 if awake == "a" else B2
        held(old)
        stream = asyncio.create_task(client.whole(awake))
        await old.until_open(1)
        yard.edge.source.publish(new)
        yard.edge.hub.publish("channel", ["trust"])
        await until(lambda: client.state(awake) == "draining")
        old.gate.set()
        assert await stream == old.revision
        await until(lambda: client.state(awake) == "ready")
        assert await client.whole(awake) == new.id
        assert old.closed


async def test_a_roll_of_an_awake_model_puts_an_idle_one_to_sleep_rather_than_drain(
    yard: Yard,
) -> None:
    async with Run(yard, memory_budget_bytes=2 * ONE_MODEL) as client:
        await client.until_states("ready", "ready")
        yard.edge.source.publish(A2)
        yard.edge.hub.publish("channel", ["trust"])
        await until(lambda: client.worker.residents[0].roller.revision == A2.id)
        assert (client.state("a"), client.state("b")) == ("ready", "asleep")
        assert "draining" not in [r.state for r in yard.edge.reports]


async def test_what_cannot_be_woken_gives_way_to_the_revision_before(yard: Yard) -> None:
    async with Run(yard) as client:
        asleep = other(await settled(client))
        old, new = (A1, A2) if asleep == "a" else (B1, B2)
        yard.faults[new.id] = Faults(start=EngineStartError("out of memory"))
        yard.edge.source.publish(new)
        yard.edge.hub.publish("channel", ["trust"])
        await until(lambda: yard.edge.last(asleep).revision == new.id)
        status, text, _ = await client.ask(asleep)
        assert (status, "out of memory" in text) == (503, True)
        await until(lambda: yard.edge.last(asleep).revision == old.id)
        await until(lambda: yard.edge.last(asleep).state == "ready")
        report = yard.edge.last(asleep)
        assert (report.refused, report.fault) == (new.id, "crashed")
        assert "out of memory" in report.reason
        assert await client.whole(asleep) == old.id


# The end


async def test_a_worker_that_stops_gives_up_a_wake_and_closes_all_engines(yard: Yard) -> None:
    async with Run(yard) as client:
        asleep = other(await settled(client))
        yard.faults[(A1 if asleep == "a" else B1).id] = Faults(hang=True)
        waiting = asyncio.create_task(client.ask(asleep))
        await until(lambda: len(yard.engines) == 2)
        await yard.engines[-1].starting.wait()
    await asyncio.gather(waiting, return_exceptions=True)
    assert all(engine.closed for engine in yard.engines)
    assert {r.state for r in yard.edge.reports[-2:]} == {"draining"}
