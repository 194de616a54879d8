"""The fleet from one place: who is missing, what survives a restart, and commands to nodes."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from typing import Any

import msgspec
import pytest

from infra.child import Child
from infra.edge_admin import TierAdmin
from infra.fleet_admin import FleetAdmin
from infra.local_config import LOCAL_MODEL
from origin.fleet_keeper import Snapshot
from tests.fakes.fleet import Fleet, eventually
from tests.fakes.headwater import headwater
from tests.fakes.processes import engine_of
from wire.errors import HeadwaterError

ASK: list[Any] = [{"role": "user", "content": "Count from one to ten."}]
REQUESTS = "headwater_worker_requests_total"


@pytest.fixture
def second_worker(fleet: Fleet) -> Iterator[Child]:
    """Another worker of the same edge."""
    folder = fleet.state.tier("second-worker")
    settings = {
        "models_dir": folder / "models",
        "trust_dir": folder / "trust",
        "heartbeat_ttl_s": 2.5,
    }
    with fleet.extra("worker", "second-worker", **settings) as worker:
        eventually(lambda: fleet.is_ready(worker), 60)
        yield worker
        fleet.settle()


@contextmanager
def second_edge(fleet: Fleet, **settings: Any) -> Iterator[Child]:
    folder = fleet.state.tier("second-edge")
    given = {
        "trust_dir": folder / "trust",
        "cache__folder": folder / "cache",
        "gateway__keys_file": folder / "keys.json",
        "gateway__pepper_file": folder / "pepper",
        "gateway__identity__audit__file": folder / "audit.jsonl",
        **settings,
    }
    with fleet.extra("edge", "second-edge", **given) as edge:
        yield edge


def view(fleet: Fleet) -> dict[str, Any]:
    """``/admin/fleet``; empty while the origin is away."""
    try:
        with FleetAdmin(fleet.urls.origin, fleet.local.admin_token) as admin:
            return admin.fleet()
    except HeadwaterError:
        return {}


def states(fleet: Fleet) -> dict[str, str]:
    """Node → state, as the origin says; nodes of other tests, which have left, are passed over."""
    found = view(fleet)
    nodes = [*found.get("edges", ()), *found.get("workers", ())]
    return {node["name"]: node["state"] for node in nodes if node["state"] != "left"}


def seen_in_the_store(fleet: Fleet) -> set[str]:
    """The workers that some edge saw when the origin kept its view last."""
    kept = (fleet.state.origin_store / "fleet" / "origin").read_bytes()
    workers = msgspec.json.decode(kept, type=Snapshot).view.workers
    return {worker.report.worker for worker in workers if worker.edges}


def known(fleet: Fleet) -> set[str]:
    """The workers that the edge knows as ready."""
    workers = fleet.status("edge")["workers"]
    return {worker["worker"] for worker in workers if worker["state"] == "ready"}


def worker_of(fleet: Fleet, name: str) -> dict[str, Any]:
    """A worker as its edge knows it."""
    return next(dict(w) for w in fleet.status("edge")["workers"] if w["worker"] == name)


@contextmanager
def stopped(pid: int | None) -> Iterator[None]:
    """A process that stands still."""
    assert pid is not None
    os.kill(pid, signal.SIGSTOP)
    try:
        yield
    finally:
        os.kill(pid, signal.SIGCONT)


async def answered(fleet: Fleet, count: int = 3) -> None:
    """So many requests, each answered whole by a worker."""
    async with fleet.asker() as asker:
        for _ in range(count):
            answer = await asker.ask(ASK, model=LOCAL_MODEL, max_tokens=4)
            assert answer.whole, answer.error
            assert answer.target == "worker"


async def test_a_worker_that_stands_still_is_routed_around_and_comes_back_by_itself(
    fleet: Fleet, second_worker: Child
) -> None:
    both = {"worker", "second-worker"}
    eventually(lambda: known(fleet) == both)
    for pid, other in ((second_worker.pid, "worker"), (fleet.pid("worker"), "second-worker")):
        with stopped(pid):
            eventually(lambda other=other: known(fleet) == {other})  # type: ignore[misc]
            await answered(fleet)
            eventually(lambda: "missing" in states(fleet).values())
        eventually(lambda: known(fleet) == both)
        eventually(lambda: set(states(fleet).values()) == {"ready"})
    await answered(fleet)


def test_the_view_survives_a_kill_of_the_origin_and_forgets_nobody(
    fleet: Fleet, second_worker: Child
) -> None:
    everybody = {"edge", "second-edge", "worker", "second-worker", "third-worker"}
    with ExitStack() as stack:
        edge = stack.enter_context(second_edge(fleet))
        third = stack.enter_context(third_worker(fleet, edge))
        eventually(lambda: fleet.is_ready(third), 60)
        eventually(lambda: states(fleet) == dict.fromkeys(everybody, "ready"), 30)
        with stopped(third.pid):
            gone = {**dict.fromkeys(everybody, "ready"), "third-worker": "missing"}
            eventually(lambda: states(fleet) == gone)
            eventually(lambda: "third-worker" not in seen_in_the_store(fleet))
            killed = fleet.kill("origin")
            eventually(lambda: fleet.is_back("origin", killed), 30)
            assert states(fleet).keys() == everybody
            eventually(lambda: states(fleet) == gone)
        eventually(lambda: states(fleet) == dict.fromkeys(everybody, "ready"))


@contextmanager
def third_worker(fleet: Fleet, edge: Child) -> Iterator[Child]:
    """A worker that only the second edge sees."""
    folder = fleet.state.tier("third-worker")
    settings = {
        "models_dir": folder / "models",
        "trust_dir": folder / "trust",
        "heartbeat_to": [edge.url],
        "heartbeat_ttl_s": 2.5,
    }
    with fleet.extra("worker", "third-worker", **settings) as worker:
        yield worker


def test_an_edge_is_drained_and_resumed_from_the_command_line(fleet: Fleet) -> None:
    folder = fleet.state.root
    eventually(lambda: set(states(fleet)) >= {"edge", "worker"})
    with TierAdmin(fleet.urls.edge) as edge:
        status, order, _ = headwater("fleet", "drain", "edge", "--wait", state_dir=folder)
        assert (status, order["state"]) == (0, "done")
        assert "drained by an operator" in edge.why_not_ready()
        eventually(lambda: states(fleet)["edge"] == "draining")
        status, order, _ = headwater("fleet", "resume", "edge", "--wait", state_dir=folder)
        assert (status, order["state"]) == (0, "done")
        assert edge.why_not_ready() == ""
    eventually(lambda: states(fleet)["edge"] == "ready")


async def test_a_worker_is_drained_restarted_and_made_to_pull_again_from_there(
    fleet: Fleet, second_worker: Child
) -> None:
    folder = fleet.state.root

    def told(action: str) -> None:
        status, order, note = headwater(
            "fleet", action, "second-worker", "--wait", state_dir=folder
        )
        assert (status, order["state"]) == (0, "done"), note

    eventually(lambda: states(fleet).get("second-worker") == "ready")
    told("drain")
    assert worker_of(fleet, "second-worker")["draining"]
    eventually(lambda: states(fleet)["second-worker"] == "draining")
    others = fleet.metric("worker", REQUESTS)
    await answered(fleet, 4)
    assert fleet.metric("worker", REQUESTS) == others + 4
    told("resume")
    eventually(lambda: states(fleet)["second-worker"] == "ready")

    assert second_worker.pid is not None
    engine = engine_of(second_worker.pid)
    told("restart")
    eventually(lambda: states(fleet)["second-worker"] == "ready", 30)
    assert engine_of(second_worker.pid) != engine

    sent = fleet.metric("edge", "headwater_edge_served_bytes_total")
    told("repull")
    eventually(lambda: states(fleet)["second-worker"] == "ready", 30)
    size = sum(ref.size for ref in fleet.manifest(fleet.revision()).chunk_refs().values())
    assert fleet.metric("edge", "headwater_edge_served_bytes_total") - sent >= size
    await answered(fleet)


def test_the_fleet_and_its_consistency_are_shown_by_the_command(fleet: Fleet) -> None:
    eventually(lambda: bool(view(fleet)) and view(fleet)["healthy"])
    folder, revision = fleet.state.root, fleet.revision()
    status, found, _ = headwater("fleet", state_dir=folder)
    assert status == 0
    worker = next(w for w in found["workers"] if w["name"] == "worker")
    assert (worker["revision"], worker["wanted"], worker["apart"]) == (revision, revision, "")
    status, found, _ = headwater("fleet", "consistency", LOCAL_MODEL, state_dir=folder)
    assert (status, found["consistent"], found["revision"]) == (0, True, revision)
    status, found, _ = headwater("fleet", "restart", "nobody", state_dir=folder)
    assert status == 1
    assert "no node 'nobody'" in found["error"]["message"]
