"""Builds an origin from its configuration."""

from __future__ import annotations

import asyncio
import secrets
import time
from collections.abc import Awaitable, Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import structlog
from aiohttp import web
from prometheus_client import CollectorRegistry, Counter

from origin.admin import AdminRoutes
from origin.announce import Publisher
from origin.boots import BootDesk
from origin.config import OriginConfig
from origin.console.console import ConsoleParts, add_console
from origin.errors import StoreError
from origin.fleet import FleetView
from origin.fleet_keeper import FleetKeeper
from origin.fleet_metrics import FleetCollector
from origin.fleet_routes import FleetRoutes
from origin.keys import ONLINE_KEY, load_key, promote_if_writable
from origin.orders import Orders
from origin.purge_hook import PurgeHook, open_hook
from origin.rollout_metrics import RolloutCollector
from origin.rollout_routes import RolloutRoutes
from origin.rollouts import Rollouts
from origin.serving import OriginServer
from origin.signing import Repository
from origin.store import ObjectStore
from origin.takedowns import TakedownRoutes
from origin.trust_routes import TrustRoutes, spare_online_key
from origin.upkeep.jobs import Jobs
from origin.upkeep.routes import UpkeepRoutes
from wire.chunk import ChunkId
from wire.disk_metrics import DiskMetrics
from wire.errors import ConfigError, HeadwaterError, TrustError
from wire.events import EventLog
from wire.http_assets import AssetRoutes
from wire.http_errors import error_middleware
from wire.http_events import EventHub
from wire.http_facades import ERROR_BODIES, add_facades, open_access
from wire.http_files import FileSender
from wire.http_routes import ArtifactRoutes
from wire.http_server import add_operations, background, read_token
from wire.revision_reader import RevisionReader
from wire.telemetry.http_telemetry import add_telemetry
from wire.trust import TrustView
from wire.trust_metrics import TrustMetrics

_log = structlog.get_logger("origin")
PUBLISHER = web.AppKey("publisher", Publisher)
FLEET = web.AppKey("fleet", FleetView)
ORDERS = web.AppKey("orders", Orders)
BOOTS = web.AppKey("boots", BootDesk)
ROLLOUTS = web.AppKey("rollouts", Rollouts)


class OriginMetrics:
    """Counts what leaves the origin, and what was found rotten in its store."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self._corrupt = Counter(
            "headwater_origin_chunks_corrupt",
            "Chunks found rotten in the store and set aside; publish their revision again.",
            registry=registry,
        )
        self._bytes = Counter(
            "headwater_origin_served_bytes", "Bytes sent.", ["kind"], registry=registry
        )
        self._answers = Counter(
            "headwater_origin_served", "Chunks and files sent.", ["kind"], registry=registry
        )

    def served(self, kind: str, size: int, cache_status: str) -> None:  # noqa: ARG002
        self._bytes.labels(kind).inc(size)
        self._answers.labels(kind).inc()

    def sent(self) -> float:
        """Bytes of all kinds, since the start."""
        samples = [sample for family in self._bytes.collect() for sample in family.samples]
        return sum(sample.value for sample in samples if sample.name.endswith("_total"))

    def corrupt(self, _id: ChunkId) -> None:
        self._corrupt.inc()


async def build_app(config: OriginConfig) -> web.Application:
    """An origin ready to be served.

    Raises:
        ConfigError: keys, token or store cannot be used; the message says which and what to do.
    """
    registry = CollectorRegistry()
    metrics = OriginMetrics(registry)
    token = await asyncio.to_thread(read_token, config.admin_token_file)
    publisher, hub, hook = await _open(config, metrics, registry)
    executor = ThreadPoolExecutor(config.io_threads, thread_name_prefix="origin-io")
    server = OriginServer(publisher)
    access = await open_access(
        lambda: publisher.repository.view, config.pull_tokens_file, token, (token,)
    )
    revisions = RevisionReader(server, executor, config.facades.held_manifest_bytes)

    app = web.Application(middlewares=[error_middleware(ERROR_BODIES)], client_max_size=0)
    app[PUBLISHER] = publisher
    add_operations(app, ready=lambda: None, registry=registry)
    TrustMetrics(registry, lambda: publisher.repository.view)
    if not publisher.store.shared:
        DiskMetrics(registry, {"store": Path(config.store)})
    TakedownRoutes(gone=lambda: publisher.gone).add_to(app)  # before the path that matches all
    ArtifactRoutes(
        server=server,
        executor=executor,
        counter=metrics,
        documents=server.document,
        guard=access,
        revisions=revisions,
    ).add_to(app)
    hub.add_to(app)
    hook.add_to(app)
    AdminRoutes(
        publisher=publisher, token=token, max_body_bytes=config.max_admin_body_bytes
    ).add_to(app)
    TrustRoutes(
        publisher=publisher,
        token=token,
        max_body_bytes=config.max_admin_body_bytes,
        keys_dir=config.keys_dir,
    ).add_to(app)
    await _add_fleet(app, config, publisher, token, registry, metrics)
    sender = FileSender(server, executor, counter=metrics)
    AssetRoutes(access=access, revisions=revisions, sender=sender, config=config.assets).add_to(app)
    add_facades(app, sender, revisions, access, config.facades)
    upkeep = UpkeepRoutes(
        publisher=publisher,
        jobs=Jobs(),
        config=config.gc,
        token=token,
        max_body_bytes=config.max_admin_body_bytes,
    )
    upkeep.add_to(app)
    app.cleanup_ctx.append(background("renew-trust", lambda: _renew(publisher, config)))
    if publisher.store.shared and config.refresh_s > 0:
        app.cleanup_ctx.append(background("refresh", lambda: _refresh(publisher, config)))
    if config.scrub_interval_s > 0:
        interval_s, rate = config.scrub_interval_s, config.scrub_bytes_per_s
        app.cleanup_ctx.append(background("scrub", lambda: upkeep.scrub_for_ever(interval_s, rate)))
    if config.telemetry.traces.endpoint:
        raise ConfigError("[origin.telemetry.traces]: only edges and workers have traces")
    add_telemetry(app, registry, config.telemetry, tier="origin", port=config.port)
    app.on_cleanup.append(_closing(publisher, executor))
    return app


async def _add_fleet(
    app: web.Application,
    config: OriginConfig,
    publisher: Publisher,
    token: str,
    registry: CollectorRegistry,
    metrics: OriginMetrics,
) -> None:
    """What the edges report: as it was kept, then as they tell it, kept again at the end; and who
    may look at it."""
    edge_token = None
    if config.edge_token_file is not None:
        edge_token = await asyncio.to_thread(read_token, config.edge_token_file)
    view = FleetView(config.fleet, clock=time.monotonic)
    orders = Orders(view, config.fleet, clock=time.monotonic)
    keeper = FleetKeeper(view, orders, publisher.store, config.fleet)
    await keeper.load()
    app[FLEET], app[ORDERS] = view, orders

    def trust() -> TrustView:
        return publisher.repository.view

    rollouts = Rollouts(publisher, view, config.rollouts)
    boots = BootDesk(view, clock=time.monotonic)
    app[BOOTS], app[ROLLOUTS] = boots, rollouts
    FleetRoutes(
        view=view,
        orders=orders,
        boots=boots,
        trust=trust,
        token=token,
        edge_token=edge_token,
        on_report=rollouts.poke,
    ).add_to(app)
    RolloutRoutes(rollouts=rollouts, token=token).add_to(app)
    app.cleanup_ctx.append(background("rollouts", rollouts.run))
    registry.register(RolloutCollector(rollouts.records))
    registry.register(FleetCollector(view, trust))
    console = ConsoleParts(
        view=view,
        boots=boots,
        trust=trust,
        records=rollouts.records,
        sent=metrics.sent,
        token=token,
        store=publisher.store,
        refresh_s=config.refresh_s,
        takes_reports=edge_token is not None,
    )
    await add_console(app, console, config.console, registry)
    if edge_token is None:
        return
    app.cleanup_ctx.append(background("keep-fleet", keeper.run))

    async def keep(_app: web.Application) -> None:
        await keeper.save()

    app.on_shutdown.append(keep)


async def _open(
    config: OriginConfig, metrics: OriginMetrics, registry: CollectorRegistry
) -> tuple[Publisher, EventHub, PurgeHook]:
    """What is stored, verified."""
    online_key = await asyncio.to_thread(load_key, config.keys_dir / ONLINE_KEY)
    spare_key = await asyncio.to_thread(spare_online_key, config.keys_dir)
    store = await asyncio.to_thread(
        ObjectStore, config.store, config=config.s3, on_corrupt=metrics.corrupt
    )
    try:
        await store.sweep()
        documents = await store.trust_documents()
        repository = Repository.load(documents, online_key, spare_key=spare_key)
        if repository.online_key is spare_key:
            await asyncio.to_thread(promote_if_writable, config.keys_dir / ONLINE_KEY)
        gone = await store.gone_keys()
    except (StoreError, TrustError) as error:
        raise ConfigError(f"cannot use the store {config.store!r}: {error.message}") from error
    hub = EventHub(EventLog(secrets.token_hex(4)), config.events)
    hook = open_hook(
        hub, config.purge, registry, lambda: publisher.repository.view.versions["root"]
    )
    publisher = Publisher(store, repository, hook, gone, clock=time.time)
    await publisher.restore()
    return publisher, hub, hook


async def _renew(publisher: Publisher, config: OriginConfig) -> None:
    """For ever: a renewal that fails leaves what was signed last, and is tried again sooner."""
    while True:
        delay_s = config.retimestamp_s
        try:
            await publisher.renew()
        except HeadwaterError as error:
            delay_s = min(delay_s, config.retry_renewal_s)
            _log.error("trust not renewed", code=error.code, error=error.message)
        await asyncio.sleep(delay_s)


async def _refresh(publisher: Publisher, config: OriginConfig) -> None:
    """For ever: what another origin on the same bucket changes is taken over soon after."""
    while True:
        await asyncio.sleep(config.refresh_s)
        try:
            await publisher.refresh()
        except HeadwaterError as error:
            _log.error("store not read again", code=error.code, error=error.message)


def _closing(
    publisher: Publisher, executor: ThreadPoolExecutor
) -> Callable[[web.Application], Awaitable[None]]:
    async def close(_app: web.Application) -> None:
        await publisher.aclose()
        executor.shutdown(wait=False, cancel_futures=True)

    return close
