"""edge_tier.gateway.front over real sockets, with a handler that a test scripts."""

from __future__ import annotations

import asyncio
import re
import socket
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from itertools import pairwise
from typing import cast

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edge_tier.gateway.front import Answer, Front, FrontConfig
from edge_tier.gateway.heads import RequestHead
from edge_tier.gateway.reply import Reply
from tests.fakes.waiting import until
from wire.errors import HeadwaterError, UnauthorizedError

QUICK = FrontConfig(
    max_head_bytes=2_000,
    head_timeout_s=0.1,
    body_timeout_s=0.1,
    idle_s=0.1,
    linger_s=0.1,
    max_pipelined_bytes=4_000,
    sweep_s=0.01,
)
PATIENT = FrontConfig(sweep_s=0.01)


async def turns() -> None:
    """Until what was sent on this machine has come and was read."""
    for _ in range(20):
        await asyncio.sleep(0)


@dataclass(slots=True)
class Scripted:
    """Answers with the body it got; remembers what it saw."""

    max_body_bytes: int = 100_000
    heads: list[RequestHead] = field(default_factory=list)
    refused: list[str] = field(default_factory=list)
    go: asyncio.Event = field(default_factory=asyncio.Event)
    cancelled: int = 0

    def accept(self, head: RequestHead) -> Answer:
        self.heads.append(head)
        if "authorization" not in head.headers:
            raise UnauthorizedError("no key")
        return self.answer

    async def answer(self, body: bytes, reply: Reply) -> None:
        try:
            await self.go.wait()
        except asyncio.CancelledError:
            self.cancelled += 1
            raise
        reply.whole(200, b"", body)

    def refuse(self, error: HeadwaterError, reply: Reply) -> None:
        self.refused.append(error.code)
        reply.whole(error.status, b"", error.code.encode())


class Fallback(asyncio.Protocol):
    """Stands for the web application: says what it got."""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self.transport = transport

    def data_received(self, data: bytes) -> None:
        self.transport.write(b"APP:" + data)


@dataclass(slots=True)
class Door:
    handler: Scripted
    front: Front
    port: int
    clients: list[asyncio.StreamWriter] = field(default_factory=list)
    sweeping: asyncio.Task[None] | None = None

    def sweep(self) -> None:
        """Look at deadlines from now on."""
        self.sweeping = asyncio.create_task(self.front.sweep())

    async def connect(self) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        reader, writer = await asyncio.open_connection("127.0.0.1", self.port)
        self.clients.append(writer)
        return reader, writer

    async def connect_unwilling(self) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        """A client that takes nothing for now, and whose kernel takes little."""
        reader, writer = await self.connect()
        writer.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 65_536)
        cast("asyncio.Transport", writer.transport).pause_reading()
        return reader, writer

    async def leave(self) -> None:
        for client in self.clients:
            client.transport.abort()
            with suppress(ConnectionError):
                await client.wait_closed()


@asynccontextmanager
async def door(
    config: FrontConfig = PATIENT, *, answering: bool = True, sweeping: bool = True
) -> AsyncIterator[Door]:
    """A front door.

    Args:
        sweeping: whether deadlines are looked at from the start; else from ``Door.sweep`` on, so
            that none passes while the machine has not come to what the deadline is about.
    """
    handler = Scripted()
    if answering:
        handler.go.set()
    front = Front(handler, Fallback, config)
    server = await asyncio.get_running_loop().create_server(front, "127.0.0.1", 0)
    server.sockets[0].setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 65_536)
    opened = Door(handler, front, server.sockets[0].getsockname()[1])
    if sweeping:
        opened.sweep()
    try:
        yield opened
    finally:
        server.close()
        await front.drain(0)
        await opened.leave()
        await until(lambda: not front.connections)
        await asyncio.sleep(0.01)  # connections of the application close by themselves
        if opened.sweeping is not None:
            opened.sweeping.cancel()
            await asyncio.gather(opened.sweeping, return_exceptions=True)


def post(body: bytes, *lines: bytes, path: bytes = b"/v1/chat/completions") -> bytes:
    head = [b"POST " + path + b" HTTP/1.1", b"Host: x", b"Authorization: Bearer k", *lines]
    return b"\r\n".join((*head, b"Content-Length: %d" % len(body), b"", b"")) + body


async def read_answer(reader: asyncio.StreamReader) -> tuple[int, bytes]:
    head = await reader.readuntil(b"\r\n\r\n")
    length = re.search(rb"Content-Length: (\d+)", head)
    assert length is not None
    return int(head.split()[1]), await reader.readexactly(int(length[1]))


@settings(max_examples=25, deadline=None)
@given(
    st.lists(st.binary(max_size=300), min_size=1, max_size=4),
    st.lists(st.integers(0, 2_000), max_size=6),
)
def test_requests_are_answered_in_order_however_they_are_cut(
    bodies: list[bytes], cuts: list[int]
) -> None:
    """Sent ahead of each other as well."""

    async def run() -> None:
        async with door() as opened:
            reader, writer = await opened.connect()
            data = b"".join(map(post, bodies))
            edges = sorted({0, len(data), *(cut % len(data) for cut in cuts)})
            for start, end in pairwise(edges):
                writer.write(data[start:end])
                await writer.drain()
                await asyncio.sleep(0)
            assert [await read_answer(reader) for _ in bodies] == [(200, body) for body in bodies]

    asyncio.run(run())


@pytest.mark.parametrize("path", [b"/healthz", b"/artifacts/x", b"/v2/x", b"/"])
async def test_what_is_not_ours_goes_to_the_application_whole(path: bytes) -> None:
    async with door() as opened:
        reader, writer = await opened.connect()
        request = b"GET " + path + b" HTTP/1.1\r\nHost: x\r\n\r\n"
        for at in range(0, len(request), 7):
            writer.write(request[at : at + 7])
            await writer.drain()
        assert await reader.readexactly(4 + len(request)) == b"APP:" + request
        writer.write(b"more")
        assert await reader.readexactly(8) == b"APP:more"
        assert opened.handler.heads == []


async def test_a_connection_serves_us_first_and_the_application_then() -> None:
    async with door() as opened:
        reader, writer = await opened.connect()
        writer.write(post(b"one"))
        assert await read_answer(reader) == (200, b"one")
        writer.write(b"GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n")
        assert await reader.readexactly(8) == b"APP:GET "


@pytest.mark.parametrize(
    "sent",
    [
        b"",
        b"POST /v1/chat",
        b"GET /artifacts/x HTTP/1.1\r\nHost: ",
        post(b"x" * 50)[:-49],
    ],
    ids=["nothing", "half a head", "half a head for the application", "half a body"],
)
async def test_who_is_too_slow_is_cut_off(sent: bytes) -> None:
    async with door(QUICK, sweeping=False) as opened:
        reader, writer = await opened.connect()
        writer.write(sent)
        await turns()
        opened.sweep()
        answer = await asyncio.wait_for(reader.read(), 30)
        assert answer == b"" or b" 408 " in answer
        assert (b" 408 " in answer) == sent.startswith(b"POST /v1/chat/")


async def test_a_kept_connection_is_closed_when_nothing_more_comes() -> None:
    async with door(QUICK, sweeping=False) as opened:
        reader, writer = await opened.connect()
        writer.write(post(b"one"))
        assert await read_answer(reader) == (200, b"one")
        opened.sweep()
        assert await asyncio.wait_for(reader.read(), 30) == b""


async def test_an_answer_may_take_longer_than_any_deadline_of_reading() -> None:
    async with door(QUICK, answering=False, sweeping=False) as opened:
        reader, writer = await opened.connect()
        writer.write(post(b"slow"))
        await until(lambda: len(opened.handler.heads) == 1)
        await asyncio.sleep(0.2)
        for _ in range(3):
            opened.front.look()
        opened.handler.go.set()
        assert await read_answer(reader) == (200, b"slow")


async def test_a_refused_request_that_was_read_whole_keeps_its_connection() -> None:
    async with door() as opened:
        reader, writer = await opened.connect()
        for _ in range(2):
            writer.write(b"POST /v1/x HTTP/1.1\r\nHost: x\r\nContent-Length: 3\r\n\r\nabc")
            assert await read_answer(reader) == (401, b"unauthorized")
        writer.write(post(b"good"))
        assert await read_answer(reader) == (200, b"good")


async def test_many_refusals_sent_ahead_do_not_nest() -> None:
    async with door() as opened:
        reader, writer = await opened.connect()
        writer.write(b"GET /v1/x HTTP/1.1\r\nHost: x\r\n\r\n" * 2_000)
        for _ in range(2_000):
            assert (await read_answer(reader))[0] == 401


@pytest.mark.parametrize(
    ("request_", "code"),
    [
        (b"POST /v1/x HTTP/1.1\r\nHost: x\r\nContent-Length: 900000\r\n\r\n", b"unauthorized"),
        (
            b"POST /v1/x HTTP/1.1\r\nHost: x\r\nAuthorization: k\r\nContent-Length: 900000\r\n\r\n",
            b"too_large",
        ),
        (b"POST /v1/x HTTP/1.1\r\nTransfer-Encoding: chunked\r\nHost: x\r\n\r\n", b"length_req"),
        (b"POST /v1/x HTTP/1.1\r\nX: " + b"a" * 3_000, b"headers_too_large"),
        (b"POST /v1/x HTTP/1.1\r\nX: " + b"a" * 3_000 + b"\r\n\r\n", b"headers_too_large"),
        (b"POST /v1/x HTTP/1.1\nHost: x\n\n" + b"a" * 3_000, b"headers_too_large"),
    ],
)
async def test_after_other_refusals_nothing_more_is_read(request_: bytes, code: bytes) -> None:
    async with door(QUICK, sweeping=False) as opened:
        reader, writer = await opened.connect()
        writer.write(request_)
        await until(lambda: bool(opened.handler.refused))
        opened.sweep()
        answer = await asyncio.wait_for(reader.read(), 30)
        writer.write(post(b"smuggled"))
        assert code in answer
        assert b"smuggled" not in answer
        assert len(opened.handler.heads) <= 1


async def test_a_client_that_leaves_cancels_its_answer() -> None:
    async with door(answering=False) as opened:
        _, writer = await opened.connect()
        writer.write(post(b"x"))
        await until(lambda: len(opened.handler.heads) == 1)
        writer.transport.abort()
        await until(lambda: opened.handler.cancelled == 1)


async def test_what_is_sent_ahead_is_bounded() -> None:
    """The kernel's buffers fill up, and the client has to wait."""
    bounded = FrontConfig(max_pipelined_bytes=4_000)
    async with door(bounded, answering=False) as opened:
        reader, writer = await opened.connect()
        writer.write(post(b"x"))
        await until(lambda: len(opened.handler.heads) == 1)
        (connection,) = opened.front.connections
        writer.write(post(b"y" * 90_000) * 200)
        await until(lambda: connection.ahead > bounded.max_pipelined_bytes)
        before = connection.ahead
        await turns()
        assert connection.ahead == before < 1_000_000
        opened.handler.go.set()
        assert await read_answer(reader) == (200, b"x")
        for _ in range(200):
            assert (await read_answer(reader))[0] == 200


async def test_a_large_body_may_wait_to_be_asked_for() -> None:
    async with door() as opened:
        reader, writer = await opened.connect()
        request = post(b"b" * 10, b"Expect: 100-continue")
        writer.write(request[:-10])
        assert await reader.readuntil(b"\r\n\r\n") == b"HTTP/1.1 100 Continue\r\n\r\n"
        writer.write(request[-10:])
        assert await read_answer(reader) == (200, b"b" * 10)


async def test_an_old_client_gets_its_answer_and_the_end() -> None:
    async with door() as opened:
        reader, writer = await opened.connect()
        writer.write(b"POST /v1/x HTTP/1.0\r\nAuthorization: k\r\nContent-Length: 1\r\n\r\na")
        answer = await reader.read()
        assert answer.startswith(b"HTTP/1.1 200 OK\r\n")
        assert b"Connection: close\r\n" in answer
        assert answer.endswith(b"\r\n\r\na")


@pytest.mark.parametrize("unfinished", [True, False])
async def test_an_answer_that_is_not_whole_does_not_look_so(unfinished: bool) -> None:
    async with door() as opened:

        async def broken(_body: bytes, reply: Reply) -> None:
            if unfinished:
                reply.begin(b"", b"data: 1\n\n")
            raise ValueError("our fault")

        accept: Callable[[RequestHead], Answer] = lambda _head: broken  # noqa: E731
        opened.front.handler = _With(accept, opened.handler)
        loop = asyncio.get_running_loop()
        loop.set_exception_handler(lambda *_: None)
        reader, writer = await opened.connect()
        writer.write(post(b"x"))
        with pytest.raises((ConnectionResetError, asyncio.IncompleteReadError)):
            await reader.readuntil(b"0\r\n\r\n")


@dataclass(slots=True)
class _With:
    """A handler that accepts in another way."""

    accept: Callable[[RequestHead], Answer]
    inner: Scripted

    @property
    def max_body_bytes(self) -> int:
        return self.inner.max_body_bytes

    def refuse(self, error: HeadwaterError, reply: Reply) -> None:
        self.inner.refuse(error, reply)


async def test_a_stop_lets_answers_finish_and_takes_nothing_more() -> None:
    async with door(answering=False) as opened:
        reader, writer = await opened.connect()
        idle, _ = await opened.connect()
        writer.write(post(b"last") + post(b"more"))
        await until(lambda: len(opened.handler.heads) == 1)
        draining = asyncio.create_task(opened.front.drain(30))
        assert await idle.read() == b""
        opened.handler.go.set()
        assert await read_answer(reader) == (200, b"last")
        await draining
        assert await reader.read() == b""
        assert len(opened.handler.heads) == 1


LARGE = b"z" * 8_000_000


async def test_a_client_that_takes_no_answers_is_read_no_further() -> None:
    """Each refusal is larger than the request: who only sends must not fill the memory."""
    async with door() as opened:
        _, writer = await opened.connect_unwilling()
        refused = b"GET /v1/models HTTP/1.1\r\nHost: x\r\n\r\n"
        writer.write(refused * 100_000)
        seen = -1
        while seen != len(opened.handler.refused):
            seen = len(opened.handler.refused)
            await asyncio.sleep(0.1)
        assert seen < 50_000
        (connection,) = opened.front.connections
        assert connection.ahead < 1_000_000


async def test_who_takes_answers_at_last_gets_them_all() -> None:
    async with door() as opened:
        reader, writer = await opened.connect_unwilling()
        bodies = [b"%d" % number * 40_000 for number in range(10, 60)]
        writer.write(b"".join(map(post, bodies)))
        await until(lambda: len(opened.handler.heads) > 2)
        await asyncio.sleep(0.05)
        assert len(opened.handler.heads) < len(bodies)
        cast("asyncio.Transport", writer.transport).resume_reading()
        assert [await read_answer(reader) for _ in bodies] == [(200, body) for body in bodies]


@pytest.mark.parametrize("lines", [(), (b"Connection: close",)])
async def test_a_slow_reader_may_take_longer_than_idle_connections_live(
    lines: tuple[bytes, ...],
) -> None:
    async with door(QUICK, sweeping=False) as opened:
        opened.handler.max_body_bytes = len(LARGE)
        opened.front.handler = _With(lambda _head: _large, opened.handler)
        reader, writer = await opened.connect()
        writer.write(post(b"x", *lines))
        head = await reader.readuntil(b"\r\n\r\n")
        assert b"200 OK" in head
        have = looked = 0
        while have < len(LARGE):
            piece = await reader.read(500_000)
            assert piece
            have += len(piece)
            await asyncio.sleep(0.01)
            if have > looked + 1_000_000:  # it has taken something since
                looked = have
                opened.front.look()


async def test_a_reader_that_takes_nothing_of_its_last_answer_is_cut_off() -> None:
    async with door(QUICK) as opened:
        opened.front.handler = _With(lambda _head: _large, opened.handler)
        _, writer = await opened.connect_unwilling()
        writer.write(post(b"x", b"Connection: close"))
        await until(lambda: len(opened.front.connections) == 1)
        await until(lambda: not opened.front.connections)


async def test_a_stop_lets_clients_take_what_was_answered() -> None:
    async with door() as opened:
        opened.front.handler = _With(lambda _head: _large, opened.handler)
        reader, writer = await opened.connect()
        writer.write(post(b"x"))
        head = await reader.readuntil(b"\r\n\r\n")
        assert b"200 OK" in head
        draining = asyncio.create_task(opened.front.drain(30))
        assert await reader.readexactly(len(LARGE)) == LARGE
        await draining


async def test_a_refused_connection_does_not_go_to_the_application() -> None:
    async with door() as opened:
        reader, writer = await opened.connect()
        refused = b"GET /v1/models HTTP/1.1\r\nHost: x\r\n\r\n"
        writer.write(refused + b"GET /v1/models HTTP/1.1\r\nHost: x\r\nHost: y\r\n\r\n")
        await read_answer(reader)
        assert (await read_answer(reader))[1] == b"bad_http"
        assert await reader.read() == b""


async def test_a_request_that_comes_before_its_turn_was_called_is_read_once() -> None:
    """What is left of the first data is looked at later; by then it may have been read."""
    async with door() as opened:
        reader, writer = await opened.connect()
        await until(lambda: len(opened.front.connections) == 1)
        (connection,) = opened.front.connections
        refused = b"GET /v1/models HTTP/1.1\r\nHost: x\r\n\r\n"
        connection.data_received(refused + refused[:10])
        connection.data_received(refused[10:])
        assert [(await read_answer(reader))[0] for _ in range(2)] == [401, 401]
        await asyncio.sleep(0)
        assert opened.front.connections == (connection,)
        writer.close()


async def _large(_body: bytes, reply: Reply) -> None:
    reply.whole(200, b"", LARGE)
