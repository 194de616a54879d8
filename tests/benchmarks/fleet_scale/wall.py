"""A wall between two halves of a fleet: a TCP relay that can be cut, and behind which an attacker
can stand meanwhile with what was true before."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable

from aiohttp import web

from wire.events import EventLog
from wire.http_events import EventHub
from wire.paths import TRUST_BUNDLE


class Wall:
    """Relays a port to another one while it is open.

    Args:
        target: the port behind it.
    """

    def __init__(self, target: int) -> None:
        self.port = 0
        self._target = target
        self._server: asyncio.Server | None = None
        self._open: set[asyncio.StreamWriter] = set()
        self._tasks: set[asyncio.Task[None]] = set()

    async def open(self) -> None:
        """Let connections through; always at the same port."""
        self._server = await asyncio.start_server(self._relay, "127.0.0.1", self.port)
        self.port = self._server.sockets[0].getsockname()[1]

    async def cut(self) -> None:
        """Break all connections and take no more."""
        if self._server is not None:
            self._server.close()
        for writer in list(self._open):
            writer.transport.abort()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    async def _relay(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        self._open.add(writer)
        with contextlib.suppress(OSError):
            far_reader, far_writer = await asyncio.open_connection("127.0.0.1", self._target)
            self._open.add(far_writer)
            await asyncio.gather(_pour(reader, far_writer), _pour(far_reader, writer))
            self._open.discard(far_writer)
        self._open.discard(writer)


async def _pour(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    with contextlib.suppress(OSError):
        while data := await reader.read(65_536):
            writer.write(data)
            await writer.drain()
    writer.close()


class FrozenMirror:
    """Serves one old trust bundle for ever, and calls everybody to look at it again and again."""

    def __init__(self, bundle: bytes) -> None:
        self._bundle = bundle
        self._hub = EventHub(EventLog("mirror"))
        self.asked = 0

    async def start(self, port: int) -> Callable[[], object]:
        """Listen where the wall stood; returns what stops it."""
        app = web.Application()
        app.router.add_get(TRUST_BUNDLE, self._serve)
        self._hub.add_to(app)
        runner = web.AppRunner(app)
        await runner.setup()
        await web.TCPSite(runner, "127.0.0.1", port).start()
        return runner.cleanup

    def call(self) -> None:
        """Send everybody an event."""
        self._hub.publish("reset", ["*"])

    async def _serve(self, _request: web.Request) -> web.Response:
        self.asked += 1
        return web.Response(body=self._bundle, content_type="application/json")
