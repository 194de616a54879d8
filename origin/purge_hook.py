"""Tells the caches in front of the origin what changed, and only then everybody else.

A change is signed and stored before anything is told, so nothing here can fail or delay it. Events
wait for the caches, at most ``hold_s``: an edge that asks through a CDN as soon as it hears of a
roll should not get the pointer as it was. A cache that does not answer is told again, with growing
pauses; until then it serves what it has for as long as the headers let it.
"""

from __future__ import annotations

import asyncio
import time
import uuid
from collections import deque
from collections.abc import AsyncIterator, Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Protocol
from urllib.parse import urlsplit

import aiohttp
import structlog
from aiohttp import web
from prometheus_client import CollectorRegistry, Counter, Gauge

from origin.edgegrid import Credentials, authorization, read_edgerc, timestamp
from origin.purge_config import PurgeConfig, PurgeTarget
from origin.purge_requests import PurgeRequest, requests_for
from wire.errors import ConfigError
from wire.events import RESET_KEY, EventKind
from wire.http_server import guard, read_token

_log = structlog.get_logger("purge")
CACHE_HEADER = "X-Cache"
BYPASSED = "BYPASS"
_SILENT_MOST = 8
"""Requests in a row without an answer, after which a cache is left alone until the next attempt."""


class Announcer(Protocol):
    """Whoever is told of a change: an ``EventHub``, or what stands before it."""

    def publish(self, kind: EventKind, keys: Iterable[str], *, hard: bool = False) -> object:
        """These surrogate keys changed; ``hard``: were taken down."""
        ...


class PurgeMetrics:
    """Counts what caches were told."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self._keys = Counter(
            "headwater_origin_purges",
            "Surrogate keys told to caches in front: done, retried, failed (given up).",
            ["target", "outcome"],
            registry=registry,
        )
        self._waiting = Gauge(
            "headwater_origin_purges_waiting",
            "Surrogate keys that a cache in front was not told yet.",
            ["target"],
            registry=registry,
        )

    def count(self, target: str, outcome: str, keys: int) -> None:
        self._keys.labels(target, outcome).inc(keys)

    def waiting(self, target: str, keys: int) -> None:
        self._waiting.labels(target).set(keys)


@dataclass(slots=True)
class _Want:
    hard: bool
    attempts: int = 0


@dataclass(slots=True)
class _Attempt:
    """One telling of all that waits. ``silent``: requests without an answer, in a row.
    ``limited``: it was said that this is too much."""

    gate: asyncio.Semaphore
    silent: int = 0
    limited: bool = False


_LIMITED = "status 429: told too much at once"
Sign = Callable[[PurgeRequest, str], Mapping[str, str]]
"""More headers for a request to this URL, made as it is sent."""


def _unsigned(_request: PurgeRequest, _url: str) -> Mapping[str, str]:
    return {}


class Desk:
    """One cache: what it was not told yet, and the telling.

    Args:
        root_version: the newest root's version.
        sign: signs requests, where their style wants that.
    """

    def __init__(
        self,
        target: PurgeTarget,
        secret: str,
        config: PurgeConfig,
        metrics: PurgeMetrics,
        root_version: Callable[[], int],
        sign: Sign = _unsigned,
    ) -> None:
        self.name = _name(target)
        self._sign = sign
        self._target, self._secret, self._config = target, secret, config
        self._metrics, self._root_version = metrics, root_version
        self._wants: dict[str, _Want] = {}
        self._tried: list[asyncio.Future[None]] = []
        self._wake = asyncio.Event()
        self._delay_s = config.retry_min_s

    def add(self, keys: Iterable[str], *, hard: bool) -> asyncio.Future[None]:
        """Take keys in; done once they were tried for the first time."""
        for key in keys:
            want = self._wants.setdefault(key, _Want(hard))
            want.hard, want.attempts = want.hard or hard, 0
        if len(self._wants) > self._config.max_keys:
            self._wants = {RESET_KEY: _Want(hard=False)}
        self._metrics.waiting(self.name, len(self._wants))
        tried = asyncio.get_running_loop().create_future()
        self._tried.append(tried)
        self._wake.set()
        return tried

    async def run(self) -> None:
        """For ever: tell what is to be told."""
        timeout = aiohttp.ClientTimeout(total=self._config.timeout_s)
        async with aiohttp.ClientSession(timeout=timeout) as session:
            while True:
                await self._something_to_do()
                tried, self._tried = self._tried, []
                try:
                    await self._tell(session)
                finally:
                    for future in tried:
                        if not future.done():
                            future.set_result(None)

    async def _something_to_do(self) -> None:
        pause_s = self._delay_s if self._wants else None
        try:
            async with asyncio.timeout(pause_s):
                await self._wake.wait()
        except TimeoutError:
            pass  # time for another attempt
        self._wake.clear()

    async def _tell(self, session: aiohttp.ClientSession) -> None:
        wants, self._wants = self._wants, {}
        requests = requests_for(
            self._target.style,
            {key: want.hard for key, want in wants.items()},
            secret=self._secret,
            root_version=self._root_version(),
            now_s=time.time(),
            network=self._target.network,
        )
        # One that hangs must not be waited for with each of thousands of keys: what is told
        # meanwhile would wait for hours behind them.
        attempt = _Attempt(asyncio.Semaphore(self._config.requests_at_once))
        reasons = await asyncio.gather(*(self._send(session, attempt, r) for r in requests))
        failed = {
            key: reason
            for request, reason in zip(requests, reasons, strict=True)
            if reason
            for key in request.keys
        }
        self._settle(wants, failed)

    def _settle(self, wants: dict[str, _Want], failed: dict[str, str]) -> None:
        done = len(wants) - len(failed)
        self._metrics.count(self.name, "done", done)
        lost = 0
        for key, reason in failed.items():
            want = wants[key]
            if reason != _LIMITED:
                want.attempts += 1
            if want.attempts >= self._config.attempts:
                lost += 1
            else:
                newer = self._wants.setdefault(key, want)
                newer.hard = newer.hard or want.hard
        self._metrics.count(self.name, "retried", len(failed) - lost)
        self._metrics.count(self.name, "failed", lost)
        self._metrics.waiting(self.name, len(self._wants))
        if not failed:
            self._delay_s = self._config.retry_min_s
            return
        reason = next(iter(failed.values()))
        _log.warning("cache not told", target=self.name, keys=len(failed), lost=lost, reason=reason)
        self._delay_s = min(2 * self._delay_s, self._config.retry_max_s)
        if _LIMITED in failed.values():
            self._delay_s = max(self._delay_s, self._config.rate_limited_s)

    async def _send(
        self, session: aiohttp.ClientSession, attempt: _Attempt, request: PurgeRequest
    ) -> str:
        """Why it did not work; empty where it did."""
        url = self._target.url.rstrip("/") + request.path if request.path else self._target.url
        async with attempt.gate:
            if attempt.silent >= _SILENT_MOST:
                return "it answers nothing"
            if attempt.limited:
                return _LIMITED
            try:
                async with session.request(
                    request.method,
                    url,
                    headers={**request.headers, **self._sign(request, url)},
                    data=request.body or None,
                    allow_redirects=False,
                ) as answer:
                    attempt.silent = 0
                    attempt.limited = attempt.limited or answer.status == 429
                    return _judge(request, answer.status, answer.headers.get(CACHE_HEADER, ""))
            except (aiohttp.ClientError, OSError) as error:
                attempt.silent += 1
                return f"{type(error).__name__}: {error}"[:200]


class PurgeHook:
    """Stands before an event hub, as the same thing to whoever announces.

    Args:
        hub: told after the caches.
        desks: one for each cache; with none, the hub is told at once.
    """

    def __init__(self, hub: Announcer, desks: Sequence[Desk], *, hold_s: float) -> None:
        self._hub = hub
        self._desks = tuple(desks)
        self._hold_s = hold_s
        self._held: deque[_Held] = deque()
        self._news = asyncio.Event()

    def publish(self, kind: EventKind, keys: Iterable[str], *, hard: bool = False) -> None:
        """Tell the caches, and soon everybody; never waits, never fails."""
        if not self._desks:
            self._hub.publish(kind, keys, hard=hard)
            return
        told = tuple(keys)
        until_s = asyncio.get_running_loop().time() + self._hold_s
        tried = [desk.add(told, hard=hard) for desk in self._desks]
        self._held.append(_Held(kind, told, hard, until_s, tried))
        self._news.set()

    def add_to(self, app: web.Application) -> None:
        """Run for as long as the application does; what is held at its end is told then."""
        if self._desks:
            app.cleanup_ctx.append(self._running)

    async def _running(self, _app: web.Application) -> AsyncIterator[None]:
        works = [
            ("announce", self._announce()),
            *((f"purge {d.name}", d.run()) for d in self._desks),
        ]
        tasks = [asyncio.create_task(guard(name, work), name=name) for name, work in works]
        yield
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        while self._held:
            self._release()

    async def _announce(self) -> None:
        """For ever: events in their order, each after the caches were told or its time is over."""
        while True:
            await self._news.wait()
            self._news.clear()
            while self._held:
                held = self._held[0]
                left_s = held.until_s - asyncio.get_running_loop().time()
                await asyncio.wait(held.tried, timeout=max(0.0, left_s))
                self._release()

    def _release(self) -> None:
        held = self._held.popleft()
        self._hub.publish(held.kind, held.keys, hard=held.hard)


@dataclass(frozen=True, slots=True)
class _Held:
    kind: EventKind
    keys: tuple[str, ...]
    hard: bool
    until_s: float
    tried: list[asyncio.Future[None]]


def open_hook(
    hub: Announcer,
    config: PurgeConfig,
    registry: CollectorRegistry,
    root_version: Callable[[], int],
) -> PurgeHook:
    """The hook as configured. Reads the secrets.

    Raises:
        ConfigError: a URL or a token file cannot be used.
    """
    metrics = PurgeMetrics(registry)
    desks = [_desk(target, config, metrics, root_version) for target in config.targets]
    return PurgeHook(hub, desks, hold_s=config.hold_s)


def _desk(
    target: PurgeTarget,
    config: PurgeConfig,
    metrics: PurgeMetrics,
    root_version: Callable[[], int],
) -> Desk:
    if target.style != "akamai":
        _check_url(target)
        return Desk(target, read_token(target.token_file), config, metrics, root_version)
    credentials = read_edgerc(target.token_file, target.section)
    target = replace(target, url=target.url or f"https://{credentials.host}")
    _check_url(target)
    return Desk(target, "", config, metrics, root_version, partial(_edgegrid, credentials))


def _edgegrid(credentials: Credentials, request: PurgeRequest, url: str) -> Mapping[str, str]:
    parts = urlsplit(url)
    signed = authorization(
        credentials,
        method=request.method,
        scheme=parts.scheme,
        host=parts.netloc,
        target=parts.path,
        body=request.body,
        at=timestamp(time.time()),
        nonce=str(uuid.uuid4()),
    )
    return {"Authorization": signed}


def _check_url(target: PurgeTarget) -> None:
    parts = urlsplit(target.url)
    plain = parts.path in {"", "/"} or target.style == "webhook"
    if parts.scheme not in {"http", "https"} or not parts.hostname or not plain:
        raise ConfigError(
            f"origin.purge: {_name(target)!r} must be http[s]://host[:port]"
            + ("/path" if target.style == "webhook" else " without a path")
        )


def _name(target: PurgeTarget) -> str:
    """For logs and metrics: no path, query or userinfo, which may be secrets."""
    if target.style == "akamai":
        return f"akamai:{target.section}/{target.network}"
    return f"{target.style}:{urlsplit(target.url).netloc.rpartition('@')[2]}"


def _judge(request: PurgeRequest, status: int, cache: str) -> str:
    if request.needs_bypass:
        if cache != BYPASSED:
            return f"status {status}, and it did not go past the cache: another secret there?"
        # A path that nobody may have, or that never was, is refreshed as well as one that is.
        return "" if status in {200, 404, 410} else f"status {status}"
    if status == 429:
        return _LIMITED
    return "" if 200 <= status < 300 else f"status {status}{_HINTS.get(status, '')}"


_HINTS = {
    401: ": not the secret or credentials that it knows, or a clock that is off",
    403: ": these credentials may not purge there",
}
