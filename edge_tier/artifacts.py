"""Assembles the artifact plane of an edge, and keeps its pointers fresh."""

from __future__ import annotations

import asyncio
import secrets
from concurrent.futures import ThreadPoolExecutor
from functools import partial

import structlog
from aiohttp import web
from prometheus_client import CollectorRegistry

from edge_tier.cache.documents import DocumentStore
from edge_tier.cache.fill import CachingSource, FillConfig
from edge_tier.cache.store import ChunkStore
from edge_tier.config import EdgeConfig
from edge_tier.metrics import CacheCollector, ServedBytes
from wire.errors import HeadwaterError
from wire.events import Event, EventLog
from wire.http_events import EventHub, follow
from wire.http_routes import ArtifactRoutes
from wire.http_server import background, read_token
from wire.http_source import HttpSource
from wire.sources.nearest import Nearest
from wire.trust_client import open_trust
from wire.trust_store import TrustStore

_log = structlog.get_logger("artifacts")


class ArtifactPlane:
    """The cache with everything around it. Made with :meth:`open`."""

    def __init__(
        self, config: EdgeConfig, trust: TrustStore, upstream: Nearest, cache: CachingSource
    ) -> None:
        self.trust = trust
        self.cache = cache
        self.upstream = upstream
        self._config = config
        self._hub = EventHub(EventLog(secrets.token_hex(4)), config.events)

    @classmethod
    async def open(cls, config: EdgeConfig, receivers: ThreadPoolExecutor) -> ArtifactPlane:
        """Open cache and trusted state, and start the cache.

        Raises:
            ConfigError: a file or folder cannot be used; says which.
        """
        token = read_token(config.origin_token_file) if config.origin_token_file else None
        trust = await asyncio.to_thread(open_trust, config.trust_dir, config.trust_root)
        upstream = Nearest(
            HttpSource(url, receivers, token=token, config=config.client) for url in config.origins
        )
        cache = CachingSource(
            upstream,
            ChunkStore(config.cache.folder / "chunks", config.cache.store),
            DocumentStore(config.cache.folder / "documents", config.cache.documents),
            FillConfig(
                fill_bytes_in_flight=config.cache.fill_bytes_in_flight,
                freshness=config.cache.freshness,
            ),
            verify=lambda bundle: _verify(trust, bundle),
            name=config.cache.name,
        )
        await cache.start()
        return cls(config, trust, upstream, cache)

    def add_to(
        self, app: web.Application, executor: ThreadPoolExecutor, registry: CollectorRegistry
    ) -> None:
        """Register routes, metrics and background work; the cache closes with the application."""
        registry.register(
            CacheCollector(
                lambda: self.cache.stats, lambda: self.cache.store.stats, self.upstream.stats
            )
        )
        if self._config.plane != "prompts":
            ArtifactRoutes(
                server=self.cache,
                executor=executor,
                cache_name=self._config.cache.name,
                pointers=self.cache,
                counter=ServedBytes(registry),
            ).add_to(app)
            self._hub.add_to(app)
        app.cleanup_ctx.append(background("refresh-trust", self._refresh_always))
        for url in self._config.origins:
            app.cleanup_ctx.append(background(f"follow-{url}", partial(self._follow, url)))
        app.on_cleanup.append(self._close)

    def not_ready(self) -> str | None:
        """Why the plane cannot serve yet; None where it can."""
        if self.trust.view is None:
            return "no verified trust metadata yet; is the origin reachable?"
        return None

    async def _follow(self, url: str) -> None:
        await follow(url, self._on_event, config=self._config.events)

    async def _on_event(self, event: Event) -> None:
        """Purge, learn what is signed now, and only then tell the workers."""
        await self.cache.purge(event.keys, hard=event.hard)
        await self._refresh()
        self._hub.publish(event.kind, event.keys, hard=event.hard)

    async def _refresh_always(self) -> None:
        while True:
            await self._refresh()
            await asyncio.sleep(self._config.refresh_s)

    async def _refresh(self) -> None:
        """Asking the cache revalidates it, and a bundle it takes in has been verified."""
        try:
            await self.cache.trust_bundle(0)
        except HeadwaterError as error:
            _log.warning("trust not refreshed", error=error.message)

    async def _close(self, _app: web.Application) -> None:
        await self.cache.aclose()


def _verify(trust: TrustStore, bundle: bytes) -> None:
    trust.update(bundle)
