from __future__ import annotations

import asyncio
import socket
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from email.utils import parsedate_to_datetime

import pytest

from edge_tier.gateway.chunked import Dechunker, frame
from edge_tier.gateway.reply import Reply, SlowReaders
from tests.fakes.waiting import until


@dataclass(slots=True)
class Pair:
    """A transport, and the client's end of it."""

    transport: asyncio.Transport
    client: socket.socket

    async def received(self) -> bytes:
        """All that comes until the connection ends."""
        loop = asyncio.get_running_loop()
        data = b""
        while piece := await loop.sock_recv(self.client, 65_536):
            data += piece
        return data


class Watched(asyncio.Protocol):
    """Tells when its connection has ended."""

    def __init__(self) -> None:
        self.lost = asyncio.Event()

    def connection_lost(self, exc: Exception | None) -> None:
        self.lost.set()


@dataclass(slots=True)
class Source:
    """A backend that can be told to wait."""

    told: list[str] = field(default_factory=list)

    def pause(self) -> None:
        self.told.append("pause")

    def resume(self) -> None:
        self.told.append("resume")


@pytest.fixture
async def pair() -> AsyncIterator[Pair]:
    ours, theirs = socket.socketpair()
    for end in (ours, theirs):
        end.setblocking(False)
        end.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 4_096)
    transport, protocol = await asyncio.get_running_loop().create_connection(Watched, sock=ours)
    yield Pair(transport, theirs)
    theirs.close()
    if not protocol.lost.is_set():
        transport.abort()
    await protocol.lost.wait()
    await asyncio.sleep(0)


async def test_a_whole_answer(pair: Pair) -> None:
    reply = Reply(pair.transport)
    reply.whole(200, b"X-One: 1\r\n", b"hello")
    assert reply.ended
    pair.transport.close()
    head, _, body = (await pair.received()).partition(b"\r\n\r\n")
    lines = head.split(b"\r\n")
    assert lines[:3] == [b"HTTP/1.1 200 OK", b"X-One: 1", b"Content-Length: 5"]
    assert parsedate_to_datetime(lines[3].removeprefix(b"Date: ").decode()).year >= 2024
    assert body == b"hello"


async def test_a_stream_is_sent_in_chunks(pair: Pair) -> None:
    reply = Reply(pair.transport)
    reply.begin(b"X-One: 1\r\n", b"first")
    reply.write(b"second")
    reply.write(b"")
    reply.splicer(Source(), SlowReaders())(b"5\r\nthird\r\n")
    assert reply.started
    assert not reply.ended
    reply.end()
    pair.transport.close()
    head, _, body = (await pair.received()).partition(b"\r\n\r\n")
    assert b"Content-Type: text/event-stream; charset=utf-8" in head
    assert b"Transfer-Encoding: chunked" in head
    dechunker = Dechunker()
    assert dechunker.feed(body) == b"firstsecondthird"
    assert dechunker.ended


async def test_an_old_client_gets_plain_bytes_until_the_connection_ends(pair: Pair) -> None:
    reply = Reply(pair.transport, http11=False, keep_alive=True)
    assert not reply.keep_alive
    reply.begin(b"", b"first")
    reply.write(b"second")
    reply.end()
    pair.transport.close()
    head, _, body = (await pair.received()).partition(b"\r\n\r\n")
    assert b"chunked" not in head
    assert b"Connection: close" in head
    assert body == b"firstsecond"


async def test_order_is_kept_where_the_socket_takes_only_a_part(pair: Pair) -> None:
    reply = Reply(pair.transport)
    pieces = [b"%06d" % number * 100 for number in range(500)]
    receiving = asyncio.create_task(pair.received())
    reply.begin(b"", b"")
    splice = reply.splicer(Source(), SlowReaders())
    for number, piece in enumerate(pieces):
        if number % 2:
            reply.write(piece)
        else:
            splice(frame(piece))
        if number % 50 == 0:
            await asyncio.sleep(0)  # the client reads, so that direct writes come again
    assert not reply.direct
    reply.end()
    pair.transport.close()
    body = (await receiving).partition(b"\r\n\r\n")[2]
    assert Dechunker().feed(body) == b"".join(pieces)


async def test_a_slow_client_makes_its_source_wait_and_go_on(pair: Pair) -> None:
    reply, source = Reply(pair.transport), Source()
    config = SlowReaders(high_water_bytes=1_000, poll_s=0.001)
    reply.begin(b"", b"x" * 500_000)
    reply.relieve(source, config)
    reply.relieve(source, config)
    assert source.told == ["pause"]
    receiving = asyncio.create_task(pair.received())
    await until(lambda: source.told == ["pause", "resume"])
    reply.release()
    pair.transport.close()
    assert len(await receiving) > 500_000


async def test_a_slow_client_makes_the_next_source_wait_where_there_is_one(pair: Pair) -> None:
    slow, first, second = SlowReaders(high_water_bytes=1_000, poll_s=0.001), Source(), Source()
    reply = Reply(pair.transport)
    reply.begin(b"")
    reply.write(b"x" * 100_000)
    reply.relieve(first, slow)
    reply.release()
    reply.relieve(second, slow)
    assert (first.told, second.told) == (["pause"], ["pause"])
    reply.release()


async def test_a_client_that_takes_nothing_is_cut(pair: Pair) -> None:
    reply, source = Reply(pair.transport), Source()
    reply.begin(b"", b"x" * 500_000)
    reply.relieve(source, SlowReaders(high_water_bytes=1_000, poll_s=0.001, deadline_s=0.02))
    await until(lambda: reply.gone)
    reply.release()


async def test_a_fast_client_costs_nothing(pair: Pair) -> None:
    reply, source = Reply(pair.transport), Source()
    reply.begin(b"", b"x")
    reply.relieve(source, SlowReaders(high_water_bytes=0))
    assert source.told == []
    assert reply.direct


async def test_nothing_is_written_to_a_connection_that_is_closed(pair: Pair) -> None:
    """Its descriptor may be another connection's by then."""
    reply = Reply(pair.transport)
    pair.transport.abort()
    assert reply.gone
    reply.whole(200, b"", b"secret")
    assert b"secret" not in await pair.received()


async def test_a_client_that_has_gone_ends_the_transport(pair: Pair) -> None:
    reply = Reply(pair.transport)
    pair.client.close()
    for _ in range(3):
        reply.write(b"x" * 10_000)
    assert reply.gone


async def test_an_answer_does_not_overtake_the_one_before_it(pair: Pair) -> None:
    """The socket has room again, and the loop has not yet sent what waits for that."""
    first, second = b"1" * 200_000, b"2" * 10
    Reply(pair.transport).whole(200, b"", first)
    assert pair.transport.get_write_buffer_size()
    taken = pair.client.recv(65_536)
    reply = Reply(pair.transport, keep_alive=False)
    reply.whole(200, b"", second)
    pair.transport.close()
    data = taken + await pair.received()
    assert data.index(b"2" * 10) > data.rindex(b"1" * 200_000)
