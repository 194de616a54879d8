"""``/admin/rollouts`` over HTTP, asked by the blocking client that the command uses."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from dataclasses import dataclass

import pytest
from aiohttp import web
from aiohttp.test_utils import TestClient, TestServer

from origin.admin_client import OriginAdmin
from origin.errors import PublishError
from origin.rollout_routes import RolloutRoutes
from tests.fakes.revisions import chunk_of, make_revision
from tests.fakes.rollouts import Desk, open_desk
from tests.fakes.upkeep import Shelf
from wire.errors import ConflictError
from wire.http_errors import error_middleware

ONE, TWO = (make_revision({"m.gguf": [chunk_of(1), chunk_of(number)]}) for number in (2, 3))
TOKEN = {"Authorization": "Bearer secret"}


@dataclass(slots=True)
class Rig:
    desk: Desk
    client: TestClient[web.Request, web.Application]
    admin: OriginAdmin


@pytest.fixture
async def rig() -> AsyncIterator[Rig]:
    shelf = Shelf()
    desk = await open_desk(shelf, revision=ONE.id)
    await shelf.publish(desk.publisher, TWO, channel="")
    await shelf.publish(desk.publisher, ONE)
    await desk.pass_time()
    app = web.Application(middlewares=[error_middleware()], client_max_size=0)
    RolloutRoutes(rollouts=desk.rollouts, token="secret").add_to(app)
    async with TestClient(TestServer(app)) as client:
        admin = OriginAdmin(str(client.make_url("")).rstrip("/"), "secret")
        yield Rig(desk, client, admin)
        admin.close()


ONE_CHANNEL = "/admin/rollouts/chat/stable"
ENDPOINTS = [
    ("GET", "/admin/rollouts"),
    ("POST", "/admin/rollouts"),
    ("GET", ONE_CHANNEL),
    ("POST", f"{ONE_CHANNEL}/abort"),
    ("POST", f"{ONE_CHANNEL}/promote"),
    ("POST", f"{ONE_CHANNEL}/rollback"),
]


@pytest.mark.parametrize(("method", "path"), ENDPOINTS)
@pytest.mark.parametrize("header", [None, "Bearer wrong"])
async def test_nothing_is_done_without_the_token(
    rig: Rig, method: str, path: str, header: str | None
) -> None:
    headers = {} if header is None else {"Authorization": header}
    answer = await rig.client.request(method, path, data=b"x" * 200_000, headers=headers)
    assert answer.status == 401


GOOD = {"model": "chat", "revision": "a" * 64}
BAD = [
    {},
    {**GOOD, "model": "../x"},
    {**GOOD, "channel": "a/b"},
    {**GOOD, "revision": "latest"},
    {**GOOD, "percent": 100},
    {**GOOD, "percent": -1},
    {**GOOD, "by": "moon"},
    {**GOOD, "who": "x" * 129},
    {**GOOD, "n_discard": 1},
]


@pytest.mark.parametrize("body", BAD)
async def test_a_bad_request_is_refused(rig: Rig, body: dict[str, object]) -> None:
    answer = await rig.client.post("/admin/rollouts", json=body, headers=TOKEN)
    assert answer.status == 400
    assert rig.desk.rollouts.records()[0].latest is None


async def test_a_roll_is_begun_watched_promoted_and_rolled_back(rig: Rig) -> None:
    admin, desk = rig.admin, rig.desk
    begun = await asyncio.to_thread(
        admin.start_rollout, "chat", "stable", TWO.id, percent=10, who="ann", why="try it"
    )
    assert (begun["revision"], begun["previous"], begun["who"]) == (TWO.id, ONE.id, "ann")
    with pytest.raises(ConflictError, match="abort it first"):
        await asyncio.to_thread(admin.start_rollout, "chat", "stable", TWO.id)
    await desk.pass_time()
    seen = await asyncio.to_thread(admin.rollout, "chat", "stable")
    assert seen["record"]["current"]["stage"] == "canary"
    assert seen["now"]["workers_by_revision"] == {ONE.id: 3}
    promoted = await asyncio.to_thread(admin.promote_rollout, "chat", "stable", who="ann")
    assert promoted["stage"] == "rolling"
    desk.follow()
    await desk.pass_time()
    everything = await asyncio.to_thread(admin.rollouts)
    assert everything["channels"][0]["past"][0]["stage"] == "done"
    back = await asyncio.to_thread(admin.roll_back, "chat", "stable", who="bob")
    assert (back["kind"], back["revision"]) == ("rollback", ONE.id)
    assert desk.pointer.revision == ONE.id


async def test_an_abort_says_who_and_why(rig: Rig) -> None:
    admin = rig.admin
    await asyncio.to_thread(admin.start_rollout, "chat", "stable", TWO.id, percent=10)
    ended = await asyncio.to_thread(
        admin.abort_rollout, "chat", "stable", who="ann", why="bad idea"
    )
    assert (ended["stage"], ended["reason"]) == ("aborted", "aborted by ann: bad idea")
    with pytest.raises(PublishError, match="no rollout of chat@stable is running"):
        await asyncio.to_thread(admin.abort_rollout, "chat", "stable")
