"""Assembles the console of an origin."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version

from aiohttp import web
from prometheus_client import CollectorRegistry

from origin.boots import BootDesk
from origin.console.access import Logins, Tries
from origin.console.assets import read_assets
from origin.console.build import Look
from origin.console.config import ConsoleConfig
from origin.console.ledger import Ledger
from origin.console.live import Live
from origin.console.pages import PageRoutes
from origin.console.playground import Relay
from origin.console.routes import ConsoleRoutes
from origin.fleet import FleetView
from origin.rollout_records import ChannelRecord
from origin.store import ObjectStore
from wire.http_server import background
from wire.trust import TrustView

_RELAY = web.AppKey("relay", Relay)
_PAUSE_S = 5.0
"""Between two looks at the table of logins, where the store is not read again otherwise."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ConsoleParts:
    """What the console shows, from the rest of the origin."""

    view: FleetView
    boots: BootDesk
    trust: Callable[[], TrustView]
    records: Callable[[], list[ChannelRecord]]
    sent: Callable[[], float]
    """Bytes that left this origin since it began."""
    token: str
    """The administrator's."""
    store: ObjectStore
    refresh_s: float
    """How often a store that others write in is read again."""
    takes_reports: bool
    """Whether edges may report to this origin."""


async def add_console(
    app: web.Application,
    parts: ConsoleParts,
    config: ConsoleConfig,
    registry: CollectorRegistry,
) -> None:
    """Register the console, unless it is turned off.

    Raises:
        ConfigError: its files cannot be used.
    """
    if not config.enabled:
        return
    told = _version()

    def look() -> Look:
        trust = parts.trust()
        return Look(
            at=time.time(),
            version=told,
            edges=parts.view.edges(),
            workers=parts.view.workers(),
            pointers=trust.pointers(),
            records=parts.records(),
            trust=trust.state,
            takes_reports=parts.takes_reports,
        )

    live = Live(look, parts.view.edges, parts.sent, config, registry)
    logins = Logins(parts.token, clock=time.time, lasts_s=config.session_s)
    ledger = Ledger(
        parts.store,
        logins.name,
        most=config.max_logins,
        pause_s=parts.refresh_s or _PAUSE_S,
        clock=time.time,
        ticking=time.monotonic,
    )
    await ledger.load()
    ConsoleRoutes(
        config=config,
        logins=logins,
        ledger=ledger,
        tries=Tries(
            clock=time.monotonic,
            at_once=config.login_tries,
            per_minute=config.login_tries_per_minute,
        ),
        live=live,
        boots=parts.boots,
        clock=time.time,
        relay=lambda: app[_RELAY],
    ).add_to(app)
    PageRoutes(assets=await asyncio.to_thread(read_assets)).add_to(app)

    async def relay(app: web.Application) -> AsyncIterator[None]:
        app[_RELAY] = made = Relay(config)
        yield
        await made.aclose()

    async def close(_app: web.Application) -> None:
        await ledger.aclose()

    app.cleanup_ctx.append(relay)
    app.cleanup_ctx.append(background("console", live.run))
    app.cleanup_ctx.append(background("console-logins", ledger.run))
    app.on_shutdown.append(close)


def _version() -> str:
    try:
        return version("headwater")
    except PackageNotFoundError:
        return "unknown"
