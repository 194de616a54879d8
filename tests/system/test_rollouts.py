"""Rolls with a canary on three workers: withdrawn, promoted, rolled back, over a killed origin.

The bad revision loads as well as the good one and is asked the same golden questions, but two
halves of a tensor have changed places: only its answers tell.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import ExitStack, asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

import pytest

from infra import demo_models
from infra.ask import Answer, Asker
from infra.child import Child
from infra.golden import GoldenMaker
from infra.local_config import LOCAL_MODEL
from infra.publishing import open_publisher
from origin.offer import from_disk
from origin.publish import Published, publish
from tests.fakes.fleet import Fleet, eventually
from tests.fakes.headwater import headwater
from tests.fakes.spoilt_gguf import spoil
from tests.fakes.waiting import until, until_async
from wire.channel import Canary
from wire.errors import HeadwaterError

ASK = [{"role": "user", "content": "What is the capital of France?"}]
ABORT_S = 5.0
"""How soon after a failed golden probe nobody is to try the revision any more."""
_ASKING = 4


@pytest.fixture(scope="module")
def good(_running: Fleet) -> Published:
    """The second revision, published on a channel of its own."""
    return _running.publish_demo("edge-small-r2", "next")


@pytest.fixture(scope="module")
def bad(_running: Fleet, tmp_path_factory: pytest.TempPathFactory) -> Published:
    """The first one, scrambled, with the golden answers of the one that is not."""
    first = demo_models.path("edge-small-r1")
    golden = GoldenMaker(required=True)({"": [first]})
    spoilt = spoil(first, tmp_path_factory.mktemp("bad") / "spoilt.gguf")
    local = _running.local
    with open_publisher(local.urls.origin, local.admin_token, local.state.publisher_key) as desk:
        return publish(
            from_disk(spoilt),
            LOCAL_MODEL,
            "bad",
            desk.origin,
            desk.key,
            golden=lambda _models: golden,
        )


@pytest.fixture(scope="module")
def _more_workers(_running: Fleet) -> Iterator[list[Child]]:
    """Two workers beside the fleet's own, for all tests of this file."""
    with ExitStack() as stack:
        made = []
        for name in ("second", "third"):
            folder = _running.state.tier(name)
            settings = {"models_dir": folder / "models", "trust_dir": folder / "trust"}
            made.append(stack.enter_context(_running.extra("worker", name, **settings)))
        eventually(lambda: all(_running.is_ready(worker) for worker in made), 60)
        yield made


@pytest.fixture
def three(fleet: Fleet, _more_workers: list[Child]) -> Iterator[Fleet]:
    """The fleet with three workers, all at the first revision, before and after."""
    first = fleet.revision()
    eventually(lambda: serving(fleet) == {first: 3}, 60)
    yield fleet
    fleet.roll(first)
    eventually(lambda: serving(fleet) == {first: 3}, 60)
    fleet.settle()


def serving(fleet: Fleet) -> dict[str, int]:
    """Revision → workers that the edge knows as ready with it."""
    counts: dict[str, int] = {}
    try:
        workers = fleet.status("edge")["workers"]
    except HeadwaterError:
        return counts
    for worker in workers:
        if worker["model"] == LOCAL_MODEL and worker["state"] == "ready":
            counts[worker["revision"]] = counts.get(worker["revision"], 0) + 1
    return counts


def rolled(fleet: Fleet) -> dict[str, Any]:
    """The newest rollout of the stable channel; empty while the origin is away."""
    try:
        with fleet.origin_admin() as admin:
            record = admin.rollout(LOCAL_MODEL, "stable")["record"]
    except HeadwaterError:
        return {}
    found: dict[str, Any] = record.get("current") or record["past"][0]
    return found


def stage(fleet: Fleet) -> str:
    return str(rolled(fleet).get("stage", ""))


def command(fleet: Fleet, *arguments: str) -> tuple[int, Any]:
    code, document, notes = headwater(*arguments, state_dir=fleet.state.root)
    assert document is not None, notes
    return code, document


def new_key(fleet: Fleet) -> dict[str, str]:
    """A key that may ask as often as it likes."""
    return fleet.create_key(limits={"requests_per_minute": 0, "tokens_per_minute": 0})


@dataclass
class Traffic:
    """What callers got while it ran."""

    answers: list[Answer] = field(default_factory=list)
    over: bool = False

    async def ask(self, asker: Asker) -> None:
        while not self.over:
            self.answers.append(
                await asker.ask(ASK, model=LOCAL_MODEL, max_tokens=8, temperature=0.0)
            )

    @property
    def digests(self) -> set[str]:
        return {answer.digest for answer in self.answers}


@asynccontextmanager
async def traffic(fleet: Fleet, key: str = "") -> AsyncIterator[Traffic]:
    """Some callers who ask all the time, all of whose answers are whole."""
    made = Traffic()
    key = key or (await asyncio.to_thread(new_key, fleet))["key"]
    async with Asker(fleet.urls.edge, key) as asker, asyncio.TaskGroup() as group:
        for _ in range(_ASKING):
            group.create_task(made.ask(asker))
        try:
            await until(lambda: bool(made.answers), deadline_s=30)
            yield made
        finally:
            made.over = True
    assert all(answer.whole for answer in made.answers)


async def test_a_scrambled_revision_is_withdrawn_and_no_caller_ever_sees_it(
    three: Fleet, bad: Published
) -> None:
    first = three.revision()
    refused_at: list[float] = []

    def refused() -> bool:
        return any(w["refused"] == bad.revision for w in three.status("edge")["workers"])

    async with traffic(three) as callers:
        roll = ("roll", LOCAL_MODEL, "--to", bad.revision, "--canary", "10%", "--watch")
        watching = asyncio.create_task(asyncio.to_thread(command, three, *roll))
        await until_async(lambda: asyncio.to_thread(refused), deadline_s=60)
        refused_at.append(time.monotonic())
        await until_async(
            lambda: asyncio.to_thread(lambda: stage(three) == "aborted"), deadline_s=30
        )
        took_s = time.monotonic() - refused_at[0]
        code, found = await watching
    assert took_s <= ABORT_S
    assert (code, found["stage"], found["revision"]) == (1, "aborted", bad.revision)
    assert "refused it: probe_failed" in found["reason"]
    assert callers.digests == {first}
    assert (three.revision(), serving(three)) == (first, {first: 3})
    record = rolled(three)
    assert record["reason"] == found["reason"]
    assert record["ended"] > record["started"]


async def test_a_good_canary_is_promoted_and_rolled_back(three: Fleet, good: Published) -> None:
    first = three.revision()
    async with traffic(three) as callers:
        code, found = await asyncio.to_thread(
            command, three, "roll", LOCAL_MODEL, "--to", good.revision, "--canary=10%", "--watch"
        )
    assert (code, found["stage"], found["notes"]) == (0, "done", [])
    assert serving(three) == {good.revision: 3}
    assert callers.digests == {first, good.revision}
    record = rolled(three)
    assert record["trial"]["answered"] >= 20
    assert record["trial"].get("failed", 0) == record["stable"].get("failed", 0) == 0
    code, back = await asyncio.to_thread(command, three, "rollback", LOCAL_MODEL, "--watch")
    assert (code, back["stage"], back["revision"]) == (0, "done", first)
    assert serving(three) == {first: 3}


async def test_callers_of_a_canary_meet_it_and_the_others_do_not(
    three: Fleet, good: Published
) -> None:
    first = three.revision()
    begun = await asyncio.to_thread(
        command, three, "roll", LOCAL_MODEL, f"--to={good.revision}", "--canary=50%", "--by=callers"
    )
    assert begun[0] == 0
    await asyncio.to_thread(eventually, lambda: stage(three) == "observing", 60)
    one = rolled(three)
    canary = Canary(revision=good.revision, percent=50, by="callers", seed=one["seed"])
    keys: dict[bool, str] = {}
    while len(keys) < 2:
        made = new_key(three)
        keys[canary.takes(made["key_id"])] = made["key"]
    await asyncio.to_thread(eventually, lambda: serving(three).get(good.revision, 0) > 0)
    async with traffic(three, keys[False]) as outside:
        await until(lambda: len(outside.answers) >= 40, deadline_s=30)
        held = await asyncio.to_thread(stage, three)
    assert held == "observing"
    assert outside.digests == {first}
    async with traffic(three, keys[True]) as inside:
        await until(lambda: len(inside.answers) >= 10, deadline_s=30)
    assert inside.digests == {good.revision}
    await asyncio.to_thread(command, three, "rollback", LOCAL_MODEL, "--watch")


async def test_an_origin_that_is_killed_in_the_middle_of_a_canary_ends_it_when_it_is_back(
    three: Fleet, good: Published
) -> None:
    code, begun = await asyncio.to_thread(
        command, three, "roll", LOCAL_MODEL, "--to", good.revision, "--canary", "10%"
    )
    assert (code, begun["revision"]) == (0, good.revision)
    await asyncio.to_thread(eventually, lambda: stage(three) in {"canary", "observing"}, 60)
    killed = await asyncio.to_thread(three.kill, "origin")
    await asyncio.to_thread(eventually, lambda: three.is_back("origin", killed), 60)
    assert (await asyncio.to_thread(rolled, three))["id"] == begun["rollout"]
    async with traffic(three):
        await asyncio.to_thread(eventually, lambda: stage(three) == "done", 60)
    assert serving(three) == {good.revision: 3}
