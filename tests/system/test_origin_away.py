"""The origin is away: what was verified goes on serving, also after everything else restarted."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from infra.local_config import LOCAL_MODEL
from tests.fakes.fleet import Fleet, eventually
from wire.errors import SourceUnavailableError

ASK = [{"role": "user", "content": "What is the capital of France?"}]


@pytest.fixture
def away(fleet: Fleet) -> Iterator[Fleet]:
    """The fleet with its origin stopped; the origin is back afterwards, where it was."""
    origin = fleet.child("origin")
    fleet.call(origin.stop())
    yield fleet
    fleet.call(origin.start())
    fleet.call(origin.ready())
    fleet.settle()


async def assert_answers(fleet: Fleet) -> None:
    """The worker streams a whole answer through the edge."""
    async with fleet.asker() as asker:
        answer = await asker.ask(ASK, model=LOCAL_MODEL, temperature=0.0, max_tokens=32)
    assert answer.whole
    assert answer.target == "worker"
    assert "Paris" in answer.text


def knows_worker(fleet: Fleet) -> bool:
    """Whether the edge has heard of a worker that is ready."""
    try:
        workers = fleet.status("edge")["workers"]
    except SourceUnavailableError:
        return False  # it is just starting
    return [worker["state"] for worker in workers] == ["ready"]


async def test_everything_but_publishing_works_without_an_origin(
    away: Fleet, tmp_path: Path
) -> None:
    revision = away.status("worker")["report"]["revision"]
    with pytest.raises(SourceUnavailableError):
        away.status("origin")
    await assert_answers(away)

    # A machine that never had the model gets it whole from the edge.
    pulled = away.pull(LOCAL_MODEL, tmp_path).as_dict()
    assert pulled["revision"] == revision
    assert pulled["from_network"] == pulled["size"]

    # A worker that is killed comes back from its own disk.
    worker = away.kill("worker")
    eventually(lambda: away.is_back("worker", worker), 30)
    eventually(lambda: knows_worker(away), 30)
    boot = away.status("worker")["waterfalls"][0]
    assert boot["revision"] == revision
    assert boot["from_disk"] == boot["size"]
    assert boot["from_network"] == 0
    await assert_answers(away)

    # So does an edge, from what it had verified before.
    edge = away.kill("edge")
    eventually(lambda: away.is_back("edge", edge), 30)
    eventually(lambda: knows_worker(away), 30)
    await assert_answers(away)
    pulled = away.pull(LOCAL_MODEL, tmp_path / "another").as_dict()
    assert pulled["revision"] == revision


def test_worker_and_edge_start_together_without_an_origin(away: Fleet) -> None:
    """A power cut of a region: both come back at once, the worker perhaps before its edge."""
    revision = away.status("worker")["report"]["revision"]
    edge, worker = away.kill("edge"), away.kill("worker")
    eventually(lambda: away.is_back("edge", edge), 30)
    eventually(lambda: away.is_back("worker", worker), 30)
    eventually(lambda: knows_worker(away), 30)
    assert away.status("worker")["report"]["revision"] == revision
    assert away.status("edge")["models"][LOCAL_MODEL] == revision
