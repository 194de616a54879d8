"""Rolls with a canary on three workers: withdrawn, promoted, rolled back, over a killed origin.

The bad revision loads as well as the good one and is asked the same golden questions, but two
halves of a tensor have changed places: only its answers tell.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from typing import Any

import pytest

from infra.child import Child
from infra.local_config import LOCAL_MODEL
from origin.publish import Published
from tests.fakes.canaries import (
    golden_answers,
    more_workers,
    new_key,
    publish_scrambled,
    refused,
    rolled,
    serving,
    stage,
    traffic,
)
from tests.fakes.fleet import Fleet, eventually
from tests.fakes.headwater import headwater
from tests.fakes.waiting import until, until_async
from wire.channel import Canary

"""How soon after a failed golden probe nobody is to try the revision any more."""


@pytest.fixture(scope="module")
def good(_running: Fleet) -> Published:
    """The second revision, published on a channel of its own."""
    return _running.publish_demo("edge-small-r2", "next")


@pytest.fixture(scope="module")
def bad(_running: Fleet, tmp_path_factory: pytest.TempPathFactory) -> Published:
    """The first one, scrambled."""
    return publish_scrambled(_running, tmp_path_factory.mktemp("bad"), golden_answers())


@pytest.fixture(scope="module")
def _more_workers(_running: Fleet) -> Iterator[list[Child]]:
    """Two workers beside the fleet's own, for all tests of this file."""
    with more_workers(_running, "second", "third") as made:
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


def command(fleet: Fleet, *arguments: str) -> tuple[int, Any]:
    code, document, notes = headwater(*arguments, state_dir=fleet.state.root)
    assert document is not None, notes
    return code, document


async def test_a_scrambled_revision_is_withdrawn_and_no_caller_ever_sees_it(
    three: Fleet, bad: Published
) -> None:
    first = three.revision()
    async with traffic(three) as callers:
        roll = ("roll", LOCAL_MODEL, "--to", bad.revision, "--canary", "10%", "--watch")
        watching = asyncio.create_task(asyncio.to_thread(command, three, *roll))
        await until_async(lambda: asyncio.to_thread(refused, three, bad.revision), deadline_s=60)
        await asyncio.to_thread(eventually, lambda: stage(three) == "aborted", 30)
        code, found = await watching
    assert (code, found["stage"], found["revision"]) == (1, "aborted", bad.revision)
    assert "refused it: probe_failed" in found["reason"]
    assert callers.digests == {first}
    assert callers.whole
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
    assert callers.whole
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
    await asyncio.to_thread(eventually, lambda: rolled(three).get("id") == begun["rollout"])
    async with traffic(three) as callers:
        await asyncio.to_thread(eventually, lambda: stage(three) == "done", 60)
    assert callers.whole
    assert serving(three) == {good.revision: 3}
