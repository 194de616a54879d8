"""edge_tier.gateway.upstream_response: an answer, over real sockets."""

from __future__ import annotations

import asyncio

import pytest

from edge_tier.gateway.errors import UpstreamError
from edge_tier.gateway.upstream import UpstreamConfig, UpstreamPool
from tests.fakes.raw_http import Start, read_request, whole
from tests.fakes.waiting import until


async def test_a_stream_is_pumped_as_it_arrives(start: Start) -> None:
    more = asyncio.Event()

    async def handler(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await read_request(reader)
        writer.write(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\none\r\n")
        await more.wait()
        writer.write(b"3\r\ntwo\r\n0\r\n\r\n")

    pool = UpstreamPool(await start(handler))
    response = await pool.post("/", b"{}")
    assert await response.first() == b"one"
    got: list[bytes] = []
    task = asyncio.create_task(response.pump(got.append))
    await until(lambda: got == [b"one"])
    more.set()
    await task
    assert got == [b"one", b"two"]
    response.close()
    await pool.aclose()


async def test_closing_early_tells_the_backend_at_once(start: Start) -> None:
    closed = asyncio.Event()

    async def handler(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await read_request(reader)
        writer.write(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\none\r\n")
        assert await reader.read() == b""
        closed.set()

    pool = UpstreamPool(await start(handler))
    response = await pool.post("/", b"{}")
    await response.first()
    response.close()
    response.close()
    await asyncio.wait_for(closed.wait(), 30)
    await pool.aclose()


async def test_a_body_over_the_limit_is_refused(start: Start) -> None:
    async def handler(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await read_request(reader)
        writer.write(whole(b"x" * 1000))

    pool = UpstreamPool(await start(handler))
    response = await pool.post("/", b"{}")
    with pytest.raises(UpstreamError, match="over"):
        await response.read(999)
    response.close()
    await pool.aclose()


async def test_a_body_nobody_takes_is_held_back(start: Start) -> None:
    sent = 0

    async def handler(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal sent
        await read_request(reader)
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 100000000\r\n\r\n")
        while True:
            writer.write(b"x" * 65536)
            await writer.drain()
            sent += 65536

    pool = UpstreamPool(await start(handler), config=UpstreamConfig(max_buffered_bytes=100_000))
    response = await pool.post("/", b"{}")
    await response.first()
    for _ in range(50):
        await asyncio.sleep(0.002)
    assert sent < 20_000_000  # what the kernel's buffers take, not the whole body
    response.close()
    await pool.aclose()


async def test_cancelling_the_wait_closes_the_connection(start: Start) -> None:
    asked, closed = asyncio.Event(), asyncio.Event()

    async def handler(reader: asyncio.StreamReader, _writer: asyncio.StreamWriter) -> None:
        await read_request(reader)
        asked.set()
        assert await reader.read() == b""
        closed.set()

    pool = UpstreamPool(await start(handler))
    task = asyncio.create_task(pool.post("/", b"{}"))
    await asked.wait()
    task.cancel()
    await asyncio.wait_for(closed.wait(), 30)
    await pool.aclose()


async def test_a_body_that_is_held_is_not_passed_by(start: Start) -> None:
    """What waits to be taken comes before what a splice would give."""

    async def handler(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await read_request(reader)
        writer.write(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n1\r\na\r\n")
        await reader.read()

    pool = UpstreamPool(await start(handler))
    response = await pool.post("/", b"")
    assert await response.first() == b"a"
    before = response.spliceable
    assert response.take() == b"a"
    assert (before, response.spliceable) == (False, True)
    response.close()
    await pool.aclose()


async def test_a_body_that_nobody_reads_is_not_late(start: Start) -> None:
    async def handler(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await read_request(reader)
        writer.write(whole(b"x" * 100_000))

    config = UpstreamConfig(stall_timeout_s=0.1, max_buffered_bytes=1_000)
    pool = UpstreamPool(await start(handler), config=config)
    response = await pool.post("/", b"")
    await response.first()
    await until(lambda: response.paused)
    await asyncio.sleep(0.3)
    assert len(await response.read(200_000)) == 100_000
    response.close()
    await pool.aclose()
