"""A real origin on an event loop of its own, watched from in front, with a CDN before it."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Coroutine, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

from aiohttp import web
from aiohttp.test_utils import TestServer
from aiohttp.typedefs import Handler

from edge_tier.app import build_app as build_edge
from edge_tier.config import CacheConfig, EdgeConfig
from infra.edge_admin import TierAdmin, total
from infra.pulling import Pulled, pull_model
from origin.announce import Publisher
from origin.app import PUBLISHER, build_app
from origin.config import OriginConfig
from origin.init import initialize
from origin.keys import PUBLISHER_KEY, load_key
from origin.offline import sign_revisions
from origin.purge_config import PurgeConfig, PurgeStyle, PurgeTarget
from tests.fakes.cdn import SECRET, Cdn, nginx, varnish
from tests.fakes.ports import free_port
from tests.fakes.replays import Answer, ask
from tests.fakes.revisions import Revision
from wire.assets import AssetsConfig
from wire.chunk import Chunk
from wire.files import write_atomically
from wire.pull_tokens import PullTokens

T = TypeVar("T")
STREAM = "/v1/chat/completions"
SHORT_LIVED = "/artifacts/channels/short/lived"
FAILING = "/artifacts/channels/failing/now"
EVENTS = 3
STYLES: dict[str, PurgeStyle] = {"nginx": "nginx", "varnish": "varnish"}
CDNS = {"nginx": nginx, "varnish": varnish}


@dataclass(slots=True)
class Watch:
    """What reached the origin, and how it is made to behave."""

    seen: list[tuple[str, str]] = field(default_factory=list)
    headers: list[dict[str, str]] = field(default_factory=list)
    delay_s: float = 0.0
    """Before each answer with a chunk."""
    short_lived: str = "one"
    """The body of a pointer that is good for one second."""
    events_read: int = 0
    """Of a stream, by its client: the next one is sent only then."""
    failing: bool = True
    """Whether ``FAILING`` answers 500, or else with a pointer."""

    def count(self, path: str) -> int:
        return sum(seen == path for _, seen in self.seen)

    @web.middleware
    async def middleware(self, request: web.Request, handler: Handler) -> web.StreamResponse:
        self.seen.append((request.method, request.path))
        self.headers.append({name.lower(): value for name, value in request.headers.items()})
        if request.path.startswith("/artifacts/chunks/"):
            await asyncio.sleep(self.delay_s)
        if request.path == SHORT_LIVED:
            caching = "public, max-age=1, stale-while-revalidate=30, stale-if-error=86400"
            return web.Response(text=self.short_lived, headers={"Cache-Control": caching})
        if request.path == FAILING:
            status = 500 if self.failing else 200
            # Even one that says it may be kept.
            return web.Response(status=status, headers={"Cache-Control": "public, max-age=60"})
        return await handler(request)

    async def stream(self, request: web.Request) -> web.StreamResponse:
        """Events with pauses, as prompts are answered."""
        await request.read()
        response = web.StreamResponse(headers={"Content-Type": "text/event-stream"})
        await response.prepare(request)
        for number in range(EVENTS):
            await response.write(f"data: {number}\n\n".encode())
            while self.events_read <= number:  # noqa: ASYNC110 - it is read in another thread
                await asyncio.sleep(0.002)
        await response.write(b"data: [DONE]\n\n")
        await response.write_eof()
        return response


class Rig:
    """Origin and CDN. ``reader`` is a pull token that opens every private model."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.watch = Watch()
        self.url = ""
        self.reader = ""
        self.cdn: Cdn
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="cdn-origin")
        self._server: TestServer

    def call(self, work: Coroutine[Any, Any, T]) -> T:
        """Run a coroutine where the origin lives."""
        return asyncio.run_coroutine_threadsafe(work, self._loop).result(30)

    @property
    def publisher(self) -> Publisher:
        return self._server.app[PUBLISHER]

    def start(self, port: int, targets: tuple[PurgeTarget, ...]) -> None:
        """Start an origin that tells these targets."""
        self._thread.start()
        self.call(self._start(port, targets))

    def stop(self) -> None:
        self.call(self._server.close())
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()

    def publish(self, revision: Revision, *, private: bool = False, channel: str = "stable") -> str:
        """Publish, and point a channel at it."""
        return self.call(self._publish(revision, private, channel))

    def roll(self, model: str, channel: str, revision: str) -> None:
        self.call(self._roll(model, channel, revision))

    def take_down(self, key: str) -> None:
        self.call(self.publisher.purge(key, hard=True))

    def served_bytes(self, kind: str = "chunk") -> float:
        """Bytes that the origin sent."""
        with TierAdmin(self.url) as admin:
            return total(admin.metrics(), "headwater_origin_served_bytes_total", kind=kind)

    def purges(self, outcome: str) -> float:
        with TierAdmin(self.url) as admin:
            return total(admin.metrics(), "headwater_origin_purges_total", outcome=outcome)

    def is_told(self) -> bool:
        """Whether the CDN was told of everything so far."""
        with TierAdmin(self.url) as admin:
            figures = admin.metrics()
        return total(figures, "headwater_origin_purges_waiting") == 0

    def pull(self, model: str, folder: Path, url: str = "") -> Pulled:
        """As ``headwater pull`` does, through the CDN where no other URL is given."""
        root = self.folder / "keys" / "root.json"
        with ThreadPoolExecutor(1) as pool:
            work = pull_model(model, "stable", [url or self.cdn.url], folder, root)
            return pool.submit(asyncio.run, work).result()

    def get(self, path: str, **headers: str) -> Answer:
        """GET through the CDN."""
        return ask("GET", self.cdn.url + path, _names(headers))

    def direct(self, path: str, **headers: str) -> Answer:
        """GET from the origin itself."""
        return ask("GET", self.url + path, _names(headers))

    @contextmanager
    def edge(self, name: str) -> Iterator[str]:
        """An edge that knows the origin by the CDN's URL alone, and asks with a token; its URL."""
        server = self.call(self._start_edge(name))
        try:
            yield str(server.make_url("")).rstrip("/")
        finally:
            self.call(server.close())

    async def _start_edge(self, name: str) -> TestServer:
        folder = self.folder / name
        for token in ("admin", "worker", "origin"):
            secret = self.reader if token == "origin" else token
            write_atomically(folder / f"{token}-token", secret.encode())
        config = EdgeConfig(
            plane="artifacts",
            origins=(self.cdn.url,),
            origin_token_file=folder / "origin-token",
            trust_root=self.folder / "keys" / "root.json",
            trust_dir=folder / "trust",
            refresh_s=60.0,
            admin_token_file=folder / "admin-token",
            worker_token_file=folder / "worker-token",
            cache=CacheConfig(folder=folder / "cache", name=name),
            assets=AssetsConfig(max_age_s=1),
        )
        server = TestServer(await build_edge(config), handler_cancellation=True)
        await server.start_server()
        return server

    async def _start(self, port: int, targets: tuple[PurgeTarget, ...]) -> None:
        folder = self.folder
        config = OriginConfig(
            store=str(folder / "store"),
            keys_dir=folder / "keys",
            admin_token_file=folder / "token",
            pull_tokens_file=folder / "pull-tokens.json",
            # An event waits for the caches, however long a busy machine takes to tell them.
            purge=PurgeConfig(targets=targets, hold_s=20.0),
            assets=AssetsConfig(),
        )
        await initialize(config, "passphrase")
        _, self.reader = PullTokens.open(config.pull_tokens_file).mint(["*"])
        app = await build_app(config)
        app.middlewares.insert(0, self.watch.middleware)
        app.router.add_post(STREAM, self.watch.stream)
        self._server = TestServer(app, port=port, handler_cancellation=True)
        await self._server.start_server()
        self.url = f"http://127.0.0.1:{port}"

    async def _publish(self, revision: Revision, private: bool, channel: str) -> str:
        publisher = self.publisher
        for data in revision.chunks.values():
            await publisher.store.put_chunk(Chunk.of(data))
        await publisher.store.put_manifest(revision.id, revision.data)
        await publisher.publish(
            sign_revisions(
                publisher.repository.trusted.bundle.roles["revisions"],
                load_key(self.folder / "keys" / PUBLISHER_KEY),
                [(revision.model, revision.id, len(revision.data))],
                now=time.time(),
                private=private,
                kind=revision.manifest.kind,
            )
        )
        await publisher.roll(revision.model, channel, revision.id)
        return revision.id

    async def _roll(self, model: str, channel: str, revision: str) -> None:
        await self.publisher.roll(model, channel, revision)


def _names(headers: dict[str, str]) -> dict[str, str]:
    return {name.replace("_", "-"): value for name, value in headers.items()}


@contextmanager
def running(style: str, folder: Path, *, told: bool = True) -> Iterator[Rig]:
    """An origin that tells a CDN of this style, and the CDN before it.

    Args:
        told: else the CDN is as shipped to the second, and only time tells it.
    """
    rig = Rig(folder / "origin")
    secret = folder / "purge-token"
    write_atomically(secret, SECRET.encode())
    port, front = free_port(), free_port()
    target = PurgeTarget(url=f"http://127.0.0.1:{front}", style=STYLES[style], token_file=secret)
    rig.start(port, (target,) if told else ())
    try:
        with CDNS[style](folder / "cdn", rig.url, front, hurry=told) as rig.cdn:
            yield rig
    finally:
        rig.stop()
