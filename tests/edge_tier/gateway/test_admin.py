from __future__ import annotations

import time
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web
from aiohttp.test_utils import TestClient, TestServer

from edge_tier.gateway.admin import GatewayAdmin
from edge_tier.gateway.auth import InvalidKeyError, KeyStore
from edge_tier.gateway.fleet import Fleet
from edge_tier.gateway.models import ModelDirectory
from tests.fakes.source import MemorySource
from wire.http_errors import error_middleware
from wire.paths import HEARTBEAT

Client = TestClient[web.Request, web.Application]
ADMIN = {"Authorization": "Bearer admin"}
WORKER = {"Authorization": "Bearer worker"}
REPORT: dict[str, Any] = {
    "worker": "w",
    "url": "http://127.0.0.1:1",
    "model": "m",
    "channel": "stable",
    "revision": "r",
    "state": "ready",
    "slots": 1,
    "busy": 0,
    "queue": 0,
    "ttl_s": 60,
}


@pytest.fixture
def fleet() -> Fleet:
    return Fleet(time.monotonic)


@pytest.fixture
def keys(tmp_path: Path) -> KeyStore:
    return KeyStore.open(tmp_path / "keys.json", tmp_path / "pepper")


@pytest.fixture
async def client(fleet: Fleet, keys: KeyStore) -> AsyncIterator[Client]:
    app = web.Application(middlewares=[error_middleware()])
    GatewayAdmin(
        fleet=fleet,
        models=ModelDirectory(MemorySource(), lambda: None),
        keys=keys,
        admin_token="admin",
        worker_token="worker",
    ).add_to(app)
    async with TestClient(TestServer(app)) as made:
        yield made


async def test_a_heartbeat_makes_a_worker_known(client: Client, fleet: Fleet) -> None:
    assert (await client.post(HEARTBEAT, json=REPORT, headers=WORKER)).status == 204
    assert fleet.models() == {"m"}


@pytest.mark.parametrize(
    "body", [b"", b"{}", b"[" * 30_000, b'{"worker":1}', b"x" * 70_000, b"\xff"]
)
async def test_a_bad_heartbeat_is_refused(client: Client, fleet: Fleet, body: bytes) -> None:
    answer = await client.post(HEARTBEAT, data=body, headers=WORKER)
    assert answer.status in {400, 413}
    assert fleet.workers() == []


@pytest.mark.parametrize("headers", [{}, WORKER, {"Authorization": "Bearer x"}])
async def test_keys_are_for_administrators(client: Client, headers: dict[str, str]) -> None:
    assert (await client.get("/admin/keys", headers=headers)).status == 401
    assert (await client.post("/admin/keys", json={}, headers=headers)).status == 401
    assert (await client.delete("/admin/keys/x", headers=headers)).status == 401
    if headers != WORKER:
        assert (await client.post(HEARTBEAT, json=REPORT, headers=headers)).status == 401


async def test_a_key_is_made_listed_and_revoked(client: Client, keys: KeyStore) -> None:
    body = {"tenant": "acme", "limits": {"requests_per_minute": 5}, "policy": {"privacy": "local"}}
    made = await (await client.post("/admin/keys", json=body, headers=ADMIN)).json()
    caller = keys.authenticate(f"Bearer {made['key']}")
    assert (caller.tenant, caller.limits.requests_per_minute) == ("acme", 5)
    assert caller.policy.privacy == "local"
    text = await (await client.get("/admin/keys", headers=ADMIN)).text()
    assert made["key_id"] in text
    assert made["key"] not in text
    assert "digest" not in text
    assert (await client.delete(f"/admin/keys/{made['key_id']}", headers=ADMIN)).status == 200
    with pytest.raises(InvalidKeyError):
        keys.authenticate(f"Bearer {made['key']}")
    assert (await client.delete("/admin/keys/nobody", headers=ADMIN)).status == 404


@pytest.mark.parametrize(
    "body", [{}, {"tenant": "a", "scopes": ["root"]}, {"tenant": "a", "x": 1}, {"tenant": "a b"}]
)
async def test_a_key_that_cannot_be_is_refused(client: Client, body: dict[str, Any]) -> None:
    assert (await client.post("/admin/keys", json=body, headers=ADMIN)).status == 400
