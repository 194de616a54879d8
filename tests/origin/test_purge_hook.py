from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Iterable
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web
from aiohttp.test_utils import TestServer
from prometheus_client import CollectorRegistry
from structlog.testing import capture_logs

from origin.purge_config import PurgeConfig, PurgeStyle, PurgeTarget
from origin.purge_hook import PurgeHook, open_hook
from tests.fakes.waiting import until
from wire.errors import ConfigError
from wire.events import EventKind
from wire.files import write_atomically

SECRET = "a-secret-of-the-tests"
QUICK = PurgeConfig(hold_s=60.0, retry_min_s=0.01, retry_max_s=0.02, timeout_s=60.0, attempts=3)
CHANNEL = "channel:chat@stable"


@dataclass
class Hub:
    """Remembers what it was told."""

    told: list[tuple[str, tuple[str, ...], bool]] = field(default_factory=list)

    def publish(self, kind: EventKind, keys: Iterable[str], *, hard: bool = False) -> None:
        self.told.append((kind, tuple(keys), hard))


@dataclass
class Cache:
    """A CDN's purge endpoint. ``status`` is what it answers, after ``gate`` is open."""

    status: int = 200
    bypass: str = "BYPASS"
    gate: asyncio.Event = field(default_factory=asyncio.Event)
    seen: list[tuple[str, str, dict[str, str]]] = field(default_factory=list)
    bodies: list[bytes] = field(default_factory=list)
    url: str = ""

    def __post_init__(self) -> None:
        self.gate.set()

    async def answer(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """One connection; written by hand, since servers of our kind refuse a method ``BAN``."""
        with suppress(asyncio.IncompleteReadError, ConnectionError):
            while True:
                head = (await reader.readuntil(b"\r\n\r\n")).decode().split("\r\n")
                method, path, _ = head[0].split(" ")
                headers = dict(line.split(": ", 1) for line in head[1:] if line)
                self.seen.append((method, path, headers))
                self.bodies.append(await reader.readexactly(int(headers.get("Content-Length", 0))))
                await self.gate.wait()
                told = f"HTTP/1.1 {self.status} -\r\nContent-Length: 0\r\nX-Cache: {self.bypass}"
                writer.write(told.encode() + b"\r\n\r\n")
                await writer.drain()
        writer.close()

    @property
    def keys(self) -> list[str]:
        """As told to Varnish."""
        told = [headers.get("Headwater-Purge", "") for _, _, headers in self.seen]
        return [key for keys in told for key in keys.split("|")]


@dataclass
class Desk:
    """The hook in an application, with a cache to tell."""

    hook: PurgeHook
    hub: Hub
    cache: Cache
    registry: CollectorRegistry

    def count(self, outcome: str) -> float:
        name = "headwater_origin_purges_total"
        return sum(
            sample.value
            for metric in self.registry.collect()
            for sample in metric.samples
            if sample.name == name and sample.labels["outcome"] == outcome
        )


@pytest.fixture
async def cache() -> AsyncIterator[Cache]:
    made = Cache()
    server = await asyncio.start_server(made.answer, "127.0.0.1", 0)
    made.url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
    async with server:
        yield made
        made.gate.set()


def config_of(folder: Path, url: str, style: PurgeStyle = "varnish", **changes: Any) -> PurgeConfig:
    write_atomically(folder / "token", SECRET.encode())
    target = PurgeTarget(url=url, style=style, token_file=folder / "token")
    return replace(QUICK, targets=(target,), **changes)


@asynccontextmanager
async def running(
    folder: Path, cache: Cache, style: PurgeStyle = "varnish", **changes: Any
) -> AsyncIterator[Desk]:
    registry, hub = CollectorRegistry(), Hub()
    path = "/hook" if style == "webhook" else ""
    config = config_of(folder, cache.url + path, style, **changes)
    hook = open_hook(hub, config, registry, root_version=lambda: 1)
    app = web.Application()
    hook.add_to(app)
    async with TestServer(app):
        yield Desk(hook, hub, cache, registry)


async def test_without_targets_everybody_is_told_at_once() -> None:
    hub = Hub()
    hook = open_hook(hub, PurgeConfig(), CollectorRegistry(), root_version=lambda: 1)
    hook.publish("channel", [CHANNEL])
    assert hub.told == [("channel", (CHANNEL,), False)]


async def test_caches_are_told_before_everybody_else(tmp_path: Path, cache: Cache) -> None:
    cache.gate.clear()
    async with running(tmp_path, cache) as desk:
        desk.hook.publish("channel", ["trust", CHANNEL])
        desk.hook.publish("purge", ["chunk:" + "0a" * 32], hard=True)
        await until(lambda: len(cache.seen) == 1)
        assert desk.hub.told == []
        cache.gate.set()
        await until(lambda: len(desk.hub.told) == 2)
        assert [kind for kind, _, _ in desk.hub.told] == ["channel", "purge"]
        assert desk.hub.told[1][2] is True
        assert cache.keys[:2] == ["trust", CHANNEL]
        assert desk.count("done") == 3


async def test_a_cache_that_hangs_holds_nobody_up_for_long(tmp_path: Path, cache: Cache) -> None:
    cache.gate.clear()
    async with running(tmp_path, cache, hold_s=0.05) as desk:
        desk.hook.publish("channel", [CHANNEL])
        await until(lambda: len(desk.hub.told) == 1)
        assert desk.count("done") + desk.count("retried") + desk.count("failed") == 0
        cache.gate.set()


async def test_a_cache_that_hangs_is_not_waited_for_with_every_key(
    tmp_path: Path, cache: Cache
) -> None:
    cache.gate.clear()
    keys = [f"chunk:{n:064x}" for n in range(1000)]
    async with running(
        tmp_path, cache, "nginx", timeout_s=0.2, hold_s=0.01, attempts=10_000, retry_max_s=0.01
    ) as desk:
        desk.hook.publish("purge", keys, hard=True)
        await until(lambda: desk.count("retried") >= len(keys))
        assert len(cache.seen) < 50
        desk.hook.publish("channel", [CHANNEL])
        cache.gate.set()
        await until(lambda: desk.count("done") == len(keys) + 1)


async def test_what_a_cache_did_not_take_is_told_again(tmp_path: Path, cache: Cache) -> None:
    cache.status = 503
    async with running(tmp_path, cache, attempts=10_000) as desk:
        desk.hook.publish("channel", [CHANNEL])
        await until(lambda: len(cache.seen) >= 3)
        assert desk.hub.told == [("channel", (CHANNEL,), False)]
        cache.status = 200
        await until(lambda: desk.count("done") == 1)
        assert desk.count("retried") >= 2
        assert desk.count("failed") == 0


async def test_it_is_given_up_in_the_end_and_counted(tmp_path: Path, cache: Cache) -> None:
    cache.status = 403
    async with running(tmp_path, cache) as desk:
        with capture_logs() as logs:
            desk.hook.publish("channel", [CHANNEL])
            await until(lambda: desk.count("failed") == 1)
        assert len(cache.seen) == QUICK.attempts
        assert SECRET not in str(logs)
        assert "status 403" in str(logs)


async def test_a_cache_that_is_not_there_is_no_error_of_the_publishers(
    tmp_path: Path, cache: Cache
) -> None:
    cache.url = "http://127.0.0.1:9"
    async with running(tmp_path, cache) as desk:
        desk.hook.publish("channel", [CHANNEL])
        await until(lambda: desk.count("failed") == 1)
        assert len(desk.hub.told) == 1


async def test_what_waits_is_told_together(tmp_path: Path, cache: Cache) -> None:
    cache.gate.clear()
    async with running(tmp_path, cache) as desk:
        desk.hook.publish("channel", [CHANNEL])
        await until(lambda: len(cache.seen) == 1)
        for _ in range(50):
            desk.hook.publish("channel", ["trust", CHANNEL])
        cache.gate.set()
        await until(lambda: len(desk.hub.told) == 51)
        assert len(cache.seen) == 2


async def test_too_many_become_one_for_all(tmp_path: Path, cache: Cache) -> None:
    async with running(tmp_path, cache, max_keys=10) as desk:
        desk.hook.publish("purge", [f"chunk:{n:064x}" for n in range(11)], hard=True)
        await until(lambda: desk.count("done") == 1)
        assert cache.keys == ["*"]


async def test_nginx_has_to_say_that_it_went_past_its_cache(tmp_path: Path, cache: Cache) -> None:
    cache.bypass = "HIT"
    async with running(tmp_path, cache, "nginx") as desk:
        desk.hook.publish("channel", [CHANNEL])
        await until(lambda: desk.count("failed") == 1)
        cache.bypass, cache.status = "BYPASS", 404
        desk.hook.publish("channel", [CHANNEL])
        await until(lambda: desk.count("done") == 1)
    method, path, headers = cache.seen[-1]
    assert (method, path) == ("GET", "/artifacts/channels/chat/stable")
    assert headers["Headwater-Refresh"] == SECRET


async def test_a_webhook_is_posted(tmp_path: Path, cache: Cache) -> None:
    cache.status = 202
    async with running(tmp_path, cache, "webhook") as desk:
        desk.hook.publish("purge", [CHANNEL], hard=True)
        await until(lambda: desk.count("done") == 1)
    assert cache.seen[0][:2] == ("POST", "/hook")
    assert json.loads(cache.bodies[0])["hard"] is True
    assert SECRET not in str(cache.seen)


async def test_what_is_held_at_the_end_is_still_told(tmp_path: Path, cache: Cache) -> None:
    cache.gate.clear()
    async with running(tmp_path, cache) as desk:
        desk.hook.publish("channel", [CHANNEL])
    assert desk.hub.told == [("channel", (CHANNEL,), False)]


@pytest.mark.parametrize(
    ("url", "style"),
    [
        ("cdn:6081", "varnish"),
        ("http://cdn/path", "nginx"),
        ("ftp://cdn", "webhook"),
        ("http://", "varnish"),
    ],
)
def test_a_url_that_cannot_be_one_is_refused(tmp_path: Path, url: str, style: PurgeStyle) -> None:
    with pytest.raises(ConfigError, match=r"origin\.purge"):
        open_hook(Hub(), config_of(tmp_path, url, style), CollectorRegistry(), lambda: 1)


def test_a_secret_that_others_can_read_is_refused(tmp_path: Path) -> None:
    config = config_of(tmp_path, "http://cdn")
    (tmp_path / "token").chmod(0o644)
    with pytest.raises(ConfigError, match="chmod 600"):
        open_hook(Hub(), config, CollectorRegistry(), lambda: 1)
