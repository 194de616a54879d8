"""infra.overview: tiers over real sockets, well, not ready, shut, and gone."""

from __future__ import annotations

import asyncio
import io
from collections.abc import AsyncIterator
from typing import Any

import pytest
from aiohttp import web
from aiohttp.test_utils import TestServer
from rich.console import Console

from infra.commands.options import Access
from infra.overview import Overview, TierState, overview
from wire.http_server import json_answer, require_token

GONE = Access(url="http://127.0.0.1:9", secret="secret")
REVISION = "ab" * 32
ORIGIN: dict[str, Any] = {
    "revisions": [{"model": "chat"}, {"model": "chat"}, {"model": "other"}],
    "channels": [{"model": "chat", "channel": "stable", "revision": REVISION, "sequence": 3}],
    "pins": [{"model": "other", "revision": REVISION}],
}
EDGE: dict[str, Any] = {
    "workers": [
        {
            "worker": "gpu-1", "model": "chat", "revision": REVISION, "state": "ready",
            "busy": 2, "slots": 8, "queue": 1, "reason": "nothing\x1b[2J",
        }
    ],
    "cache": {
        "store": {"chunks": 12, "used_bytes": 1_000, "capacity_bytes": 2_000, "corrupt": 1},
        "requests": {"hits": 5, "misses": 6},
    },
}  # fmt: skip


@pytest.fixture
async def tier() -> AsyncIterator[str]:
    """A tier that is ready, and shows its status to who has the token."""

    async def ready(_: web.Request) -> web.Response:
        return web.Response()

    async def status(request: web.Request) -> web.Response:
        require_token(request, "secret")
        return json_answer({"channels": []})

    app = web.Application()
    app.router.add_get("/readyz", ready)
    app.router.add_get("/admin/status", status)
    async with TestServer(app) as server:
        yield f"http://127.0.0.1:{server.port}"


def shown(found: Overview) -> str:
    console = Console(file=io.StringIO(), width=200)
    found.show(console)
    assert isinstance(console.file, io.StringIO)
    return console.file.getvalue()


async def test_one_that_is_gone_hinders_no_other(tier: str) -> None:
    closed, opened = (Access(url=tier, secret=secret) for secret in ("", "secret"))
    tiers = {"gone": GONE, "open": closed, "edge": opened}
    found = await asyncio.to_thread(overview, tiers)
    assert not found.healthy
    assert "127.0.0.1:9" in found.tiers["gone"].problem
    assert found.tiers["open"] == TierState(tier)  # no secret, no status asked for
    assert found.tiers["edge"] == TierState(tier, status={"channels": []})
    told = found.as_dict()
    assert told["ready"] is False
    assert [t["ready"] for t in told["tiers"].values()] == [False, True, True]
    assert "secret" not in str(told)


async def test_a_wrong_token_is_a_problem_of_that_tier(tier: str) -> None:
    found = await asyncio.to_thread(overview, {"edge": Access(url=tier, secret="wrong")})
    assert found.tiers["edge"].problem
    assert found.tiers["edge"].status == {}


def test_channels_workers_and_cache_are_shown() -> None:
    tiers = {
        "origin": TierState("http://o", status=ORIGIN),
        "edge": TierState("http://e", "", EDGE),
    }
    text = shown(Overview(tiers))
    assert Overview(tiers).healthy
    for part in ("chat@stable", REVISION[:12], "gpu-1", "2/8", "12 chunks", "5 hits, 6 misses"):
        assert part in text, part
    assert "verified" in text
    assert "\x1b" not in text  # what a worker says of itself moves no cursor


def test_why_a_tier_is_not_ready_stands_beside_it() -> None:
    text = shown(Overview({"worker": TierState("http://w", "booting: 3 of 9 GB")}))
    assert "not ready" in text
    assert "booting: 3 of 9 GB" in text
