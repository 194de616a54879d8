"""A test server whose connections come through the gateway's front door."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

from aiohttp import web
from aiohttp.test_utils import TestServer
from yarl import URL

from wire.http_server import Entrance


class FrontServer(TestServer):
    """A web application behind an entrance.

    Args:
        entrance: makes it from what makes the application's own protocols.
    """

    def __init__(
        self,
        app: web.Application,
        entrance: Callable[[Callable[[], asyncio.Protocol]], Entrance],
    ) -> None:
        super().__init__(app, handler_cancellation=True)
        self._make_entrance = entrance
        self._tasks: list[asyncio.Task[None]] = []
        self.entrance: Entrance | None = None

    async def start_server(
        self, loop: asyncio.AbstractEventLoop | None = None, **kwargs: Any
    ) -> None:
        await super().start_server(loop, **kwargs)
        if self.entrance is not None:
            return
        assert self.runner is not None
        assert self.runner.server is not None
        self.entrance = self._make_entrance(self.runner.server)
        running = asyncio.get_running_loop()
        self._door = await running.create_server(self.entrance, "127.0.0.1", 0)
        self._tasks = [asyncio.create_task(self.entrance.sweep(), name="entrance")]
        self.port = self._door.sockets[0].getsockname()[1]
        self._root = URL(f"http://127.0.0.1:{self.port}")

    async def close(self) -> None:
        if self.entrance is not None:
            self._door.close()
            await self.entrance.drain(0)
            for task in self._tasks:
                task.cancel()
            await asyncio.gather(*self._tasks, return_exceptions=True)
        await super().close()
