from __future__ import annotations

import asyncio
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import aiohttp
import pytest
import uvloop
from aiohttp import web
from aiohttp.test_utils import TestServer

from wire.http_sendfile import FilePart, send_parts

SIZE = 9 * 1024 * 1024 + 7
Loop = Callable[[], asyncio.AbstractEventLoop]


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "chunk"
    path.write_bytes(bytes(range(256)) * (SIZE // 256) + bytes(SIZE % 256))
    return path


def app_sending(file: Path, executor: ThreadPoolExecutor) -> web.Application:
    async def handler(request: web.Request) -> web.StreamResponse:
        start, end = int(request.query["start"]), int(request.query["end"])
        response = web.StreamResponse()
        response.content_length = end - start
        await response.prepare(request)
        middle = (start + end) // 2
        parts = [FilePart(file, start, middle - start), FilePart(file, middle, end - middle)]
        assert await send_parts(request, response, parts, executor) == 2
        await response.write_eof()
        return response

    app = web.Application()
    app.router.add_get("/", handler)
    return app


@pytest.mark.parametrize("new_loop", [asyncio.new_event_loop, uvloop.new_event_loop])
@pytest.mark.parametrize(("start", "end"), [(0, SIZE), (5, 6), (1_000_000, SIZE - 1)])
def test_exactly_the_bytes_asked_for_on_either_loop(
    file: Path, executor: ThreadPoolExecutor, new_loop: Loop, start: int, end: int
) -> None:
    async def main() -> list[bytes]:
        async with TestServer(app_sending(file, executor)) as server:
            url = server.make_url("/").with_query(start=start, end=end)
            async with aiohttp.ClientSession() as session:
                bodies = []
                for _ in range(2):  # the connection is fit for another answer
                    async with session.get(url) as answer:
                        bodies.append(await answer.read())
                return bodies

    with asyncio.Runner(loop_factory=new_loop) as runner:
        expected = file.read_bytes()[start:end]
        assert runner.run(main()) == [expected, expected]


async def test_a_slow_reader_gets_everything(file: Path, executor: ThreadPoolExecutor) -> None:
    async with TestServer(app_sending(file, executor)) as server:
        reader, writer = await asyncio.open_connection(server.host, server.port, limit=2**16)
        writer.write(f"GET /?start=0&end={SIZE} HTTP/1.0\r\n\r\n".encode())
        await reader.readuntil(b"\r\n\r\n")
        size = 0
        while data := await reader.read(2**16):
            size += len(data)
            await asyncio.sleep(0)
        writer.close()
    assert size == SIZE


async def test_a_client_that_leaves_ends_the_sending(
    file: Path, executor: ThreadPoolExecutor
) -> None:
    ended = asyncio.Event()

    async def handler(request: web.Request) -> web.StreamResponse:
        response = web.StreamResponse()
        response.content_length = SIZE
        await response.prepare(request)
        try:
            await send_parts(request, response, [FilePart(file, 0, SIZE)], executor)
        finally:
            ended.set()
        return response

    app = web.Application()
    app.router.add_get("/", handler)
    async with TestServer(app, handler_cancellation=True) as server:
        reader, writer = await asyncio.open_connection(server.host, server.port)
        writer.write(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n")
        await reader.readexactly(1000)
        writer.transport.abort()
        await asyncio.wait_for(ended.wait(), 30)


@pytest.mark.parametrize("new_loop", [asyncio.new_event_loop, uvloop.new_event_loop])
def test_a_file_that_is_gone_ends_the_run_before_it(
    tmp_path: Path, executor: ThreadPoolExecutor, new_loop: Loop
) -> None:
    for name in ("a", "c"):
        (tmp_path / name).write_bytes(name.encode() * 3)

    async def handler(request: web.Request) -> web.StreamResponse:
        response = web.StreamResponse()
        response.content_length = 5
        await response.prepare(request)
        parts = [FilePart(tmp_path / name, 1, 2) for name in ("a", "b", "c")]
        sent = await send_parts(request, response, parts, executor)
        await response.write(b"%d" % sent)
        assert await send_parts(request, response, parts[2:], executor) == 1
        return response

    async def main() -> bytes:
        app = web.Application()
        app.router.add_get("/", handler)
        async with (
            TestServer(app) as server,
            aiohttp.ClientSession() as session,
            session.get(server.make_url("/")) as answer,
        ):
            return await answer.read()

    with asyncio.Runner(loop_factory=new_loop) as runner:
        assert runner.run(main()) == b"aa1cc"


async def test_readers_that_are_slow_cost_no_thread(file: Path) -> None:
    """One thread; three clients that read nothing yet, and one that must be served all the same."""
    with ThreadPoolExecutor(1) as one_thread:
        async with TestServer(app_sending(file, one_thread)) as server:
            idle = []
            for _ in range(3):
                reader, writer = await asyncio.open_connection(server.host, server.port, limit=1024)
                writer.write(f"GET /?start=0&end={SIZE} HTTP/1.0\r\n\r\n".encode())
                await reader.readuntil(b"\r\n\r\n")
                idle.append(writer)
            url = server.make_url("/").with_query(start=0, end=SIZE)
            async with (
                asyncio.timeout(30),
                aiohttp.ClientSession() as session,
                session.get(url) as answer,
            ):
                assert len(await answer.read()) == SIZE
            for writer in idle:
                writer.close()
