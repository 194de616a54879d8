from __future__ import annotations

import time
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web
from aiohttp.test_utils import TestClient, TestServer

from edge_tier.gateway.admin import GatewayAdmin
from edge_tier.gateway.audit import AuditConfig, AuditError
from edge_tier.gateway.auth import InvalidKeyError, KeyStore
from edge_tier.gateway.fleet import Fleet
from edge_tier.gateway.identity import Identity, IdentityConfig, open_authenticator
from edge_tier.gateway.models import ModelDirectory
from edge_tier.gateway.orders import Orders
from tests.fakes.source import MemorySource
from wire.http_errors import error_middleware
from wire.paths import HEARTBEAT
from wire.workers import Command

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
def audit_file(tmp_path: Path) -> Path:
    return tmp_path / "audit.jsonl"


@pytest.fixture
def identity(tmp_path: Path, audit_file: Path) -> Identity:
    config = IdentityConfig(audit=AuditConfig(file=audit_file))
    return open_authenticator(tmp_path / "keys.json", tmp_path / "pepper", config)


@pytest.fixture
def keys(identity: Identity) -> KeyStore:
    return identity.keys


@pytest.fixture
def orders() -> Orders:
    return Orders(time.monotonic)


@pytest.fixture
def news() -> list[str]:
    """One for each time that there were any."""
    return []


@pytest.fixture
async def client(
    fleet: Fleet, identity: Identity, orders: Orders, news: list[str]
) -> AsyncIterator[Client]:
    app = web.Application(middlewares=[error_middleware()])
    GatewayAdmin(
        fleet=fleet,
        models=ModelDirectory(MemorySource(), lambda: None),
        identity=identity,
        admin_token="admin",
        worker_token="worker",
        orders=orders,
        on_news=lambda: news.append("!"),
    ).add_to(app)
    async with TestClient(TestServer(app)) as made:
        yield made


async def test_a_heartbeat_makes_a_worker_known(client: Client, fleet: Fleet) -> None:
    assert (await client.post(HEARTBEAT, json=REPORT, headers=WORKER)).status == 200
    assert fleet.models() == {"m"}


async def test_a_heartbeat_of_several_models_is_an_array(client: Client, fleet: Fleet) -> None:
    reports = [{**REPORT, "model": name} for name in ("a", "b")]
    assert (await client.post(HEARTBEAT, json=reports, headers=WORKER)).status == 200
    assert fleet.models() == {"a", "b"}


async def test_a_heartbeat_hears_what_the_worker_shall_do(client: Client, orders: Orders) -> None:
    orders.hold(
        "http://origin",
        [Command(id="c1", node="w", action="drain"), Command(id="c2", node="v", action="drain")],
    )
    for body in (REPORT, [REPORT, {**REPORT, "model": "b"}]):
        answer = await client.post(HEARTBEAT, json=body, headers=WORKER)
        assert await answer.json() == {"commands": [{"id": "c1", "node": "w", "action": "drain"}]}


async def test_news_are_who_comes_changes_or_has_done_what_was_wanted(
    client: Client, orders: Orders, news: list[str]
) -> None:
    async def beat(**fields: Any) -> int:
        news.clear()
        await client.post(HEARTBEAT, json={**REPORT, **fields}, headers=WORKER)
        return len(news)

    assert await beat() == 1
    assert await beat(busy=1) == 0
    assert await beat(state="draining") == 1
    assert await beat(state="draining", done=[{"id": "c1"}]) == 0
    orders.hold("http://origin", [Command(id="c1", node="w", action="drain")])
    assert await beat(state="draining") == 0
    assert await beat(state="draining", done=[{"id": "c1"}]) == 1


UNBOUNDED: list[Any] = [
    {"busy": -1},
    {"busy": 10**7},
    {"queue": 10**7},
    {"slots": 10**7},
    {"slots": 1.5},
    {"ttl_s": 1e9},
    {"ttl_s": -1},
    {"worker": "w" * 129},
    {"worker": "w\n"},
    {"worker": "../w"},
    {"model": "m" * 97},
    {"channel": "a b"},
    {"revision": "r" * 65},
    {"url": "http://" + "h" * 300},
    {"reason": "x" * 501},
    {"features": [f"f{n}" for n in range(33)]},
    {"features": ["f" * 65]},
    {"boot": {f"s{n}": 1.0 for n in range(129)}},
    {"boot": {"s" * 97: 1.0}},
    {"missing_bytes": 2**60},
    {"target": "r" * 65},
    {"variant": "v" * 97},
    {"done": [{"id": f"c{n}"} for n in range(65)]},
    {"done": [{"id": "c", "problem": "x" * 501}]},
    {"done": [{"id": "a/b"}]},
]


@pytest.mark.parametrize("spoiled", UNBOUNDED, ids=range(len(UNBOUNDED)))
async def test_a_heartbeat_out_of_bounds_is_refused(
    client: Client, fleet: Fleet, spoiled: dict[str, Any]
) -> None:
    answer = await client.post(HEARTBEAT, json={**REPORT, **spoiled}, headers=WORKER)
    assert answer.status == 400
    assert "heartbeat: " in (await answer.json(content_type=None))["detail"]
    assert fleet.workers() == []


@pytest.mark.parametrize("reports", [[], [REPORT] * 65, [REPORT, {**REPORT, "worker": "v"}]])
async def test_an_array_is_of_one_worker_and_bounded(
    client: Client, fleet: Fleet, reports: list[Any]
) -> None:
    assert (await client.post(HEARTBEAT, json=reports, headers=WORKER)).status == 400
    assert fleet.workers() == []


@pytest.mark.parametrize(
    "body", [b"", b"{}", b"[" * 30_000, b'{"worker":1}', b"x" * 600_000, b"\xff"]
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


def content(file: Path) -> str:
    return file.read_text()


def spoil(file: Path) -> None:
    file.mkdir()


def forge(file: Path) -> None:
    file.write_text(file.read_text().replace("keys.list", "keys.look", 1))


def acts(identity: Identity) -> list[tuple[str, str, str]]:
    return [(r.action, r.subject, r.outcome) for r in identity.audit.newest(100)]


async def test_every_act_is_in_the_audit_log_with_its_actor(
    client: Client, identity: Identity, audit_file: Path
) -> None:
    headers = {**ADMIN, "X-Request-Id": "ticket-7"}
    answer = await client.post("/admin/keys", json={"tenant": "acme"}, headers=headers)
    made = await answer.json()
    rotate = f"/admin/keys/{made['key_id']}/rotate"
    rotated = await (await client.post(rotate, headers=ADMIN)).json()
    await client.delete(f"/admin/keys/{made['key_id']}", headers=ADMIN)
    await client.delete("/admin/keys/nobody", headers=ADMIN)
    assert acts(identity) == [
        ("keys.create", "tenant:acme", "begun"),
        ("keys.create", made["key_id"], "done"),
        ("keys.rotate", made["key_id"], "begun"),
        ("keys.rotate", made["key_id"], "done"),
        ("keys.revoke", made["key_id"], "begun"),
        ("keys.revoke", made["key_id"], "done"),
        ("keys.revoke", "nobody", "begun"),
        ("keys.revoke", "nobody", "failed"),
    ]
    first = identity.audit.newest(100)[0]
    assert first.request_id == "ticket-7"
    assert first.actor.startswith("token:")
    text = content(audit_file)
    assert made["key"] not in text
    assert rotated["key"] not in text
    assert identity.audit.verify().problem == ""


async def test_an_act_that_cannot_be_written_down_is_not_done(
    client: Client, keys: KeyStore, audit_file: Path
) -> None:
    spoil(audit_file)
    answer = await client.post("/admin/keys", json={"tenant": "acme"}, headers=ADMIN)
    assert answer.status == AuditError.status
    assert (await answer.json())["code"] == "audit_unavailable"
    assert keys.list() == ()


async def test_a_key_with_the_scope_is_an_administrator(
    client: Client, keys: KeyStore, identity: Identity
) -> None:
    record, admin = keys.create(tenant="ops", scopes=frozenset({"admin"}))
    other, plain = keys.create(tenant="shop")
    as_admin = {"Authorization": f"Bearer {admin}"}
    shown = await (await client.get(f"/admin/keys/{other.key_id}", headers=as_admin)).json()
    assert (shown["tenant"], shown["key_id"]) == ("shop", other.key_id)
    assert "digest" not in str(shown)
    assert identity.audit.newest(1)[0].actor == f"key:{record.key_id}"
    for _ in range(3):
        refused = await client.get("/admin/keys", headers={"Authorization": f"Bearer {plain}"})
        assert refused.status == 403
    assert [outcome for *_, outcome in acts(identity)].count("refused") == 1


async def test_a_rotated_key_keeps_its_id_and_the_old_secret_for_its_grace(
    client: Client, keys: KeyStore
) -> None:
    record, old = keys.create(tenant="acme")
    rotate = f"/admin/keys/{record.key_id}/rotate"
    answer = await (await client.post(rotate, json={"grace_s": 60}, headers=ADMIN)).json()
    assert keys.authenticate(f"Bearer {answer['key']}").key_id == record.key_id
    assert keys.authenticate(f"Bearer {old}").key_id == record.key_id
    assert (await client.post(rotate, json={"grace_s": -1}, headers=ADMIN)).status == 400
    assert (await client.post("/admin/keys/no/rotate", headers=ADMIN)).status == 404


async def test_the_audit_log_is_read_and_verified(client: Client, audit_file: Path) -> None:
    await client.get("/admin/keys", headers=ADMIN)
    found = await (await client.get("/admin/audit?limit=1", headers=ADMIN)).json()
    assert [record["action"] for record in found["records"]] == ["audit.read"]
    assert (found["chain"]["problem"], found["chain"]["records"]) == ("", 3)
    forge(audit_file)
    found = await (await client.get("/admin/audit", headers=ADMIN)).json()
    assert "record 2 does not follow" in found["chain"]["problem"]
    assert (await client.get("/admin/audit?limit=x", headers=ADMIN)).status == 400
    assert (await client.get("/admin/audit", headers=WORKER)).status == 401
