"""What every tier's process needs around its routes: health, metrics, tokens, start and stop."""

from __future__ import annotations

import asyncio
import hmac
import json
import os
import signal
import socket
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import Any, Protocol

import msgspec
import structlog
from aiohttp import web
from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.exposition import CONTENT_TYPE_LATEST

from wire.errors import ConfigError, HeadwaterError, UnauthorizedError
from wire.files import open_to_others, write_atomically
from wire.loop_lag import LoopLag
from wire.operations_metrics import OperationsMetrics
from wire.paths import HEALTHZ, METRICS, READYZ
from wire.service_manager import (
    Manager,
    manager_from_environment,
    running,
    send,
    starting,
    stopping,
)

_log = structlog.get_logger("server")
NO_STORE = {"Cache-Control": "no-store"}
_LOOK_S = 0.5
"""How often a process that is not ready yet is looked at."""
_STOP_MARGIN_S = 10.0
"""For what follows the streams: engines, threads, the last report."""


class Entrance(Protocol):
    """Stands before the web application: makes the protocol of each connection."""

    def __call__(self) -> asyncio.BaseProtocol: ...

    async def sweep(self) -> None:
        """Look after connections until cancelled."""
        ...

    async def drain(self, timeout_s: float) -> None:
        """Let running answers finish, then end all connections."""
        ...


ENTRANCE: web.AppKey[Callable[[Callable[[], asyncio.Protocol]], Entrance]] = web.AppKey("entrance")
"""Makes the application's entrance, where it has one; gets what makes its own protocols."""


class Life:
    """Whether a process is still to get traffic, and who wants to know when that ends."""

    def __init__(self, ready: Callable[[], str | None]) -> None:
        self._ready = ready
        self.stopping = False
        self.on_stopping: list[Callable[[], None]] = []
        """Called once, as soon as the process is told to stop; what is open still is answered."""

    def not_ready(self) -> str | None:
        """Why nothing new is to come here; None where it may."""
        return "stopping" if self.stopping else self._ready()

    def stop(self) -> None:
        """From now on ``/readyz`` says no."""
        self.stopping = True
        for tell in self.on_stopping:
            tell()


LIFE: web.AppKey[Life] = web.AppKey("life", Life)


class NotReadyError(HeadwaterError):
    """The process is up but must not get traffic yet, or any more."""

    status = 503
    code = "not_ready"


def add_operations(
    app: web.Application,
    *,
    ready: Callable[[], str | None],
    registry: CollectorRegistry,
    degraded: Callable[[], str] | None = None,
) -> None:
    """Register ``/healthz``, ``/readyz`` and ``/metrics``.

    Args:
        ready: why the process is not ready, or None where it is.
        registry: this application's own metrics.
        degraded: what does not work although the process serves; empty while all is well. Such a
            process stays ready (200): without it there would be less, not more.
    """
    life = app[LIFE] = Life(ready)

    OperationsMetrics(registry, ready, degraded)
    app.cleanup_ctx.append(background("loop-lag", LoopLag(registry).run))

    async def healthz(_request: web.Request) -> web.Response:
        return web.json_response({"status": "ok"}, headers=NO_STORE)

    async def readyz(_request: web.Request) -> web.Response:
        reason = life.not_ready()
        if reason is not None:
            raise NotReadyError(reason)
        problem = degraded() if degraded is not None else ""
        state = {"status": "degraded", "degraded": problem} if problem else {"status": "ready"}
        return web.json_response(state, headers=NO_STORE)

    async def metrics(_request: web.Request) -> web.Response:
        headers = {"Content-Type": CONTENT_TYPE_LATEST, **NO_STORE}
        return web.Response(body=generate_latest(registry), headers=headers)

    app.router.add_get(HEALTHZ, healthz)
    app.router.add_get(READYZ, readyz)
    app.router.add_get(METRICS, metrics)


def json_answer(value: object) -> web.Response:
    """A value as JSON that no cache keeps; structs and dataclasses too."""
    return web.Response(
        body=msgspec.json.encode(value), content_type="application/json", headers=NO_STORE
    )


def require_token(request: web.Request, token: str) -> None:
    """Refuse a request without this bearer token; compared in constant time.

    Raises:
        UnauthorizedError: no token, or another one.
    """
    scheme, _, given = request.headers.get("Authorization", "").partition(" ")
    if scheme.lower() != "bearer" or not hmac.compare_digest(
        given.encode("utf-8", "surrogateescape"), token.encode()
    ):
        raise UnauthorizedError(
            "a valid bearer token is needed", headers={"WWW-Authenticate": "Bearer"}
        )


def read_token(path: Path) -> str:
    """A secret from a file that nobody else may read (``wire.files.open_to_others``).

    Raises:
        ConfigError: missing, empty, or readable by others.
    """
    try:
        found = path.stat()
        text = path.read_text().strip()
    except OSError as error:
        raise ConfigError(f"cannot read the token file {path}: {error.strerror}") from error
    if open_to_others(path, found):
        raise ConfigError(f"token file {path} is readable by others; chmod 600 it")
    if not text:
        raise ConfigError(f"token file {path} is empty")
    return text


async def guard(name: str, work: Coroutine[Any, Any, None]) -> None:
    """Run a background task to its end and log how it ended; only cancellation is silent."""
    try:
        await work
    except asyncio.CancelledError:
        raise
    except Exception:
        _log.exception("background task died", task=name)
        raise


def background(
    name: str, work: Callable[[], Coroutine[Any, Any, None]]
) -> Callable[[web.Application], Any]:
    """A cleanup context that runs ``work`` as long as the application lives."""

    async def context(_app: web.Application) -> Any:
        async with _meanwhile(name, work):
            yield

    return context


@asynccontextmanager
async def _meanwhile(
    name: str, work: Callable[[], Coroutine[Any, Any, None]]
) -> AsyncIterator[None]:
    """Run something in the background while the block runs."""

    async def begun() -> None:
        # Called here, since a task that is cancelled before it begins awaits nothing.
        await guard(name, work())

    task = asyncio.create_task(begun(), name=name)
    try:
        yield
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


async def serve(
    app: web.Application,
    *,
    host: str,
    port: int,
    ready_file: Path | None,
    drain_s: float,
    drain_delay_s: float = 0.0,
    reuse_port: bool = False,
    own_port: int = 0,
    on_bound: Callable[[str], Awaitable[None]] | None = None,
) -> None:
    """Serve until SIGTERM or SIGINT, then let running answers finish for ``drain_s`` seconds.

    Args:
        ready_file: gets ``{"url", "pid"}`` once the socket listens.
        drain_delay_s: how long new connections are still served after the signal, while
            ``/readyz`` says no already: whoever balances load needs so long to notice. A second
            signal ends it.
        own_port: where to listen, too, if several processes share ``port``; 0: nowhere. It is
            how others reach this process.
        on_bound: told the URL before the file is written.
    """
    # Before anybody can learn that we listen: a signal that comes at once must not kill us.
    told = _told_to_stop()
    life = app.get(LIFE) or Life(lambda: None)
    manager = manager_from_environment()
    # A client that leaves cancels its handler, which stops what it had set going.
    runner = web.AppRunner(
        app, access_log=None, shutdown_timeout=drain_s, handler_cancellation=True
    )
    async with _setting_up(manager):
        await runner.setup()
    try:
        listeners = [_listen(host, port, reuse_port=reuse_port)]
        if own_port:
            listeners.append(_listen(host, own_port, reuse_port=False))
        sites = [_Site(runner, listener, app.get(ENTRANCE)) for listener in listeners]
        for site in sites:
            await site.start()
        shown = f"[{host}]" if ":" in host else host
        url = f"http://{shown}:{listeners[-1].getsockname()[1]}"
        if on_bound is not None:
            await on_bound(url)
        if ready_file is not None:
            body = json.dumps({"url": url, "pid": os.getpid()}).encode()
            await asyncio.to_thread(write_atomically, ready_file, body)
        _log.info("listening", url=url)
        async with _telling(manager, life, drain_delay_s + drain_s):
            await told.wait()
            _log.info("stopping", drain_delay_s=drain_delay_s, drain_s=drain_s)
            life.stop()
            await _delay(told, drain_delay_s)
            await asyncio.gather(*(site.drain(drain_s) for site in sites))
    finally:
        await runner.cleanup()


async def _delay(told: asyncio.Event, seconds: float) -> None:
    """Wait so long, or until the next signal."""
    told.clear()
    with suppress(TimeoutError):
        await asyncio.wait_for(told.wait(), seconds)


@asynccontextmanager
async def _setting_up(manager: Manager | None) -> AsyncIterator[None]:
    """Ask the service manager, if there is one, for time while the block runs: what the tier opens
    and reads before it listens may be large, and the disk slow."""
    if manager is None:
        yield
        return

    async with _meanwhile("manager-start", lambda: _ask_for_time(manager)):
        yield


@asynccontextmanager
async def _telling(manager: Manager | None, life: Life, stop_s: float) -> AsyncIterator[None]:
    """Tell the service manager, if there is one, how this process is, while the block runs."""
    if manager is None:
        yield
        return
    life.on_stopping.append(lambda: send(manager, stopping(stop_s + _STOP_MARGIN_S)))
    async with _meanwhile("manager", lambda: _beat(manager, life)):
        yield


async def _ask_for_time(manager: Manager) -> None:
    while True:
        send(manager, starting("setting up", manager.beat_s))
        await asyncio.sleep(manager.beat_s)


async def _beat(manager: Manager, life: Life) -> None:
    """From the event loop itself: where that hangs, the watchdog's time runs out."""
    was_ready = False
    while True:
        reason, beat_s = life.not_ready(), manager.beat_s
        if was_ready or reason is None:
            send(manager, running(reason, first=not was_ready))
            was_ready = True
        else:
            send(manager, starting(reason, beat_s))
            beat_s = min(beat_s, _LOOK_S)
        await asyncio.sleep(beat_s)


class _Site(web.SockSite):
    """Serves a bound socket, through the application's entrance where it has one."""

    def __init__(
        self,
        runner: web.AppRunner,
        bound: socket.socket,
        entrance: Callable[[Callable[[], asyncio.Protocol]], Entrance] | None,
    ) -> None:
        super().__init__(runner, bound)
        self._bound = bound
        server = runner.server
        assert server is not None
        self._entrance = entrance(server) if entrance is not None else None
        self._sweeping: asyncio.Task[None] | None = None

    async def start(self) -> None:
        if self._entrance is None:
            await super().start()
            return
        await web.BaseSite.start(self)
        loop = asyncio.get_running_loop()
        self._server = await loop.create_server(self._entrance, sock=self._bound, backlog=1024)
        sweep = guard("entrance", self._entrance.sweep())
        self._sweeping = asyncio.create_task(sweep, name="entrance")

    async def drain(self, timeout_s: float) -> None:
        """Take no more connections, and let the entrance's finish."""
        await self.stop()
        if self._entrance is not None and self._sweeping is not None:
            await self._entrance.drain(timeout_s)
            self._sweeping.cancel()


def _listen(host: str, port: int, *, reuse_port: bool) -> socket.socket:
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    listener = socket.socket(family, socket.SOCK_STREAM)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    if reuse_port:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
    try:
        listener.bind((host, port))
    except OSError as error:
        listener.close()
        raise ConfigError(f"cannot listen on {host}:{port}: {error.strerror}") from error
    listener.listen(1024)
    listener.setblocking(False)
    return listener


def _told_to_stop() -> asyncio.Event:
    """Set by SIGTERM or SIGINT."""
    told = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, told.set)
    return told
