from __future__ import annotations

import json
import time
from collections.abc import AsyncIterator
from io import BytesIO
from typing import Any

import pytest
from aiohttp import ClientResponse, web
from aiohttp.test_utils import TestClient, TestServer
from yarl import URL

from origin.admin import AdminRoutes
from origin.announce import Publisher
from tests.fakes.origin_home import Home
from tests.fakes.revisions import chunk_of, make_revision
from wire.chunk import MAX_CHUNK_BYTES, hash_chunk
from wire.events import EventLog
from wire.http_errors import error_middleware
from wire.http_events import EventHub

REVISION = make_revision({"m.gguf": [chunk_of(1), chunk_of(2)]})
TOKEN = {"Authorization": "Bearer secret"}
Client = TestClient[web.Request, web.Application]


@pytest.fixture
async def publisher(home: Home) -> Publisher:
    return Publisher(
        home.open_store(), await home.load(), EventHub(EventLog("e")), set(), clock=time.time
    )


@pytest.fixture
async def client(publisher: Publisher) -> AsyncIterator[Client]:
    app = web.Application(middlewares=[error_middleware()], client_max_size=0)
    AdminRoutes(publisher=publisher, token="secret", max_body_bytes=100_000).add_to(app)
    async with TestClient(TestServer(app)) as made:
        yield made


async def code(answer: ClientResponse) -> str:
    return str((await answer.json(content_type=None))["code"])


async def upload(client: Client) -> None:
    for name, data in REVISION.chunks.items():
        answer = await client.put(f"/admin/chunks/{name}", data=data, headers=TOKEN)
        assert answer.status == 204
    manifest = f"/admin/manifests/{REVISION.id}"
    assert (await client.put(manifest, data=REVISION.data, headers=TOKEN)).status == 204


ENDPOINTS = [
    ("GET", "/admin/status"),
    ("POST", "/admin/chunks/missing"),
    ("PUT", "/admin/chunks/" + "a" * 64),
    ("PUT", "/admin/manifests/" + "a" * 64),
    ("POST", "/admin/publish"),
    ("POST", "/admin/roll"),
    ("POST", "/admin/purge"),
]


@pytest.mark.parametrize(("method", "path"), ENDPOINTS)
@pytest.mark.parametrize("header", [None, "Bearer wrong", "Bearer secret2", "Basic secret", "\xff"])
async def test_nothing_is_done_without_the_token(
    client: Client, method: str, path: str, header: str | None
) -> None:
    headers = {} if header is None else {"Authorization": header}
    answer = await client.request(method, path, data=b"x" * 200_000, headers=headers)
    assert answer.status == 401
    assert answer.headers["WWW-Authenticate"] == "Bearer"
    assert answer.headers["Cache-Control"] == "no-store"


async def test_a_publish_in_its_steps(client: Client, home: Home, publisher: Publisher) -> None:
    query = {"ids": [*REVISION.chunks, *REVISION.chunks]}
    missing = await client.post("/admin/chunks/missing", json=query, headers=TOKEN)
    assert await missing.json() == {"missing": list(REVISION.chunks)}
    await upload(client)
    missing = await client.post("/admin/chunks/missing", json=query, headers=TOKEN)
    assert await missing.json() == {"missing": []}
    signed = {"revisions": home.sign(publisher.repository, REVISION).decode()}
    assert (await client.post("/admin/publish", json=signed, headers=TOKEN)).status == 200
    wanted = {"model": "chat", "channel": "stable", "revision": REVISION.id}
    rolled = await client.post("/admin/roll", json=wanted, headers=TOKEN)
    assert (await rolled.json())["channels"] == [{**wanted, "sequence": 1}]
    status = await (await client.get("/admin/status", headers=TOKEN)).json()
    assert status["revisions"] == [{"model": "chat", "revision": REVISION.id}]


async def test_a_chunk_under_a_false_name_is_refused_and_not_stored(
    client: Client, publisher: Publisher
) -> None:
    name = hash_chunk(b"true")
    answer = await client.put(f"/admin/chunks/{name}", data=b"false", headers=TOKEN)
    assert (answer.status, await code(answer)) == (400, "request_invalid")
    assert await publisher.store.missing_chunks([name]) == [name]


async def test_a_chunk_over_the_bound_is_refused(client: Client) -> None:
    name = "a" * 64
    large = BytesIO(bytes(MAX_CHUNK_BYTES + 1))
    answer = await client.put(f"/admin/chunks/{name}", data=large, headers=TOKEN)
    assert (answer.status, await code(answer)) == (413, "too_large")


async def test_a_body_of_unknown_length_is_bounded_too(client: Client) -> None:
    async def endless() -> AsyncIterator[bytes]:
        while True:
            yield bytes(50_000)

    answer = await client.post("/admin/publish", data=endless(), headers=TOKEN)
    assert (answer.status, await code(answer)) == (413, "too_large")


@pytest.mark.parametrize("name", ["%2e%2e%2fkeys", "a%00", "A" * 64, "a" * 63, "%252e%252e"])
@pytest.mark.parametrize("kind", ["chunks", "manifests"])
async def test_a_name_that_cannot_be_one_is_refused(client: Client, kind: str, name: str) -> None:
    url = URL(f"/admin/{kind}/{name}", encoded=True)
    answer = await client.put(url, data=b"x", headers=TOKEN)
    assert (answer.status, await code(answer)) == (400, "name_invalid")


BAD_BODIES: list[tuple[str, Any]] = [
    ("/admin/chunks/missing", {"ids": ["../../etc/passwd"]}),
    ("/admin/chunks/missing", {"ids": "a"}),
    ("/admin/publish", {}),
    ("/admin/publish", {"revisions": "{}"}),
    ("/admin/publish", {"revisions": "", "extra": 1}),
    ("/admin/roll", {"model": "../x", "channel": "stable", "revision": "a" * 64}),
    ("/admin/roll", {"model": "chat", "channel": "a/b", "revision": "a" * 64}),
    ("/admin/roll", {"model": "chat", "channel": "stable", "revision": "latest"}),
    ("/admin/purge", {"key": "everything"}),
    ("/admin/purge", {"key": "chunk:" + "a" * 64, "hard": "yes"}),
]


@pytest.mark.parametrize(("path", "body"), BAD_BODIES)
async def test_a_request_that_does_not_fit_is_refused(client: Client, path: str, body: Any) -> None:
    assert (await client.post(path, json=body, headers=TOKEN)).status == 400


@pytest.mark.parametrize("body", [b"", b"{", b"[" * 50_000, b"\xff", b"null"])
async def test_a_body_that_is_no_json_object_is_refused(client: Client, body: bytes) -> None:
    answer = await client.post("/admin/roll", data=body, headers=TOKEN)
    assert (answer.status, await code(answer)) == (400, "request_invalid")


async def test_a_manifest_before_its_chunks_is_refused(client: Client) -> None:
    path = f"/admin/manifests/{REVISION.id}"
    answer = await client.put(path, data=REVISION.data, headers=TOKEN)
    assert (answer.status, await code(answer)) == (404, "not_found")


async def test_a_list_signed_by_somebody_else_is_refused(
    client: Client, home: Home, publisher: Publisher
) -> None:
    await upload(client)
    signed = json.loads(home.sign(publisher.repository, REVISION))
    signed["signatures"][0]["sig"] = "00" * 64
    forged = {"revisions": json.dumps(signed)}
    answer = await client.post("/admin/publish", json=forged, headers=TOKEN)
    assert answer.status == 403
    assert not publisher.repository.view.revisions


async def test_what_was_taken_down_is_not_taken_in_again(client: Client) -> None:
    await upload(client)
    name, data = next(iter(REVISION.chunks.items()))
    for key in (f"chunk:{name}", f"revision:{REVISION.id}"):
        purged = await client.post("/admin/purge", json={"key": key, "hard": True}, headers=TOKEN)
        assert await purged.json() == {"purged": key, "hard": True}
    assert (await client.put(f"/admin/chunks/{name}", data=data, headers=TOKEN)).status == 410
    manifest = f"/admin/manifests/{REVISION.id}"
    assert (await client.put(manifest, data=REVISION.data, headers=TOKEN)).status == 410
