from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable

import aiohttp
import msgspec
import pytest
from aiohttp import web

from wire.http_bodies import read_body, read_json
from wire.http_errors import error_middleware

ServeApp = Callable[[web.Application], Awaitable[str]]
LIMIT_BYTES = 20


class Wanted(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    name: str


@pytest.fixture
async def url(serve_app: ServeApp) -> str:
    async def raw(request: web.Request) -> web.Response:
        return web.Response(body=await read_body(request, LIMIT_BYTES))

    async def parsed(request: web.Request) -> web.Response:
        return web.Response(text=(await read_json(request, Wanted, LIMIT_BYTES)).name)

    app = web.Application(middlewares=[error_middleware()], client_max_size=0)
    app.router.add_post("/raw", raw)
    app.router.add_post("/json", parsed)
    return await serve_app(app)


async def pieces(*parts: bytes) -> AsyncIterator[bytes]:
    for part in parts:
        yield part
        await asyncio.sleep(0)


async def posted(url: str, body: bytes | AsyncIterator[bytes]) -> tuple[int, bytes]:
    async with aiohttp.ClientSession() as session, session.post(url, data=body) as answer:
        return answer.status, await answer.read()


@pytest.mark.parametrize("body", [b"", b"x", b"x" * LIMIT_BYTES])
async def test_a_body_within_its_bound_is_read_whole(url: str, body: bytes) -> None:
    assert await posted(f"{url}/raw", body) == (200, body)
    assert await posted(f"{url}/raw", pieces(body[:7], body[7:])) == (200, body)


async def test_one_beyond_it_is_refused_announced_or_not(url: str) -> None:
    body = b"x" * (LIMIT_BYTES + 1)
    assert (await posted(f"{url}/raw", body))[0] == 413
    assert (await posted(f"{url}/raw", pieces(body[:7], body[7:])))[0] == 413


async def test_json_becomes_a_value(url: str) -> None:
    assert await posted(f"{url}/json", b'{"name":"a"}') == (200, b"a")


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"{",
        b"[]",
        b'{"name":1}',
        b'{"x":"y"}',
        b"\xff",
        b'{"name":"\xff"}',
        b"[" * LIMIT_BYTES,
    ],
)
async def test_what_is_no_such_value_is_said(url: str, body: bytes) -> None:
    status, answer = await posted(f"{url}/json", body)
    assert status == 400
    assert b"request body" in answer
