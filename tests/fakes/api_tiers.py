"""An origin and an edge over it, in this process, that nobody minds being ruined: for tests that
walk their routes, and for a fuzzer that may purge, prune and revoke whatever it hits."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncIterator, Iterator
from contextlib import AsyncExitStack, asynccontextmanager, contextmanager
from dataclasses import dataclass
from pathlib import Path

from aiohttp import web
from aiohttp.test_utils import TestServer

from edge_tier.app import build_app as build_edge
from edge_tier.config import CacheConfig, EdgeConfig, GatewayConfig
from edge_tier.gateway.audit import AuditConfig
from edge_tier.gateway.identity import IdentityConfig
from origin.app import build_app as build_origin
from origin.config import OriginConfig
from origin.init import initialize
from tests.fakes.edges import Origin
from wire.assets import AssetsConfig
from wire.files import write_atomically

TOKENS = {"adminToken": "admin", "edgeToken": "edges", "workerToken": "worker"}
"""By security scheme."""


@dataclass(frozen=True, slots=True)
class Tiers:
    """Where they answer, and the applications themselves."""

    origin: web.Application
    edge: web.Application
    origin_url: str
    edge_url: str


@asynccontextmanager
async def api_tiers(folder: Path) -> AsyncIterator[Tiers]:
    """Both tiers, with one tiny model published."""
    origin_config = OriginConfig(
        store=str(folder / "store"),
        keys_dir=folder / "keys",
        admin_token_file=folder / "admin-token",
        edge_token_file=folder / "edge-token",
        assets=AssetsConfig(enabled=True),
    )
    await initialize(origin_config, "passphrase")
    for name, token in (("admin", "admin"), ("edge", "edges"), ("worker", "worker")):
        write_atomically(folder / f"{name}-token", token.encode())
    async with AsyncExitStack() as stack:
        origin_app = await build_origin(origin_config)
        server = TestServer(origin_app, handler_cancellation=True)
        await stack.enter_async_context(server)
        origin_url = str(server.make_url("")).rstrip("/")
        await Origin(folder, server, origin_url).publish()
        edge_app = await build_edge(
            EdgeConfig(
                origins=(origin_url,),
                trust_root=folder / "keys" / "root.json",
                trust_dir=folder / "trust",
                refresh_s=0.2,
                admin_token_file=folder / "admin-token",
                worker_token_file=folder / "worker-token",
                cache=CacheConfig(folder=folder / "cache"),
                gateway=GatewayConfig(
                    keys_file=folder / "keys.json",
                    pepper_file=folder / "pepper",
                    identity=IdentityConfig(audit=AuditConfig(file=folder / "audit.jsonl")),
                ),
            )
        )
        edge = TestServer(edge_app, handler_cancellation=True)
        await stack.enter_async_context(edge)
        yield Tiers(origin_app, edge_app, origin_url, str(edge.make_url("")).rstrip("/"))


@contextmanager
def running_tiers(folder: Path) -> Iterator[Tiers]:
    """The same on an event loop of a thread of its own, for clients that block."""
    loop = asyncio.new_event_loop()
    thread = threading.Thread(target=loop.run_forever, name="api-tiers")
    thread.start()
    made = api_tiers(folder)
    try:
        tiers = asyncio.run_coroutine_threadsafe(made.__aenter__(), loop).result(60)
        try:
            yield tiers
        finally:
            asyncio.run_coroutine_threadsafe(made.__aexit__(None, None, None), loop).result(60)
    finally:
        loop.call_soon_threadsafe(loop.stop)
        thread.join()
        loop.close()
