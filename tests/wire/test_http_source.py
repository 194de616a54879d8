from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from concurrent.futures import ThreadPoolExecutor

import pytest
from aiohttp import web

from wire.chunk import MAX_CHUNK_BYTES, Chunk, ChunkId
from wire.errors import (
    ChunkMismatchError,
    ConfigError,
    GoneError,
    HeadwaterError,
    ManifestInvalidError,
    NotFoundError,
    SourceUnavailableError,
    UnauthorizedError,
)
from wire.http_client import BlockingClient, ClientConfig
from wire.http_source import HttpSource

ServeApp = Callable[[web.Application], Awaitable[str]]
CHUNK = Chunk.of(b"weights" * 1000)


def app_answering(
    handler: Callable[[web.Request], Awaitable[web.StreamResponse]],
) -> web.Application:
    app = web.Application()
    app.router.add_get("/{path:.*}", handler)
    return app


async def fetch(
    base_url: str, executor: ThreadPoolExecutor, *, stall_timeout_s: float = 30.0
) -> Chunk:
    config = ClientConfig(stall_timeout_s=stall_timeout_s, connect_timeout_s=30.0)
    source = HttpSource(base_url, executor, config=config)
    try:
        return await source.chunk(CHUNK.id)
    finally:
        await source.aclose()


async def test_a_chunk_arrives_verified(serve_app: ServeApp, executor: ThreadPoolExecutor) -> None:
    async def handler(request: web.Request) -> web.Response:
        assert request.path == f"/artifacts/chunks/{CHUNK.id}"
        return web.Response(body=bytes(CHUNK.data))

    chunk = await fetch(await serve_app(app_answering(handler)), executor)
    assert bytes(chunk.data) == CHUNK.data


async def test_a_bit_flipped_in_transit_is_a_mismatch(
    serve_app: ServeApp, executor: ThreadPoolExecutor
) -> None:
    async def handler(_request: web.Request) -> web.Response:
        data = bytearray(CHUNK.data)
        data[17] ^= 4
        return web.Response(body=bytes(data))

    with pytest.raises(ChunkMismatchError):
        await fetch(await serve_app(app_answering(handler)), executor)


@pytest.mark.parametrize(
    ("status", "body", "error"),
    [
        (206, b"part", SourceUnavailableError),
        (302, b"", SourceUnavailableError),
        (400, b"{}", HeadwaterError),
        (401, b"", UnauthorizedError),
        (404, b"<html>", NotFoundError),
        (410, b'{"code":"gone"}', GoneError),
        (502, b'{"code":"chunk_mismatch","detail":"x"}', ChunkMismatchError),
        (502, b'{"code":[]}', SourceUnavailableError),
        (503, b"[" * 1000, SourceUnavailableError),
    ],
)
async def test_every_other_answer_is_an_error_of_ours(
    serve_app: ServeApp,
    executor: ThreadPoolExecutor,
    status: int,
    body: bytes,
    error: type[Exception],
) -> None:
    async def handler(_request: web.Request) -> web.Response:
        return web.Response(status=status, body=body)

    with pytest.raises(error):
        await fetch(await serve_app(app_answering(handler)), executor)


async def test_a_body_cut_short_is_no_chunk(
    serve_app: ServeApp, executor: ThreadPoolExecutor
) -> None:
    async def handler(request: web.Request) -> web.StreamResponse:
        response = web.StreamResponse()
        response.content_length = len(CHUNK)
        await response.prepare(request)
        await response.write(bytes(CHUNK.data)[:100])
        assert request.transport is not None
        request.transport.abort()
        return response

    with pytest.raises(SourceUnavailableError):
        await fetch(await serve_app(app_answering(handler)), executor)


async def test_an_announced_length_is_bounded_before_it_is_believed(
    serve_app: ServeApp, executor: ThreadPoolExecutor
) -> None:
    async def handler(request: web.Request) -> web.StreamResponse:
        response = web.StreamResponse()
        response.content_length = MAX_CHUNK_BYTES + 1
        await response.prepare(request)
        return response

    with pytest.raises(SourceUnavailableError, match="over"):
        await fetch(await serve_app(app_answering(handler)), executor)


async def test_a_server_that_stalls_is_given_up(
    serve_app: ServeApp, executor: ThreadPoolExecutor
) -> None:
    async def handler(request: web.Request) -> web.StreamResponse:
        response = web.StreamResponse()
        response.content_length = 10
        await response.prepare(request)
        await asyncio.Event().wait()
        return response

    with pytest.raises(SourceUnavailableError, match="stalled"):
        await fetch(await serve_app(app_answering(handler)), executor, stall_timeout_s=0.5)


async def test_nobody_there_is_unavailable(executor: ThreadPoolExecutor) -> None:
    with pytest.raises(SourceUnavailableError, match="connect"):
        await fetch("http://127.0.0.1:9", executor)


async def test_doubt_is_told_to_the_server(
    serve_app: ServeApp, executor: ThreadPoolExecutor
) -> None:
    asked: list[str | None] = []

    async def handler(request: web.Request) -> web.Response:
        asked.append(request.headers.get("Cache-Control"))
        return web.Response(body=bytes(CHUNK.data))

    source = HttpSource(await serve_app(app_answering(handler)), executor)
    await source.chunk(CHUNK.id)
    await source.chunk(CHUNK.id, revalidate=True)
    await source.aclose()
    assert asked == [None, "no-cache"]


async def test_another_manifest_is_refused(
    serve_app: ServeApp, executor: ThreadPoolExecutor
) -> None:
    async def handler(_request: web.Request) -> web.Response:
        return web.Response(body=b"{}")

    source = HttpSource(await serve_app(app_answering(handler)), executor)
    with pytest.raises(ManifestInvalidError):
        await source.manifest("0" * 64)
    await source.aclose()


async def test_a_token_is_sent_and_never_shown(
    serve_app: ServeApp, executor: ThreadPoolExecutor
) -> None:
    async def handler(request: web.Request) -> web.Response:
        assert request.headers["Authorization"] == "Bearer s3cret"
        raise web.HTTPServiceUnavailable

    source = HttpSource(await serve_app(app_answering(handler)), executor, token="s3cret")
    with pytest.raises(SourceUnavailableError) as caught:
        await source.chunk(ChunkId("0" * 64))
    await source.aclose()
    assert "s3cret" not in str(caught.value)


async def test_connections_are_reused_and_a_closed_one_is_replaced(
    serve_app: ServeApp, executor: ThreadPoolExecutor
) -> None:
    peers: set[object] = set()

    async def handler(request: web.Request) -> web.Response:
        assert request.transport is not None
        peers.add(request.transport.get_extra_info("peername"))
        response = web.Response(body=bytes(CHUNK.data))
        if request.query_string == "drop":
            response.force_close()
        return response

    client = BlockingClient(await serve_app(app_answering(handler)))
    for target in ("/a", "/b", "/c?drop", "/d"):
        answer = await asyncio.to_thread(client.get, target, limit_bytes=MAX_CHUNK_BYTES)
        assert answer.status == 200
    client.close()
    assert len(peers) == 2


@pytest.mark.parametrize("url", ["", "ftp://x", "http://", "http://h/path", "h:80"])
def test_a_bad_url_is_refused(url: str) -> None:
    with pytest.raises(ConfigError):
        BlockingClient(url)
