"""edge_tier.fleet_report: real edges, reporting to a real origin."""

from __future__ import annotations

import asyncio
import os
import socket
from pathlib import Path
from typing import Any

import msgspec
import pytest

from edge_tier.app import REPORTER
from edge_tier.fleet_report import FleetReportConfig, edge_name
from origin.app import BOOTS, FLEET, ORDERS
from origin.fleet import FleetView
from origin.fleet_nodes import EdgeNode, WorkerNode
from origin.orders import CommandRequest, Orders
from tests.fakes.edges import Origin, StartEdge
from tests.fakes.gateway import MODEL
from tests.fakes.reports import edge_report, worker_report
from tests.fakes.waiting import until, until_async
from wire.errors import ConfigError
from wire.files import write_atomically
from wire.http_server import LIFE
from wire.paths import EDGE_REPORT, HEARTBEAT
from wire.workers import BootSpan, Done, WorkerRoll

WORKER = {"Authorization": "Bearer worker"}


@pytest.fixture
def view(origin: Origin) -> FleetView:
    return origin.server.app[FLEET]


@pytest.fixture
def orders(origin: Origin) -> Orders:
    return origin.server.app[ORDERS]


@pytest.fixture
def start(start_edge: StartEdge, origin: Origin) -> StartEdge:
    """Start an edge that reports, as its process does once the socket listens."""

    async def start(
        name: str = "e1", settings: dict[str, Any] | None = None, **changes: Any
    ) -> Any:
        token_file = origin.folder / "edge-token"
        given: dict[str, Any] = {
            "name": name,
            "token_file": token_file,
            "report_s": 0.02,
            "ttl_s": 60.0,
        }
        given |= settings or {}
        edge = await start_edge(name, fleet=FleetReportConfig(**given), **changes)
        await edge.app[REPORTER].bound(str(edge.make_url("")).rstrip("/"))
        return edge

    return start


def the_edge(view: FleetView, name: str = "e1") -> EdgeNode | None:
    return next((edge for edge in view.edges() if edge.name == name), None)


def the_worker(view: FleetView, name: str = "w1") -> WorkerNode | None:
    return next((worker for worker in view.workers() if worker.name == name), None)


async def beat(edge: Any, **fields: Any) -> list[dict[str, Any]]:
    """A heartbeat of ``w1``; the commands in the answer."""
    body = msgspec.json.encode(worker_report("w1", **{"model": MODEL, "ttl_s": 60.0, **fields}))
    answer = await edge.post(HEARTBEAT, data=body, headers=WORKER)
    assert answer.status == 200
    return list((await answer.json())["commands"])


async def ended(orders: Orders, command: str) -> None:
    await until(lambda: orders.order(command).state == "done")


async def ready(edge: Any) -> bool:
    return bool((await edge.get("/readyz")).status == 200)


async def test_an_edge_is_known_at_the_origin_with_all_that_it_knows(
    start: StartEdge, view: FleetView, origin: Origin
) -> None:
    edge = await start(settings={"region": "eu"})
    await until_async(lambda: ready(edge))
    manifest = f"/artifacts/manifests/{origin.revisions[0]}"
    assert (await edge.get(manifest, headers=WORKER)).status == 200
    await until(lambda: (e := the_edge(view)) is not None and e.report.ready)
    node = the_edge(view)
    assert node is not None
    report = node.report
    assert (report.region, report.trust, report.reason) == ("eu", "fresh", "")
    assert report.url == str(edge.make_url("")).rstrip("/")
    assert report.channels == {f"{MODEL}@stable": 1}
    assert report.cache.capacity_bytes > 0


async def test_a_roll_is_seen_as_skew_until_the_edge_knows_it(
    start: StartEdge, view: FleetView, origin: Origin
) -> None:
    await start()
    await origin.publish(seed=1)
    await until(
        lambda: (e := the_edge(view)) is not None and e.report.channels == {f"{MODEL}@stable": 2}
    )


async def test_workers_are_told_with_the_age_of_their_last_heartbeat(
    start: StartEdge, view: FleetView
) -> None:
    edge = await start()
    await beat(edge, boot={"load": 9.0}, busy=3)
    await until(lambda: the_worker(view) is not None)
    node = the_worker(view)
    assert node is not None
    assert (node.presence, node.report.busy, node.report.boot) == ("here", 3, {})
    await until(lambda: (w := the_worker(view)) is not None and w.age_s > 0.05)
    await beat(edge, ttl_s=0.0)
    await until(lambda: (w := the_worker(view)) is not None and w.presence == "missing")


async def test_a_boot_is_told_while_somebody_looks_at_it(
    start: StartEdge, view: FleetView, origin: Origin
) -> None:
    edge, boots = await start(), origin.server.app[BOOTS]
    roll = WorkerRoll(revision="b", began=5.0, outcome="serves", spans=(BootSpan("load", 1, 2),))
    await beat(edge, boot_spans=[["pull", 0.0, 7.5]], roll=msgspec.to_builtins(roll))
    await until(lambda: the_worker(view) is not None)
    node = the_worker(view)
    assert node is not None
    assert (node.report.boot_spans, node.report.roll) == ((), None)
    (boot,) = await boots.of("w1")
    assert (boot.model, boot.spans) == (MODEL, (BootSpan("pull", 0.0, 7.5),))
    assert boot.roll == roll
    assert [told.worker for told in edge.app[REPORTER].report().boots] == ["w1"]


async def test_an_edge_tells_what_its_gateway_did(start: StartEdge, view: FleetView) -> None:
    edge = await start()
    assert (await edge.post("/v1/chat/completions", data=b"{}")).status == 401
    await until(lambda: (e := the_edge(view)) is not None and e.report.prompts.refused == 1)


async def test_news_do_not_wait_for_the_next_report(start: StartEdge, view: FleetView) -> None:
    edge = await start(settings={"report_s": 1_000.0})
    await until(lambda: the_edge(view) is not None)
    await beat(edge)
    await until(lambda: the_worker(view) is not None)


async def test_an_edge_without_prompts_reports_too(start: StartEdge, view: FleetView) -> None:
    await start(plane="artifacts")
    await until(lambda: the_edge(view) is not None)
    assert view.workers() == ()


async def test_an_edge_that_stops_has_left(start: StartEdge, view: FleetView) -> None:
    edge = await start()
    await until(lambda: the_edge(view) is not None)
    await edge.close()
    node = the_edge(view)
    assert node is not None
    assert (node.presence, node.report.reason) == ("left", "stopping")


# Commands


async def test_a_drained_edge_is_not_ready_until_it_is_resumed(
    start: StartEdge, view: FleetView, orders: Orders
) -> None:
    edge = await start()
    await until_async(lambda: ready(edge))
    await until(lambda: the_edge(view) is not None)
    for action, status in (("drain", 503), ("resume", 200)):
        order = orders.give(CommandRequest(node="e1", action=action))  # type: ignore[arg-type]
        await ended(orders, order.command.id)
        answer = await edge.get("/readyz")
        assert answer.status == status
        if action == "drain":
            assert "drained by an operator" in await answer.text()
            await until(lambda: (e := the_edge(view)) is not None and e.report.draining)
            assert (await edge.get(f"/artifacts/channels/{MODEL}/stable")).status == 200


async def test_a_command_reaches_its_worker_and_the_result_comes_back(
    start: StartEdge, view: FleetView, orders: Orders
) -> None:
    edge = await start()
    await beat(edge)
    await until(lambda: the_worker(view) is not None)
    order = orders.give(CommandRequest(node="w1", action="restart"))
    await until(lambda: orders.order(order.command.id).state == "given")

    async def commanded() -> bool:
        return [c["id"] for c in await beat(edge)] == [order.command.id]

    await until_async(commanded)
    await beat(edge, done=(Done(id=order.command.id, problem="no engine"),))
    await until(lambda: orders.order(order.command.id).state == "failed")
    assert orders.order(order.command.id).problem == "no engine"

    async def at_rest() -> bool:
        return not await beat(edge)

    await until_async(at_rest)


def _brought(view: FleetView, revision: str) -> str:
    """How far ``e1`` is with a revision that is wanted; the origin itself has no use for it, and
    takes the wish back at its next look."""
    if all(asked.revision != revision for asked in view.to_preheat()):
        view.preheat(MODEL, revision)
    told = view.preheated(revision).get("e1")
    return told.state if told is not None else ""


async def test_an_edge_brings_what_the_origin_wants_in_its_cache(
    start: StartEdge, view: FleetView, origin: Origin
) -> None:
    edge = await start()
    await until_async(lambda: ready(edge))
    await until(lambda: _brought(view, origin.revisions[0]) == "done")
    await until(lambda: _brought(view, "f" * 64) == "failed")
    assert "not signed" in view.preheated("f" * 64)["e1"].reason
    for revision in (origin.revisions[0], "f" * 64):
        view.stop_preheat(MODEL, revision)
    # How it went then is no answer to who asks again.
    await until(lambda: not view.preheated(origin.revisions[0]) and not view.preheated("f" * 64))


async def test_how_a_preheat_ended_is_told_at_once(
    start: StartEdge, view: FleetView, origin: Origin
) -> None:
    edge = await start(settings={"report_s": 60.0, "ttl_s": 60.0})
    await until_async(lambda: ready(edge))

    async def comes_to(revision: str, state: str) -> None:
        await asyncio.sleep(0.25)  # what comes right after other news waits
        _brought(view, revision)
        edge.app[REPORTER].news()
        await until(lambda: _brought(view, revision) == state)

    await comes_to(origin.revisions[0], "done")
    await comes_to("f" * 64, "failed")


# Who reports to whom


async def test_an_edge_without_the_token_tells_nobody(
    start: StartEdge, view: FleetView, origin: Origin
) -> None:
    quiet = await start("quiet", settings={"token_file": None})
    await start("e1")
    await until(lambda: the_edge(view) is not None)
    await until_async(lambda: ready(quiet))
    assert the_edge(view, "quiet") is None


async def test_a_token_that_does_not_fit_is_said_once(
    start: StartEdge, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    write_atomically(tmp_path / "wrong", b"x")
    edge = await start(settings={"token_file": tmp_path / "wrong"})
    said: list[str] = []

    def refused() -> bool:
        said.append(capsys.readouterr().out)
        return "refused (401)" in "".join(said)

    await until(refused)
    await until_async(lambda: ready(edge))


async def test_an_edge_takes_no_reports_and_says_where_they_belong(start: StartEdge) -> None:
    edge = await start()
    body = msgspec.json.encode(edge_report("child"))
    answer = await edge.post(EDGE_REPORT, data=body, headers={"Authorization": "Bearer edges"})
    assert answer.status == 403
    assert "edge.fleet.report_to" in (await answer.json(content_type=None))["detail"]


async def test_an_edge_behind_an_edge_reports_to_the_origin_that_it_is_told(
    start: StartEdge, view: FleetView, origin: Origin
) -> None:
    parent = await start("parent")
    url = str(parent.make_url("")).rstrip("/")
    await start("child", settings={"report_to": (origin.url,)}, origins=(url,))
    await until(
        lambda: the_edge(view, "child") is not None and the_edge(view, "parent") is not None
    )


# Names


def test_the_name_of_an_edge_lasts_and_tells_processes_apart() -> None:
    assert edge_name("e1", 7401, shares_port=False) == "e1"
    assert edge_name("", 7401, shares_port=False) == f"{socket.gethostname()}-7401"
    assert edge_name("", 0, shares_port=False) == f"{socket.gethostname()}-{os.getpid()}"
    assert edge_name("e1", 7401, shares_port=True) == f"e1-{os.getpid()}"


async def test_a_name_that_cannot_be_one_is_refused(start: StartEdge) -> None:
    with pytest.raises(ConfigError, match=r"edge\.fleet\.name"):
        await start("x", settings={"name": "two words"})


async def test_an_edge_that_is_told_to_stop_says_so_while_it_still_serves(
    start: StartEdge, view: FleetView
) -> None:
    edge = await start()
    await until(lambda: the_edge(view) is not None)
    edge.app[LIFE].stop()
    await until(lambda: (seen := the_edge(view)) is not None and seen.report.leaving)
    seen = the_edge(view)
    assert seen is not None
    assert seen.report.reason == "stopping"
    assert (await edge.get("/readyz")).status == 503
    assert (await edge.get("/healthz")).status == 200
