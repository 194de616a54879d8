"""edge_tier.gateway.upstream_connection: what is on the wire, over real sockets."""

from __future__ import annotations

import asyncio

import pytest
import uvloop

from edge_tier.gateway.errors import UpstreamError
from edge_tier.gateway.passthrough import Passthrough
from edge_tier.gateway.relay import StreamScan
from edge_tier.gateway.upstream import UpstreamPool
from tests.fakes.raw_http import Start, read_request, whole
from tests.fakes.waiting import until


@pytest.mark.parametrize(
    "answer",
    [
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\none\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Length: 99\r\n\r\nshort",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n",
    ],
)
async def test_an_answer_broken_off_is_an_error(start: Start, answer: bytes) -> None:
    async def handler(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await read_request(reader)
        writer.write(answer)
        await writer.drain()
        writer.close()

    pool = UpstreamPool(await start(handler))
    response = await pool.post("/", b"{}")
    with pytest.raises(UpstreamError):
        await response.read(100)
    response.close()
    await pool.aclose()


@pytest.mark.parametrize(
    "answer", [b"", b"SSH-2.0-OpenSSH\r\n", b"HTTP/1.1 200 OK\r\nX: " + b"y" * 70_000 + b"\r\n\r\n"]
)
async def test_what_is_no_http_is_an_error(start: Start, answer: bytes) -> None:
    async def handler(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await read_request(reader)
        writer.write(answer)
        await writer.drain()
        writer.close()

    pool = UpstreamPool(await start(handler))
    with pytest.raises(UpstreamError):
        await pool.post("/", b"{}")
    await pool.aclose()


def test_it_works_on_the_event_loop_that_the_edge_runs_on() -> None:
    async def main() -> bytes:
        ended = asyncio.Event()

        async def handler(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            await read_request(reader)
            writer.write(whole(b"ok", "Connection: close\r\n"))
            await writer.drain()
            writer.close()
            await writer.wait_closed()
            ended.set()

        server = await asyncio.start_server(handler, "127.0.0.1", 0)
        pool = UpstreamPool(f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}")
        response = await pool.post("/", b"{}")
        body = await response.read(10)
        response.close()
        await pool.aclose()
        await ended.wait()
        server.close()
        await server.wait_closed()
        return body

    assert uvloop.run(main()) == b"ok"


async def test_interim_answers_are_passed_over(start: Start) -> None:
    """Were one taken for the answer, the answer itself would go to the next request."""

    async def handler(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while True:
            _, body = await read_request(reader)
            writer.write(b"HTTP/1.1 103 Early Hints\r\nLink: <x>\r\n\r\n")
            await asyncio.sleep(0.01)
            writer.write(b"HTTP/1.1 100 Continue\r\n\r\n" + whole(body))

    pool = UpstreamPool(await start(handler))
    for body in (b"1", b"22"):
        response = await pool.post("/", body)
        assert response.status == 200
        assert await response.read(100) == body
        response.close()
    await pool.aclose()


@pytest.mark.parametrize("second", [whole(b"not yours"), b"HTTP/1.1 200 OK\r\nContent-Le", b"H"])
async def test_a_second_answer_is_nobodys(start: Start, second: bytes) -> None:
    connections = 0

    async def handler(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal connections
        connections += 1
        while True:
            _, body = await read_request(reader)
            writer.write(whole(body) + second)

    pool = UpstreamPool(await start(handler))
    for body in (b"1", b"22"):
        response = await pool.post("/", body)
        assert await response.read(100) == body
        assert "content-length" in response.headers
        response.close()
    assert connections == 2
    await pool.aclose()


async def test_what_follows_a_spliced_answer_costs_its_connection(start: Start) -> None:
    connections = said = 0
    chunked = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"

    async def handler(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal connections, said
        connections += 1
        while True:
            await read_request(reader)
            writer.write(chunked)
            await asyncio.sleep(0.01)
            writer.write(b"0\r\n\r\n")
            await asyncio.sleep(0.01)
            writer.write(whole(b"not yours"))
            said += 1

    pool = UpstreamPool(await start(handler))
    for turn in range(1, 3):
        response = await pool.post("/", b"")
        passing = Passthrough(StreamScan(keep_usage=True))
        sink = passing.sink(lambda _: None, response.on_end, response.fail)
        await response.splice(sink, lambda: 0)
        await until(lambda turn=turn: said == turn)  # type: ignore[misc]
        for _ in range(20):  # until it has come
            await asyncio.sleep(0)
        response.close()
    assert connections == 2
    await pool.aclose()


async def test_a_head_without_an_end_is_not_kept(start: Start) -> None:
    async def handler(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await read_request(reader)
        writer.write(b"HTTP/1.1 200 OK\r\nX-Long: ")
        while True:
            writer.write(b"x" * 10_000)
            await writer.drain()

    pool = UpstreamPool(await start(handler))
    with pytest.raises(UpstreamError, match="too large"):
        await pool.post("/", b"")
    await pool.aclose()
