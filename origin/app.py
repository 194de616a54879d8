"""Builds an origin from its configuration."""

from __future__ import annotations

import asyncio
import secrets
import time
from collections.abc import Awaitable, Callable
from concurrent.futures import ThreadPoolExecutor

from aiohttp import web
from prometheus_client import CollectorRegistry, Counter

from origin.admin import AdminRoutes
from origin.announce import OriginServer, Publisher
from origin.config import OriginConfig
from origin.keys import ONLINE_KEY, load_key
from origin.signing import Repository
from origin.store import ObjectStore
from wire.events import EventLog
from wire.http_errors import error_middleware
from wire.http_events import EventHub
from wire.http_routes import ArtifactRoutes
from wire.http_server import add_operations, background, read_token

PUBLISHER = web.AppKey("publisher", Publisher)


class ServedBytes:
    """Counts what leaves the origin."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self._bytes = Counter(
            "headwater_origin_served_bytes", "Bytes sent.", ["kind"], registry=registry
        )
        self._answers = Counter(
            "headwater_origin_served", "Chunks and files sent.", ["kind"], registry=registry
        )

    def served(self, kind: str, size: int, cache_status: str) -> None:  # noqa: ARG002
        self._bytes.labels(kind).inc(size)
        self._answers.labels(kind).inc()


async def build_app(config: OriginConfig) -> web.Application:
    """An origin ready to be served.

    Raises:
        ConfigError: keys, token or store cannot be used; the message says which and what to do.
    """
    token = await asyncio.to_thread(read_token, config.admin_token_file)
    online_key = await asyncio.to_thread(load_key, config.keys_dir / ONLINE_KEY)
    store = await asyncio.to_thread(ObjectStore, config.store)
    repository = Repository.load(await store.trust_documents(), online_key)
    hub = EventHub(EventLog(secrets.token_hex(4)), config.events)
    publisher = Publisher(store, repository, hub, await store.gone_keys(), clock=time.time)
    executor = ThreadPoolExecutor(config.io_threads, thread_name_prefix="origin-io")
    registry = CollectorRegistry()

    app = web.Application(middlewares=[error_middleware()], client_max_size=0)
    app[PUBLISHER] = publisher
    add_operations(app, ready=lambda: None, registry=registry)
    ArtifactRoutes(
        server=OriginServer(publisher), executor=executor, counter=ServedBytes(registry)
    ).add_to(app)
    hub.add_to(app)
    AdminRoutes(
        publisher=publisher, token=token, max_body_bytes=config.max_admin_body_bytes
    ).add_to(app)
    app.cleanup_ctx.append(background("renew-trust", lambda: _renew(publisher, config)))
    app.on_cleanup.append(_closing(executor))
    return app


async def _renew(publisher: Publisher, config: OriginConfig) -> None:
    while True:
        await publisher.renew()
        await asyncio.sleep(config.retimestamp_s)


def _closing(executor: ThreadPoolExecutor) -> Callable[[web.Application], Awaitable[None]]:
    async def close(_app: web.Application) -> None:
        executor.shutdown(wait=False, cancel_futures=True)

    return close
