from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import AsyncExitStack

import pytest
from aiohttp import web
from aiohttp.test_utils import TestServer

Serve = Callable[[web.Application], "AsyncIterator[str]"]


@pytest.fixture
def executor() -> Iterator[ThreadPoolExecutor]:
    """Threads for blocking clients and file I/O."""
    with ThreadPoolExecutor(8) as pool:
        yield pool


@pytest.fixture
async def serve_app() -> AsyncIterator[Callable[[web.Application], object]]:
    """Serves applications on loopback; gives their base URLs."""
    async with AsyncExitStack() as stack:

        async def serve(app: web.Application) -> str:
            server = TestServer(app)
            await stack.enter_async_context(server)
            return str(server.make_url("")).rstrip("/")

        yield serve
