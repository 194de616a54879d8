"""Keeps the view of the fleet in the store, so that a restart of the origin forgets nothing.

One small object, written whole: soon after a node comes, goes or changes what it serves, and now
and then for the ages. What cannot be read is left alone and logged: the edges tell everything again
within a second, and only what is gone is lost.
"""

from __future__ import annotations

import asyncio
import socket
import time
from collections.abc import Callable

import msgspec
import structlog

from origin.fleet import FleetConfig, FleetView
from origin.fleet_nodes import FleetKept
from origin.orders import OrderKept, Orders
from origin.store import ObjectStore
from wire.errors import ConfigError, HeadwaterError, NameInvalidError
from wire.paths import model_name

_log = structlog.get_logger("fleet")
FORMAT = "headwater.fleet/1"
_LOOK_S = 1.0
"""How soon a change is kept; and never two within that time."""


class Snapshot(msgspec.Struct, frozen=True, kw_only=True):
    """What is kept."""

    format: str
    written: float
    """Seconds since 1970."""
    view: FleetKept
    orders: tuple[OrderKept, ...] = ()


class FleetKeeper:
    """Reads the view at the start, and writes it as it changes.

    Args:
        clock: seconds since 1970.

    Raises:
        ConfigError: ``fleet.name`` cannot be the name of an object.
    """

    def __init__(
        self,
        view: FleetView,
        orders: Orders,
        store: ObjectStore,
        config: FleetConfig,
        *,
        clock: Callable[[], float] = time.time,
        look_s: float = _LOOK_S,
    ) -> None:
        self._view = view
        self._orders = orders
        self._store = store
        self._config = config
        self._clock = clock
        self._look_s = look_s
        self._name = _name(config.name or (socket.gethostname() if store.shared else "origin"))
        self._kept: tuple[int, int] = (0, 0)
        """The versions that were kept last."""
        self._failing = False

    async def load(self) -> None:
        """Begin with what an earlier life kept."""
        try:
            data = await self._store.fleet(self._name)
            if data is None:
                return
            kept = msgspec.json.decode(data, type=Snapshot)
            if kept.format != FORMAT:
                _log.warning("view of the fleet not read", reason=f"format {kept.format[:40]!r}")
                return
        except (HeadwaterError, msgspec.DecodeError, RecursionError) as error:
            _log.warning("view of the fleet not read", reason=str(error)[:300])
            return
        elapsed_s = self._clock() - kept.written
        self._view.restore(kept.view, elapsed_s=elapsed_s)
        self._orders.restore(kept.orders, elapsed_s=elapsed_s)
        self._kept = self._versions()

    async def run(self) -> None:
        """For ever: keep what changed, and the ages now and then."""
        due = self._clock() + self._config.snapshot_s
        while True:
            await asyncio.sleep(self._look_s)
            # A clock that was set back must not put it off.
            over = not 0 < due - self._clock() <= self._config.snapshot_s
            if self._versions() != self._kept or over:
                due = self._clock() + self._config.snapshot_s
                await self.save()

    async def save(self) -> None:
        """Keep the view as it is now. A store that fails is logged once, and tried again."""
        versions = self._versions()
        snapshot = Snapshot(
            format=FORMAT,
            written=self._clock(),
            view=self._view.snapshot(),
            orders=self._orders.snapshot(),
        )
        try:
            data = await asyncio.to_thread(msgspec.json.encode, snapshot)
            await self._store.put_fleet(self._name, data)
        except HeadwaterError as error:
            if not self._failing:
                _log.error("view of the fleet not kept", code=error.code, error=error.message)
            self._failing = True
            return
        self._failing, self._kept = False, versions

    def _versions(self) -> tuple[int, int]:
        return self._view.version, self._orders.version


def _name(text: str) -> str:
    try:
        return model_name(text)
    except NameInvalidError as error:
        raise ConfigError(f"origin.fleet.name {text!r} cannot be used: {error.message}") from error
