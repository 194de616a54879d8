from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import pytest
from aiohttp import web
from aiohttp.test_utils import TestClient, TestServer

from origin.announce import Publisher
from origin.upkeep.jobs import Jobs
from origin.upkeep.policy import GcConfig
from origin.upkeep.routes import UpkeepRoutes
from tests.fakes.revisions import chunk_of, make_revision
from tests.fakes.upkeep import Shelf
from tests.fakes.waiting import until
from wire.errors import NotFoundError
from wire.http_errors import error_middleware

ONE = make_revision({"m.gguf": [chunk_of(1), chunk_of(2)]})
TWO = make_revision({"m.gguf": [chunk_of(2), chunk_of(3)]})
TOKEN = {"Authorization": "Bearer secret"}
PRUNE_ALL = {"keep_recent": 0, "keep_younger_s": 0}
Client = TestClient[web.Request, web.Application]


@pytest.fixture
def shelf() -> Shelf:
    return Shelf()


@pytest.fixture
async def publisher(shelf: Shelf) -> Publisher:
    made = await shelf.origin()
    for revision in (ONE, TWO):
        await shelf.publish(made, revision)
    shelf.now += 1_000
    return made


@pytest.fixture
def routes(shelf: Shelf, publisher: Publisher) -> UpkeepRoutes:
    return UpkeepRoutes(
        publisher=publisher,
        jobs=Jobs(),
        config=GcConfig(grace_s=100.0),
        token="secret",
        max_body_bytes=100_000,
        clock=lambda: shelf.now,
    )


@pytest.fixture
async def client(routes: UpkeepRoutes) -> AsyncIterator[Client]:
    app = web.Application(middlewares=[error_middleware()], client_max_size=0)
    routes.add_to(app)
    async with TestClient(TestServer(app)) as made:
        yield made


async def post(client: Client, action: str, body: Any) -> Any:
    answer = await client.post(f"/admin/{action}", json=body, headers=TOKEN)
    assert answer.status == 200, await answer.text()
    return await answer.json()


async def finished(client: Client, routes: UpkeepRoutes, kind: str) -> Any:
    await routes.jobs.wait()
    return await (await client.get(f"/admin/jobs/{kind}", headers=TOKEN)).json()


ENDPOINTS = [
    ("POST", "/admin/gc"),
    ("POST", "/admin/verify"),
    ("GET", "/admin/jobs/gc"),
    ("DELETE", "/admin/jobs/gc"),
    ("GET", "/admin/pins"),
    ("POST", "/admin/pins"),
    ("POST", "/admin/prune/plan"),
    ("POST", "/admin/prune"),
]


@pytest.mark.parametrize(("method", "path"), ENDPOINTS)
@pytest.mark.parametrize("header", [None, "Bearer wrong", "Basic secret"])
async def test_nothing_is_done_without_the_token(
    client: Client, method: str, path: str, header: str | None
) -> None:
    headers = {} if header is None else {"Authorization": header}
    answer = await client.request(method, path, data=b"x" * 200_000, headers=headers)
    assert answer.status == 401


async def test_pruning_and_collecting_in_their_steps(
    client: Client, routes: UpkeepRoutes, shelf: Shelf, publisher: Publisher
) -> None:
    plan = await post(client, "prune/plan", {})
    assert plan["remove"] == []
    assert {one["reason"] for one in plan["keep"]} == {"channel stable", "young"}
    plan = await post(client, "prune/plan", PRUNE_ALL)
    assert plan["remove"] == [{"model": "chat", "revision": ONE.id}]
    assert plan["keep"] == [{"model": "chat", "revision": TWO.id, "reason": "channel stable"}]
    signed = shelf.sign(publisher, remove=[ONE]).decode()
    assert (await post(client, "prune", {"revisions": signed}))["removed"] == plan["remove"]
    assert (await post(client, "gc", {"dry_run": True}))["state"] == "running"
    planned = (await finished(client, routes, "gc"))["result"]
    assert (planned["dry_run"], planned["removed_chunks"]) == (True, 1)
    assert shelf.manifests == {ONE.id, TWO.id}
    await post(client, "gc", {})
    done = await finished(client, routes, "gc")
    assert (done["state"], done["number"], done["result"]["removed_chunks"]) == ("done", 2, 1)
    assert shelf.chunks == set(TWO.chunks)


async def test_a_scrub_is_a_job(client: Client, routes: UpkeepRoutes) -> None:
    started = await post(client, "verify", {})
    assert (started["kind"], started["number"]) == ("verify", 1)
    done = await finished(client, routes, "verify")
    assert (done["state"], done["done"], done["result"]["chunks"]) == ("done", 3_000, 3)


async def test_a_second_job_is_refused_and_a_slow_one_can_be_cancelled(client: Client) -> None:
    await post(client, "verify", {"bytes_per_s": 1})
    refused = await client.post("/admin/gc", json={}, headers=TOKEN)
    assert refused.status == 409
    cancelled = await client.delete("/admin/jobs/verify", headers=TOKEN)
    assert (await cancelled.json())["state"] == "cancelled"
    await post(client, "gc", {})


async def test_a_job_ends_with_the_application(client: Client, routes: UpkeepRoutes) -> None:
    await post(client, "verify", {"bytes_per_s": 1})
    await client.close()
    assert routes.jobs.last("verify").state == "cancelled"


async def test_pins_are_kept_and_listed(client: Client) -> None:
    pin = {"model": "chat", "revision": ONE.id}
    assert await post(client, "pins", pin) == {"pins": [pin]}
    plan = await post(client, "prune/plan", PRUNE_ALL)
    assert plan["remove"] == []
    assert await post(client, "pins", {**pin, "remove": True}) == {"pins": []}
    listed = await client.get("/admin/pins", headers=TOKEN)
    assert await listed.json() == {"pins": []}


BAD: list[tuple[str, Any, int]] = [
    ("gc", {"dry_run": "yes"}, 400),
    ("gc", {"extra": 1}, 400),
    ("verify", {"bytes_per_s": -1}, 400),
    ("pins", {"model": "../x", "revision": "a" * 64}, 400),
    ("pins", {"model": "chat", "revision": "../../x"}, 400),
    ("pins", {"model": "chat", "revision": "a" * 64}, 404),
    ("prune/plan", {"keep_recent": -1}, 400),
    ("prune", {"revisions": "{}"}, 400),
    ("prune", {}, 400),
]


@pytest.mark.parametrize(("action", "body", "status"), BAD)
async def test_a_request_that_does_not_fit_is_refused(
    client: Client, action: str, body: Any, status: int
) -> None:
    answer = await client.post(f"/admin/{action}", json=body, headers=TOKEN)
    assert answer.status == status


@pytest.mark.parametrize(("kind", "status"), [("gc", 404), ("other", 404), ("%2e%2e", 404)])
async def test_a_job_that_never_was_is_not_found(client: Client, kind: str, status: int) -> None:
    assert (await client.get(f"/admin/jobs/{kind}", headers=TOKEN)).status == status


async def test_scrubs_follow_one_another_in_the_background(routes: UpkeepRoutes) -> None:
    scrubbing = asyncio.create_task(routes.scrub_for_ever(0.001, 0))

    def scrubbed_twice() -> bool:
        try:
            return routes.jobs.last("verify").number >= 2
        except NotFoundError:
            return False

    await until(scrubbed_twice)
    scrubbing.cancel()
    await asyncio.wait([scrubbing])
    await routes.jobs.aclose()
