"""wire.http_client: what test_http_source does not reach."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

import pytest
from aiohttp import web

from wire.errors import SourceUnavailableError, TooLargeError
from wire.http_client import BlockingClient

ServeApp = Callable[[web.Application], Awaitable[str]]


async def test_a_body_is_sent_and_the_answer_read(serve_app: ServeApp) -> None:
    async def handler(request: web.Request) -> web.Response:
        assert request.headers["Content-Type"] == "application/json"
        return web.Response(body=(await request.read())[::-1], headers={"X-Name": "V"})

    app = web.Application()
    app.router.add_put("/x", handler)
    client = BlockingClient(await serve_app(app))
    answer = await asyncio.to_thread(
        client.send, "PUT", "/x", b"abc", headers={"Content-Type": "application/json"}
    )
    client.close()
    assert (answer.status, bytes(answer.body), answer.headers["x-name"]) == (200, b"cba", "V")


@pytest.mark.parametrize("chunked", [True, False])
async def test_an_answer_over_the_limit_is_refused(serve_app: ServeApp, chunked: bool) -> None:
    async def handler(request: web.Request) -> web.StreamResponse:
        response = web.StreamResponse()
        if not chunked:
            response.content_length = 1001
        await response.prepare(request)
        await response.write(b"x" * 1001)
        return response

    app = web.Application()
    app.router.add_get("/", handler)
    client = BlockingClient(await serve_app(app))
    with pytest.raises(TooLargeError):
        await asyncio.to_thread(client.get, "/", limit_bytes=1000)
    client.close()


async def test_a_post_is_not_repeated(serve_app: ServeApp) -> None:
    """The server may have acted on it before the connection broke."""
    posts = 0

    async def handler(request: web.Request) -> web.StreamResponse:
        nonlocal posts
        if request.method == "GET":
            return web.Response(text="ok")
        posts += 1
        assert request.transport is not None
        request.transport.abort()
        return web.Response()

    app = web.Application()
    app.router.add_route("*", "/", handler)
    client = BlockingClient(await serve_app(app))
    await asyncio.to_thread(client.get, "/", limit_bytes=10)
    with pytest.raises(SourceUnavailableError):
        await asyncio.to_thread(client.send, "POST", "/", b"{}")
    client.close()
    assert posts == 1


async def test_an_empty_answer_leaves_the_connection_usable(serve_app: ServeApp) -> None:
    async def handler(_request: web.Request) -> web.Response:
        return web.Response(status=204)

    app = web.Application()
    app.router.add_get("/", handler)
    client = BlockingClient(await serve_app(app))
    for _ in range(3):
        answer = await asyncio.to_thread(client.get, "/", limit_bytes=10)
        assert (answer.status, bytes(answer.body)) == (204, b"")
    client.close()
