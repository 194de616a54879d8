"""gpu_worker.commands: what an operator wants is done once, over real HTTP with fake engines."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gpu_worker.commands import MAX_DONE, MAX_KNOWN, Inbox
from gpu_worker.config import ModelConfig
from gpu_worker.engine import EngineStartError
from tests.fakes.rolling import Faults
from tests.fakes.several import A1, A2, TWO_MODELS, Run, held, settled, two_models
from tests.fakes.waiting import until
from tests.fakes.yard import Yard
from wire.workers import Command, Done, NodeAction


@pytest.fixture
async def yard() -> AsyncIterator[Yard]:
    async with two_models() as made:
        yield made


def command(action: NodeAction, *, node: str = "gpu-1", id_: str = "") -> Command:
    return Command(id=id_ or f"c-{action}", node=node, action=action)


async def done(yard: Yard, wanted: Command) -> str:
    """Give a command and wait until the worker says that it is over; the problem, if any."""
    yard.edge.commands = (wanted,)

    def found() -> list[str]:
        told = [done for report in yard.edge.reports for done in report.done]
        return [done.problem for done in told if done.id == wanted.id]

    await until(lambda: bool(found()))
    return found()[0]


async def test_a_drained_worker_finishes_what_runs_until_it_is_told_to_resume(yard: Yard) -> None:
    async with Run(yard) as client:
        awake = await settled(client)
        engine = yard.engines[-1]
        held(engine)
        stream = asyncio.create_task(client.whole(awake))
        await engine.until_open(1)
        assert await done(yard, command("drain")) == ""
        await until(lambda: {r.model for r in yard.edge.reports if r.draining} == {"a", "b"})
        for name in "ab":
            status, text, _ = await client.ask(name)
            assert (status, "drained" in text) == (503, True)
        assert (await client.get("/readyz"))[0] == 503
        engine.gate.set()
        await stream
        yard.edge.source.publish(A2)  # a roll does not end it
        yard.edge.hub.publish("channel", ["trust"])
        await until(lambda: yard.edge.last("a").revision == A2.id)
        assert yard.edge.last("a").draining
        assert await done(yard, command("resume")) == ""
        await until(lambda: not yard.edge.last("a").draining)
        assert await client.whole("a") == A2.id


async def test_a_restart_starts_a_second_engine_beside_and_cuts_no_stream(yard: Yard) -> None:
    models = (ModelConfig(model="a"),)
    async with Run(yard, models=models, memory_budget_bytes=TWO_MODELS) as client:
        await until(lambda: client.state("a") == "ready")
        old = yard.engines[-1]
        held(old)
        stream = asyncio.create_task(client.whole("a"))
        await old.until_open(1)
        assert await done(yard, command("restart")) == ""
        assert len(yard.engines) == 2
        assert await client.whole("a") == A1.id
        assert not old.closed
        old.gate.set()
        await stream
        await until(lambda: old.closed)
        assert "draining" not in [r.state for r in yard.edge.reports]


async def test_a_restart_without_room_for_two_drains_first(yard: Yard) -> None:
    models = (ModelConfig(model="a"),)
    async with Run(yard, models=models) as client:
        await until(lambda: client.state("a") == "ready")
        old = yard.engines[-1]
        held(old)
        stream = asyncio.create_task(client.whole("a"))
        await old.until_open(1)
        yard.edge.commands = (command("restart"),)
        await until(lambda: client.state("a") == "draining")
        old.gate.set()
        await stream
        assert await done(yard, command("restart")) == ""
        assert (client.state("a"), old.closed, len(yard.engines)) == ("ready", True, 2)


async def test_a_restart_that_fails_says_why_and_what_served_goes_on(yard: Yard) -> None:
    models = (ModelConfig(model="a"),)
    async with Run(yard, models=models, memory_budget_bytes=TWO_MODELS) as client:
        await until(lambda: client.state("a") == "ready")
        yard.faults[A1.id] = Faults(start=EngineStartError("no GPU"))
        problem = await done(yard, command("restart"))
        assert problem.startswith("a: load_failed: ")
        assert "no GPU" in problem
        assert await client.whole("a") == A1.id


async def test_a_restart_that_fails_after_draining_is_reported_and_another_revision_tried(
    yard: Yard,
) -> None:
    models = (ModelConfig(model="a"),)
    async with Run(yard, models=models) as client:
        await until(lambda: client.state("a") == "ready")
        yard.faults[A1.id] = Faults(start=EngineStartError("no GPU"))
        assert "no GPU" in await done(yard, command("restart"))
        await until(lambda: client.state("a") == "failed")
        assert len(yard.engines) == 3
        yard.edge.source.publish(A2)
        yard.edge.hub.publish("channel", ["trust"])
        await until(lambda: client.state("a") == "ready")


async def test_a_repull_brings_the_revision_again_and_restarts_onto_it(yard: Yard) -> None:
    models = (ModelConfig(model="a"),)
    async with Run(yard, models=models, memory_budget_bytes=TWO_MODELS) as client:
        await until(lambda: client.state("a") == "ready")
        path = yard.engines[0].order.path
        with path.open("rb") as running:
            path.write_bytes(b"x" * path.stat().st_size)  # rotten, and its size is right
            assert await done(yard, command("repull")) == ""
            assert path.read_bytes() == A1.files["model.gguf"]
            assert running.read(1) == b"x"  # the running engine's file is as it was
        assert len(yard.engines) == 2
        assert await client.whole("a") == A1.id
        assert {p.name for p in path.parent.parent.iterdir()} == {A1.id}


async def test_a_repull_that_fails_leaves_what_was_there(yard: Yard) -> None:
    models = (ModelConfig(model="a"),)
    async with Run(yard, models=models, memory_budget_bytes=TWO_MODELS) as client:
        await until(lambda: client.state("a") == "ready")
        path = yard.engines[0].order.path
        yard.edge.source.chunks.clear()
        assert (await done(yard, command("repull"))).startswith("a: not_found: ")
        assert path.read_bytes() == A1.files["model.gguf"]
        assert (len(yard.engines), await client.whole("a")) == (1, A1.id)


async def test_a_command_is_done_once_however_often_it_comes(yard: Yard) -> None:
    models = (ModelConfig(model="a"),)
    async with Run(yard, models=models, memory_budget_bytes=TWO_MODELS) as client:
        await until(lambda: client.state("a") == "ready")
        await done(yard, command("restart"))
        count = len(yard.edge.reports)
        await until(lambda: len(yard.edge.reports) > count + 3)
        assert len(yard.engines) == 2
        yard.edge.commands = (command("restart", node="gpu-2", id_="theirs"),)
        await until(lambda: len(yard.edge.reports) > count + 6)
        assert len(yard.engines) == 2


async def test_a_restart_under_way_does_not_outlive_the_worker(yard: Yard) -> None:
    models = (ModelConfig(model="a"),)
    async with Run(yard, models=models, memory_budget_bytes=TWO_MODELS) as client:
        await until(lambda: client.state("a") == "ready")
        yard.faults[A1.id] = Faults(hang=True)
        yard.edge.commands = (command("restart"),)
        await until(lambda: len(yard.engines) == 2)
        await yard.engines[1].starting.wait()
    assert [engine.closed for engine in yard.engines] == [True, True]
    assert yard.edge.last("a").state == "draining"


# The inbox


def test_only_what_is_for_us_and_new_is_done() -> None:
    inbox = Inbox("gpu-1")
    ours, theirs = command("drain"), command("drain", node="gpu-2", id_="x")
    assert inbox.fresh([ours, theirs, ours]) == [ours]
    assert inbox.fresh([ours]) == []


def test_an_id_that_nobody_would_give_is_ignored() -> None:
    inbox = Inbox("gpu-1")
    assert inbox.fresh([Command(id=i, node="gpu-1", action="drain") for i in ("", "x" * 129)]) == []


def test_of_one_answer_only_so_much_is_looked_at() -> None:
    many = [command("drain", id_=str(number)) for number in range(1_000)]
    assert len(Inbox("gpu-1").fresh(many)) == 64


def test_what_is_told_is_bounded() -> None:
    inbox = Inbox("gpu-1")
    for number in range(100):
        inbox.finish(command("drain", id_=str(number)), "x" * 10_000)
    assert len(inbox.done) == MAX_DONE
    assert inbox.done[-1] == Done(id="99", problem="x" * 500)


@given(st.lists(st.lists(st.integers(0, MAX_KNOWN - 1), max_size=8), max_size=40))
def test_whatever_comes_again_is_new_once(answers: list[list[int]]) -> None:
    inbox = Inbox("gpu-1")
    taken = [
        fresh.id
        for answer in answers
        for fresh in inbox.fresh([command("restart", id_=str(number)) for number in answer])
    ]
    assert sorted(taken) == sorted({str(number) for answer in answers for number in answer})


def test_what_was_done_is_told_again_to_whoever_asks_again() -> None:
    inbox = Inbox("gpu-1")
    first = command("drain", id_="first")
    assert inbox.fresh([first]) == [first]
    inbox.finish(first, "no")
    for number in range(MAX_DONE):
        other = command("drain", id_=f"c-{number}")
        inbox.fresh([other])
        inbox.finish(other)
    assert "first" not in {told.id for told in inbox.done}
    assert inbox.fresh([first]) == []
    assert inbox.done[-1] == Done(id="first", problem="no")
    assert inbox.fresh([first]) == []
    assert [told.id for told in inbox.done].count("first") == 1
