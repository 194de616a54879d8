from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import replace
from io import BytesIO
from pathlib import Path
from typing import Any

import msgspec
import pytest
from aiohttp import web
from aiohttp.test_utils import TestClient, TestServer

from origin.app import FLEET, PUBLISHER
from origin.config import OriginConfig
from origin.fleet import FleetConfig
from tests.fakes.origin_home import Home, StartOrigin
from tests.fakes.reports import edge_report, worker_report
from tests.fakes.revisions import chunk_of, make_revision
from wire.fleet import EdgeAnswer, EdgeReport
from wire.paths import EDGE_REPORT
from wire.workers import Command, Done

REVISION = make_revision({"m.gguf": [chunk_of(1)]})
EDGE = {"Authorization": "Bearer edges"}
Client = TestClient[web.Request, web.Application]


@pytest.fixture
def config(home: Home) -> OriginConfig:
    token: Path = home.folder / "edge-token"
    token.write_text("edges\n")
    token.chmod(0o600)
    return replace(home.config, edge_token_file=token, fleet=FleetConfig(max_edges=3))


@pytest.fixture
def admin(home: Home) -> dict[str, str]:
    return {"Authorization": f"Bearer {home.token}"}


@pytest.fixture
async def server(home: Home, config: OriginConfig, start_origin: StartOrigin) -> TestServer:
    """An origin with ``chat@stable`` on a revision."""
    made = await start_origin(config)
    publisher = made.app[PUBLISHER]
    await home.fill(publisher.store, REVISION)
    await publisher.publish(home.sign(publisher.repository, REVISION))
    await publisher.roll("chat", "stable", REVISION.id)
    return made


@pytest.fixture
async def client(server: TestServer) -> AsyncIterator[Client]:
    async with TestClient(server) as made:
        yield made


def serving(name: str = "w1", **fields: Any) -> Any:
    return worker_report(name, **{"revision": REVISION.id, **fields})


async def report(client: Client, told: EdgeReport) -> EdgeAnswer:
    """It holds for longer than a busy machine stands still."""
    told = msgspec.structs.replace(told, ttl_s=60.0)
    answer = await client.post(EDGE_REPORT, data=msgspec.json.encode(told), headers=EDGE)
    assert answer.status == 200, await answer.text()
    return msgspec.json.decode(await answer.read(), type=EdgeAnswer)


async def get(client: Client, path: str, headers: dict[str, str]) -> dict[str, Any]:
    answer = await client.get(path, headers=headers)
    assert answer.status == 200, await answer.text()
    return dict(await answer.json())


async def test_a_report_is_in_the_overview(client: Client, admin: dict[str, str]) -> None:
    told = edge_report("e1", serving(boot={"load": 1.0}), region="eu", channels={"chat@stable": 1})
    assert await report(client, told) == EdgeAnswer()
    shown = await get(client, "/admin/fleet", admin)
    (edge,), (worker,), (channel,) = shown["edges"], shown["workers"], shown["channels"]
    assert (edge["name"], edge["state"], edge["region"], edge["workers"]) == (
        "e1",
        "ready",
        "eu",
        1,
    )
    assert (edge["behind"], shown["healthy"], shown["takes_reports"]) == ({}, True, True)
    assert (worker["name"], worker["state"], worker["edges"]) == ("w1", "ready", ["e1"])
    assert (worker["wanted"], worker["apart"]) == (REVISION.id, "")
    assert "boot" not in worker
    assert (channel["serving"], channel["consistent"]) == (1, True)


async def test_what_is_behind_or_apart_or_missing_is_not_healthy(
    client: Client, admin: dict[str, str]
) -> None:
    await report(client, edge_report("e1", serving(revision="f" * 64), channels={}))
    shown = await get(client, "/admin/fleet", admin)
    assert shown["edges"][0]["behind"] == {"chat@stable": 1}
    assert "still serves ffffffffffff" in shown["workers"][0]["apart"]
    assert not shown["healthy"]
    await report(client, edge_report("e1"))
    assert (await get(client, "/admin/fleet", admin))["workers"][0]["state"] == "missing"


async def test_consistency_is_a_question(client: Client, admin: dict[str, str]) -> None:
    await report(client, edge_report("e1", serving("w1"), serving("w2", revision="f" * 64)))
    found = await get(client, "/admin/fleet/consistency?model=chat&channel=stable", admin)
    assert (found["consistent"], found["workers"], found["serving"]) == (False, 2, 1)
    assert [a["node"] for a in found["apart"]] == ["w2"]
    assert await get(client, "/admin/fleet/consistency?model=chat", admin) == found
    for query, status in (("model=nobody", 404), ("", 400), ("model=../x", 400)):
        answer = await client.get(f"/admin/fleet/consistency?{query}", headers=admin)
        assert answer.status == status


async def test_a_command_goes_down_with_the_answer_and_its_result_comes_up(
    client: Client, admin: dict[str, str]
) -> None:
    await report(client, edge_report("e1", serving()))
    wanted = {"node": "w1", "action": "drain", "id": "command-1"}
    order = await (await client.post("/admin/fleet/commands", json=wanted, headers=admin)).json()
    assert (order["state"], order["kind"]) == ("waiting", "worker")
    answer = await report(client, edge_report("e1", serving()))
    assert answer.commands == (Command(id="command-1", node="w1", action="drain"),)
    done = serving(draining=True, done=(Done(id="command-1"),))
    assert (await report(client, edge_report("e1", done))).commands == ()
    order = await get(client, "/admin/fleet/commands/command-1", admin)
    assert order["state"] == "done"
    shown = await get(client, "/admin/fleet", admin)
    assert shown["workers"][0]["state"] == "draining"
    assert shown["commands"] == [order]


async def test_a_preheat_goes_down_with_the_answer(client: Client, server: TestServer) -> None:
    server.app[FLEET].preheat("chat", REVISION.id)
    answer = await report(client, edge_report("e1"))
    assert [(p.model, p.revision) for p in answer.preheat] == [("chat", REVISION.id)]


async def test_a_node_that_will_not_come_back_is_forgotten(
    client: Client, admin: dict[str, str]
) -> None:
    await report(client, edge_report("e1", serving()))
    path = "/admin/fleet/nodes/w1"
    assert (await client.delete(path, headers=admin)).status == 404
    await report(client, edge_report("e1"))
    assert (await client.delete(path, headers=admin)).status == 200
    assert (await get(client, "/admin/fleet", admin))["workers"] == []


async def test_the_view_is_back_after_a_restart(
    client: Client,
    server: TestServer,
    config: OriginConfig,
    start_origin: StartOrigin,
    admin: dict[str, str],
) -> None:
    await report(client, edge_report("e1", serving("w1"), serving("w2")))
    await report(client, edge_report("e1", serving("w1")))
    await server.close()
    async with TestClient(await start_origin(config)) as again:
        shown = await get(again, "/admin/fleet", admin)
        assert [edge["state"] for edge in shown["edges"]] == ["unheard"]
        states = {worker["name"]: worker["state"] for worker in shown["workers"]}
        assert states == {"w1": "unheard", "w2": "missing"}
        await report(again, edge_report("e1", serving("w1")))
        shown = await get(again, "/admin/fleet", admin)
        states = {worker["name"]: worker["state"] for worker in shown["workers"]}
        assert states == {"w1": "ready", "w2": "missing"}


# What must not pass


@pytest.mark.parametrize("path", ["/admin/fleet", "/admin/fleet/consistency?model=chat"])
async def test_the_edges_token_opens_reports_alone(client: Client, path: str) -> None:
    assert (await client.get(path, headers=EDGE)).status == 401
    assert (await client.post("/admin/fleet/commands", json={}, headers=EDGE)).status == 401
    assert (await client.delete("/admin/fleet/nodes/x", headers=EDGE)).status == 401
    assert (await client.get("/admin/status", headers=EDGE)).status == 401


async def test_a_report_needs_the_edges_token(client: Client, admin: dict[str, str]) -> None:
    for headers in ({}, admin, {"Authorization": "Bearer x"}):
        answer = await client.post(EDGE_REPORT, data=b"{}", headers=headers)
        assert answer.status == 401


async def test_an_origin_without_a_token_for_edges_says_so(
    home: Home, start_origin: StartOrigin, admin: dict[str, str]
) -> None:
    async with TestClient(await start_origin()) as client:
        answer = await client.post(EDGE_REPORT, data=b"{}", headers=EDGE)
        assert answer.status == 403
        assert "origin.edge_token_file" in (await answer.json(content_type=None))["detail"]
        assert not (await get(client, "/admin/fleet", admin))["takes_reports"]


HOSTILE: list[dict[str, Any]] = [
    {"edge": "../x"},
    {"edge": "e" * 200},
    {"edge": "e1\n"},
    {"reason": "x" * 501},
    {"ttl_s": 1e9},
    {"ttl_s": -1},
    {"channels": {"m" * 300: 1}},
    {"channels": {f"m{n}@s": 1 for n in range(1_025)}},
    {"cache": {"hits": -1}},
    {"figures": [{"model": "m", "revision": "r", "first_token": [1] * 17}]},
    {"figures": [{"model": "m", "revision": "r"}] * 129},
    {"preheated": [{"model": "m", "revision": "r", "state": "burning"}]},
    {"done": [{"id": "x" * 65}]},
    {"workers": [{"age_s": 1}]},
]


@pytest.mark.parametrize("spoiled", HOSTILE, ids=range(len(HOSTILE)))
async def test_a_report_out_of_bounds_is_refused_whole(
    client: Client, spoiled: dict[str, Any], admin: dict[str, str]
) -> None:
    told = {**msgspec.to_builtins(edge_report("e1")), **spoiled}
    answer = await client.post(EDGE_REPORT, json=told, headers=EDGE)
    assert answer.status == 400
    assert "report: " in (await answer.json(content_type=None))["detail"]
    assert (await get(client, "/admin/fleet", admin))["edges"] == []


@pytest.mark.parametrize("body", [b"", b"[" * 50_000, b"\xff", b'{"edge":"\xff"}', b"{}"])
async def test_a_report_that_is_none_is_refused(client: Client, body: bytes) -> None:
    assert (await client.post(EDGE_REPORT, data=body, headers=EDGE)).status == 400


async def test_a_report_that_is_too_large_is_not_read(client: Client) -> None:
    answer = await client.post(EDGE_REPORT, data=BytesIO(b" " * (4 * 2**20 + 1)), headers=EDGE)
    assert answer.status == 413


async def test_a_flood_of_edges_is_refused_and_harms_nobody(
    client: Client, admin: dict[str, str]
) -> None:
    for name in ("e1", "e2", "e3"):
        await report(client, edge_report(name))
    body = msgspec.json.encode(edge_report("e4"))
    answer = await client.post(EDGE_REPORT, data=body, headers=EDGE)
    assert answer.status == 429
    assert len((await get(client, "/admin/fleet", admin))["edges"]) == 3


@pytest.mark.parametrize(
    ("wanted", "status"),
    [
        ({"node": "nobody", "action": "drain"}, 404),
        ({"node": "w1", "action": "explode"}, 400),
        ({"node": "e1", "action": "repull"}, 400),
        ({"node": "w1", "action": "drain", "id": "x/y"}, 400),
        ({"node": "w1", "action": "drain", "extra": 1}, 400),
    ],
)
async def test_a_command_that_cannot_be_is_refused(
    client: Client, admin: dict[str, str], wanted: dict[str, Any], status: int
) -> None:
    await report(client, edge_report("e1", serving()))
    answer = await client.post("/admin/fleet/commands", json=wanted, headers=admin)
    assert answer.status == status
