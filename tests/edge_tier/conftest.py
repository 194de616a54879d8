"""A real origin and real edges over it, all in this process, each on its own port."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from aiohttp.test_utils import TestClient, TestServer

from edge_tier.app import build_app as build_edge
from edge_tier.config import CacheConfig, EdgeConfig, GatewayConfig
from edge_tier.gateway.audit import AuditConfig
from edge_tier.gateway.identity import IdentityConfig
from origin.app import build_app as build_origin
from origin.config import OriginConfig
from origin.init import initialize
from tests.fakes.edges import Origin, StartEdge
from wire.files import write_atomically
from wire.http_events import EventsConfig

QUICK_EVENTS = EventsConfig(retry_min_s=0.01, retry_max_s=0.05)


@pytest.fixture
async def origin(tmp_path: Path) -> AsyncIterator[Origin]:
    folder = tmp_path / "origin"
    config = OriginConfig(
        store=str(folder / "store"),
        keys_dir=folder / "keys",
        admin_token_file=folder / "token",
        edge_token_file=folder / "edge-token",
    )
    await initialize(config, "passphrase")
    write_atomically(folder / "edge-token", b"edges")
    server = TestServer(await build_origin(config), handler_cancellation=True)
    await server.start_server()
    made = Origin(folder, server, str(server.make_url("")).rstrip("/"))
    await made.publish()
    yield made
    await server.close()


@pytest.fixture
async def start_edge(origin: Origin, tmp_path: Path) -> AsyncIterator[StartEdge]:
    """Start an edge; keyword arguments replace fields of its configuration."""
    async with AsyncExitStack() as stack:
        for name in ("admin", "worker"):
            write_atomically(tmp_path / f"{name}-token", name.encode())

        async def start(name: str = "edge", **changes: Any) -> TestClient[Any, Any]:
            folder = tmp_path / name
            config = EdgeConfig(
                origins=(origin.url,),
                trust_root=origin.folder / "keys" / "root.json",
                trust_dir=folder / "trust",
                refresh_s=0.2,
                admin_token_file=tmp_path / "admin-token",
                worker_token_file=tmp_path / "worker-token",
                events=QUICK_EVENTS,
                cache=CacheConfig(folder=folder / "cache", name=name),
                gateway=GatewayConfig(
                    keys_file=folder / "keys.json",
                    pepper_file=folder / "pepper",
                    identity=IdentityConfig(audit=AuditConfig(file=folder / "audit.jsonl")),
                ),
            )
            app = await build_edge(replace(config, **changes))
            client = TestClient(TestServer(app, handler_cancellation=True))
            await stack.enter_async_context(client)
            return client

        yield start
