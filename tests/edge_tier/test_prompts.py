"""edge_tier.prompts: the prompt plane as an edge assembles it. Its routes: gateway/test_routes."""

from __future__ import annotations

from pathlib import Path

from edge_tier.config import GatewayConfig
from tests.fakes.edges import Origin, StartEdge
from tests.fakes.gateway import MODEL
from tests.fakes.waiting import until_async
from wire.paths import HEARTBEAT

ADMIN = {"Authorization": "Bearer admin"}
WORKER = {"Authorization": "Bearer worker"}


async def test_a_heartbeat_makes_the_edge_route_to_the_worker(
    start_edge: StartEdge, origin: Origin
) -> None:
    edge = await start_edge()
    made = await (await edge.post("/admin/keys", json={"tenant": "acme"}, headers=ADMIN)).json()
    key = {"Authorization": f"Bearer {made['key']}"}

    async def offered() -> bool:
        listing = await (await edge.get("/v1/models", headers=key)).json()
        return MODEL in [card["id"] for card in listing["data"]]

    await until_async(offered)
    ask = {"model": MODEL, "messages": [{"role": "user", "content": "hi"}]}
    waiting = await edge.post("/v1/chat/completions", json=ask, headers=key)
    assert (waiting.status, (await waiting.json())["error"]["code"]) == (503, "no_route")
    report = {
        "worker": "w",
        "url": "http://127.0.0.1:9",
        "model": MODEL,
        "channel": "stable",
        "revision": origin.revisions[0],
        "state": "ready",
        "slots": 1,
        "busy": 0,
        "queue": 0,
        "ttl_s": 60,
    }
    assert (await edge.post(HEARTBEAT, json=report, headers=WORKER)).status == 200
    asked = await edge.post("/v1/chat/completions", json=ask, headers=key)
    assert (await asked.json())["error"]["code"] == "no_backend"  # nobody listens on port 9


async def test_limits_may_live_in_redis(start_edge: StartEdge, tmp_path: Path) -> None:
    """With Redis away from the start, requests are let through on the lease: never a 5xx."""
    gateway = GatewayConfig(
        keys_file=tmp_path / "keys.json",
        pepper_file=tmp_path / "pepper",
        redis_url="redis://127.0.0.1:9/0",
    )
    edge = await start_edge(gateway=gateway)
    assert (await edge.get("/v1/models")).status == 401
