"""Assembles the artifact plane of an edge, and keeps its pointers, pins and takedowns fresh."""

from __future__ import annotations

import asyncio
import secrets
from concurrent.futures import ThreadPoolExecutor
from functools import partial

import structlog
from aiohttp import web
from prometheus_client import CollectorRegistry

from edge_tier.cache.documents import DocumentStore
from edge_tier.cache.fill import CachingSource
from edge_tier.cache.fill_config import FillConfig
from edge_tier.cache.pins import PinConfig, Pins
from edge_tier.cache.store import ChunkStore
from edge_tier.cache.takedowns import TakedownReader, encode_takedowns
from edge_tier.config import EdgeConfig
from edge_tier.metrics import CacheCollector, ServedBytes
from edge_tier.warm import Warmer
from edge_tier.warm_routes import WarmRoutes
from wire.disk_metrics import DiskMetrics
from wire.errors import HeadwaterError
from wire.events import RESET_KEY, Event, EventLog
from wire.http_assets import AssetRoutes
from wire.http_events import EventHub, follow
from wire.http_facades import add_facades, open_access
from wire.http_files import FileSender
from wire.http_range import etag_matches
from wire.http_routes import SHORT, ArtifactRoutes
from wire.http_server import background, read_token
from wire.http_source import HttpSource
from wire.paths import TAKEDOWNS
from wire.revision_reader import RevisionReader
from wire.sources.nearest import Nearest
from wire.trust_client import open_trust
from wire.trust_store import TrustStore

_log = structlog.get_logger("artifacts")
_KEYS_AN_EVENT = 500
"""So that an event stays below ``MAX_EVENT_BYTES``."""


class ArtifactPlane:
    """The cache with everything around it. Made with :meth:`open`."""

    def __init__(
        self,
        config: EdgeConfig,
        trust: TrustStore,
        upstream: Nearest,
        cache: CachingSource,
        token: str | None,
    ) -> None:
        self.trust = trust
        self.cache = cache
        self.upstream = upstream
        self._config = config
        settings = config.cache
        self._pins = Pins(
            cache,
            cache.store,
            cache.documents,
            PinConfig(pin=settings.pin, keep_previous=settings.keep_previous),
        )
        self.warmer = Warmer(cache, self._pins, lambda: trust.view, settings.warm)
        self._takedowns = tuple(
            TakedownReader(url, token=token, config=config.client) for url in config.origins
        )
        self._listed: tuple[tuple[str, ...], bytes, str] = ((), *encode_takedowns(()))
        """The takedowns as they were served last."""
        self._moved = asyncio.Event()
        """Trust was asked for: channels may point elsewhere."""
        self._lost = asyncio.Event()
        """Events were lost, and a takedown may have been among them."""
        self._hub = EventHub(EventLog(secrets.token_hex(4)), config.events)

    @classmethod
    async def open(cls, config: EdgeConfig, receivers: ThreadPoolExecutor) -> ArtifactPlane:
        """Open cache and trusted state, and start the cache.

        Raises:
            ConfigError: a file or folder cannot be used; says which.
        """
        token = read_token(config.origin_token_file) if config.origin_token_file else None
        trust = await asyncio.to_thread(open_trust, config.trust_dir, config.trust_root)
        origins = [
            HttpSource(url, receivers, token=token, config=config.client) for url in config.origins
        ]
        upstream = Nearest(origins, config=config.nearest)
        cache = CachingSource(
            upstream,
            ChunkStore(config.cache.folder / "chunks", config.cache.store),
            DocumentStore(config.cache.folder / "documents", config.cache.documents),
            FillConfig(
                fill_bytes_in_flight=config.cache.fill_bytes_in_flight,
                read_ahead_chunks=config.cache.read_ahead_chunks,
                freshness=config.cache.freshness,
            ),
            verify=lambda bundle: _verify(trust, bundle),
            members=origins,
            name=config.cache.name,
        )
        await cache.start()
        plane = cls(config, trust, upstream, cache, token)
        await plane._pins.start()
        return plane

    async def add_to(
        self,
        app: web.Application,
        executor: ThreadPoolExecutor,
        registry: CollectorRegistry,
        *,
        admin_token: str,
    ) -> None:
        """Register routes, metrics and background work; the cache closes with the application.

        Raises:
            ConfigError: a file of tokens cannot be used.
        """
        registry.register(
            CacheCollector(
                lambda: self.cache.stats,
                lambda: self.cache.store.stats,
                self.upstream.stats,
                degraded=lambda: self.cache.degraded,
            )
        )
        DiskMetrics(registry, {"cache": self._config.cache.folder})
        WarmRoutes(
            warmer=self.warmer, pins=self._pins, view=lambda: self.trust.view, token=admin_token
        ).add_to(app)
        if self._config.plane != "prompts":
            app.router.add_get(TAKEDOWNS, self._serve_takedowns)
            workers = await asyncio.to_thread(_worker_tokens, self._config)
            access = await open_access(
                lambda: self.trust.view, self._config.pull_tokens_file, admin_token, workers
            )
            counter, facades = ServedBytes(registry), self._config.facades
            revisions = RevisionReader(self.cache, executor, facades.held_manifest_bytes)
            ArtifactRoutes(
                server=self.cache,
                executor=executor,
                cache_name=self._config.cache.name,
                pointers=self.cache,
                counter=counter,
                guard=access,
                revisions=revisions,
            ).add_to(app)
            sender = FileSender(self.cache, executor, self._config.cache.name, counter)
            AssetRoutes(
                access=access, revisions=revisions, sender=sender, config=self._config.assets
            ).add_to(app)
            add_facades(app, sender, revisions, access, facades)
            self._hub.add_to(app)
        app.cleanup_ctx.append(background("refresh-trust", self._refresh_always))
        app.cleanup_ctx.append(background("keep-pins", self._keep_pins))
        app.cleanup_ctx.append(background("heal-takedowns", self._heal_takedowns))
        for url in self._config.origins:
            app.cleanup_ctx.append(background(f"follow-{url}", partial(self._follow, url)))
        app.on_cleanup.append(self._close)

    def not_ready(self) -> str | None:
        """Why the plane cannot serve yet; None where it can."""
        if self.trust.view is None:
            return "no verified trust metadata yet; is the origin reachable?"
        return None

    def degraded(self) -> str:
        """What does not work although the plane serves; empty while all is well."""
        return self.cache.degraded

    async def _follow(self, url: str) -> None:
        await follow(url, self._on_event, config=self._config.events)

    async def _on_event(self, event: Event) -> None:
        """Purge, learn what is signed now, and only then tell the workers."""
        await self.cache.purge(event.keys, hard=event.hard)
        if RESET_KEY in event.keys:
            self._lost.set()
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
        self._moved.set()

    async def _keep_pins(self) -> None:
        """Pins follow the channels, and what a roll brings is fetched before it is asked for."""
        while True:
            await self._moved.wait()
            self._moved.clear()
            await self.cache.probe()
            view = self.trust.view
            for rolled in await self._pins.update(view) if view is not None else ():
                try:
                    await self.warmer.preheat(rolled)
                except HeadwaterError as error:
                    _log.info("not preheated", model=rolled.model, reason=error.message)

    async def _heal_takedowns(self) -> None:
        """At the start, after lost events and now and then: what upstreams list as taken down."""
        while True:
            self._lost.clear()
            await asyncio.gather(*map(self._heal_from, self._takedowns))
            try:
                async with asyncio.timeout(self._config.refresh_s):
                    await self._lost.wait()
            except TimeoutError:
                continue

    async def _heal_from(self, reader: TakedownReader) -> None:
        try:
            news = await self.cache.take_down(await reader.read() or ())
        except HeadwaterError as error:
            _log.info("takedowns not read", error=error.message)
            return
        for first in range(0, len(news), _KEYS_AN_EVENT):
            self._hub.publish("purge", news[first : first + _KEYS_AN_EVENT], hard=True)

    async def _serve_takedowns(self, request: web.Request) -> web.Response:
        """All that was taken down, for those below."""
        keys = self.cache.takedowns()
        if keys != self._listed[0]:
            self._listed = (keys, *await asyncio.to_thread(encode_takedowns, keys))
        _, body, etag = self._listed
        headers = {"ETag": etag, "Cache-Control": SHORT}
        if etag_matches(request.headers.get("If-None-Match"), etag):
            return web.Response(status=304, headers=headers)
        return web.Response(body=body, content_type="application/json", headers=headers)

    async def _close(self, _app: web.Application) -> None:
        await self.warmer.aclose()
        for reader in self._takedowns:
            reader.close()
        await self.cache.aclose()


def _worker_tokens(config: EdgeConfig) -> tuple[str, ...]:
    """What opens everything to this edge's workers. An edge without prompts may have none."""
    if config.plane == "artifacts" and not config.worker_token_file.exists():
        return ()
    return (read_token(config.worker_token_file),)


def _verify(trust: TrustStore, bundle: bytes) -> None:
    trust.update(bundle)
