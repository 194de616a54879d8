from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable

import pytest
import uvloop

from edge_tier.gateway.errors import UpstreamError
from edge_tier.gateway.passthrough import Passthrough
from edge_tier.gateway.relay import StreamScan
from edge_tier.gateway.upstream import UpstreamConfig, UpstreamPool
from tests.fakes.waiting import until
from wire.errors import ConfigError

Handler = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]
Start = Callable[[Handler], Awaitable[str]]


@pytest.fixture
async def start() -> AsyncIterator[Start]:
    """Starts a raw TCP server that a test writes HTTP for; gives its URL."""
    servers: list[asyncio.Server] = []
    writers: list[asyncio.StreamWriter] = []

    async def make(handler: Handler) -> str:
        async def on_connection(r: asyncio.StreamReader, w: asyncio.StreamWriter) -> None:
            writers.append(w)
            try:
                await handler(r, w)
            except (ConnectionError, asyncio.IncompleteReadError):
                w.close()

        server = await asyncio.start_server(on_connection, "127.0.0.1", 0)
        servers.append(server)
        return f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"

    yield make
    for writer in writers:
        writer.close()
    for server in servers:
        server.close()
        await server.wait_closed()


async def read_request(reader: asyncio.StreamReader) -> tuple[str, bytes]:
    head = (await reader.readuntil(b"\r\n\r\n")).decode()
    length = int(head.lower().split("content-length: ")[1].split("\r\n")[0])
    return head, await reader.readexactly(length)


def whole(body: bytes, extra: str = "") -> bytes:
    return f"HTTP/1.1 200 OK\r\nContent-Length: {len(body)}\r\n{extra}\r\n".encode() + body


async def test_a_request_is_what_it_should_be(start: Start) -> None:
    seen: list[tuple[str, bytes]] = []

    async def handler(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        seen.append(await read_request(reader))
        writer.write(whole(b"{}", "X-Model-Digest: abc\r\n"))

    pool = UpstreamPool(await start(handler) + "/prefix", token="t0ken")
    response = await pool.post("/v1/x", b'{"a":1}', headers=b"X-Extra: 1\r\n")
    assert (response.status, response.headers["x-model-digest"]) == (200, "abc")
    assert await response.read(100) == b"{}"
    response.close()
    await pool.aclose()
    head, body = seen[0]
    assert head.startswith("POST /prefix/v1/x HTTP/1.1\r\nHost: 127.0.0.1:")
    assert "Authorization: Bearer t0ken\r\n" in head
    assert "X-Extra: 1\r\n" in head
    assert body == b'{"a":1}'


async def test_connections_are_kept_and_replaced_when_the_backend_closed_them(
    start: Start,
) -> None:
    connections = 0

    async def handler(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal connections
        connections += 1
        for _ in range(2):
            await read_request(reader)
            writer.write(whole(b"ok"))
        writer.close()

    pool = UpstreamPool(await start(handler))
    for _ in range(4):
        response = await pool.post("/", b"{}")
        assert await response.read(10) == b"ok"
        response.close()
    await pool.aclose()
    assert connections == 2


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
    await asyncio.wait_for(closed.wait(), 0.1)
    await pool.aclose()


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


async def test_a_silent_backend_is_given_up(start: Start) -> None:
    async def handler(reader: asyncio.StreamReader, _writer: asyncio.StreamWriter) -> None:
        await reader.read()

    pool = UpstreamPool(await start(handler), config=UpstreamConfig(head_timeout_s=0.05))
    with pytest.raises(UpstreamError, match=r"0\.05 s"):
        await pool.post("/", b"{}")
    await pool.aclose()


async def test_nobody_there_is_an_error() -> None:
    pool = UpstreamPool("http://127.0.0.1:9")
    with pytest.raises(UpstreamError, match="connect"):
        await pool.post("/", b"{}")
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
    closed = asyncio.Event()

    async def handler(reader: asyncio.StreamReader, _writer: asyncio.StreamWriter) -> None:
        await read_request(reader)
        assert await reader.read() == b""
        closed.set()

    pool = UpstreamPool(await start(handler))
    task = asyncio.create_task(pool.post("/", b"{}"))
    await asyncio.sleep(0.02)
    task.cancel()
    await asyncio.wait_for(closed.wait(), 1)
    await pool.aclose()


@pytest.mark.parametrize("url", ["", "ftp://x", "http://", "localhost:80"])
def test_a_bad_backend_url_is_refused(url: str) -> None:
    with pytest.raises(ConfigError):
        UpstreamPool(url)


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
    connections = 0
    chunked = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"

    async def handler(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal connections
        connections += 1
        while True:
            await read_request(reader)
            writer.write(chunked)
            await asyncio.sleep(0.01)
            writer.write(b"0\r\n\r\n")
            await asyncio.sleep(0.01)
            writer.write(whole(b"not yours"))

    pool = UpstreamPool(await start(handler))
    for _ in range(2):
        response = await pool.post("/", b"")
        passing = Passthrough(StreamScan(keep_usage=True))
        sink = passing.sink(lambda _: None, response.on_end, response.fail)
        await response.splice(sink, lambda: 0)
        await asyncio.sleep(0.05)
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


async def test_a_password_in_a_url_is_told_nobody() -> None:
    pool = UpstreamPool("http://user:s3cret@127.0.0.1:1/v9", config=UpstreamConfig())
    with pytest.raises(UpstreamError, match=r"http://127\.0\.0\.1:1/v9") as caught:
        await pool.post("/", b"")
    assert "s3cret" not in caught.value.message
    with pytest.raises(ConfigError) as refused:
        UpstreamPool("ftp://user:s3cret@host")
    assert "s3cret" not in str(refused.value)


@pytest.mark.parametrize("passing", [False, True])
async def test_a_backend_that_falls_silent_is_given_up(start: Start, passing: bool) -> None:
    gone = asyncio.Event()

    async def handler(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await read_request(reader)
        writer.write(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n1\r\na\r\n")
        await reader.read()
        gone.set()

    pool = UpstreamPool(await start(handler), config=UpstreamConfig(stall_timeout_s=0.05))
    response = await pool.post("/", b"")
    assert await response.first() == b"a"
    got: list[bytes] = [response.take()] if passing else []
    spliced = response.splice(got.append, lambda: len(got)) if passing else None
    with pytest.raises(UpstreamError, match="sent nothing more for"):
        await (spliced or response.pump(got.append))
    response.close()
    await gone.wait()
    assert got == [b"a"]
    await pool.aclose()


async def test_a_body_that_nobody_reads_is_not_late(start: Start) -> None:
    async def handler(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await read_request(reader)
        writer.write(whole(b"x" * 100_000))

    config = UpstreamConfig(stall_timeout_s=0.02, max_buffered_bytes=1_000)
    pool = UpstreamPool(await start(handler), config=config)
    response = await pool.post("/", b"")
    await response.first()
    await until(lambda: response.paused)
    await asyncio.sleep(0.1)
    assert len(await response.read(200_000)) == 100_000
    response.close()
    await pool.aclose()


@pytest.mark.parametrize("name", ["connect_timeout_s", "head_timeout_s", "stall_timeout_s"])
def test_times_are_above_nothing(name: str) -> None:
    with pytest.raises(ValueError, match=name):
        UpstreamConfig(**{name: 0})
