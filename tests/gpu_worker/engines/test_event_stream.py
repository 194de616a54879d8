"""gpu_worker.engines.exchange and event_stream, over real sockets and at every cut."""

from __future__ import annotations

import asyncio
import json
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gpu_worker.engine import (
    EngineBrokenError,
    EngineError,
    EngineHungError,
    EngineRefusedError,
    EngineUnavailableError,
    Finish,
    Token,
    TokenEvent,
)
from gpu_worker.engines.event_stream import PENDING_EVENTS, Cut, Decode, EventStream
from gpu_worker.engines.exchange import (
    Exchange,
    ExchangeConfig,
    Receiver,
    call,
    encode_request,
    open_exchange,
)
from gpu_worker.engines.llamacpp_api import native_events, refusal
from tests.fakes.tls_server import Asked, tls_server, whole
from tests.fakes.waiting import until

HEAD = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"
LAST = {"content": "", "stop": True, "stop_type": "eos", "tokens_predicted": 3}
CONFIG = ExchangeConfig(connect_timeout_s=30, call_timeout_s=30, answer_bytes=1_000)
Peer = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]
Serve = Callable[[Peer], Awaitable[str]]


def event(content: str) -> bytes:
    return sse({"content": content})


def sse(value: object) -> bytes:
    return b"data: " + json.dumps(value, ensure_ascii=False).encode() + b"\n\n"


def chunk(data: bytes) -> bytes:
    return b"%x\r\n%b\r\n" % (len(data), data)


WHOLE = (
    HEAD + chunk(event("hel")) + chunk(b": ping\n\n" + event("ö🌊")) + chunk(sse(LAST)) + chunk(b"")
)


@pytest.fixture
async def serve() -> AsyncIterator[Serve]:
    """Start a peer on loopback; gives its URL."""
    servers: list[asyncio.Server] = []

    async def start(peer: Peer) -> str:
        async def handle(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            try:
                await reader.readuntil(b"\r\n\r\n")
                await peer(reader, writer)
            except (ConnectionError, asyncio.IncompleteReadError):
                pass
            finally:
                writer.transport.abort()

        server = await asyncio.start_server(handle, "127.0.0.1", 0)
        servers.append(server)
        return f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"

    yield start
    for server in servers:
        server.close()


def says(*pieces: bytes) -> Peer:
    async def peer(_reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        for piece in pieces:
            writer.write(piece)
            await writer.drain()
        writer.close()
        await writer.wait_closed()

    return peer


def stream_from(url: str, cut: Cut | None = None) -> EventStream:
    async def opener(
        receiver: Receiver,
    ) -> tuple[Exchange, Decode]:
        request = encode_request("POST", "/completion", body=b"{}")
        return await open_exchange(url, request, receiver, CONFIG), native_events(0)

    return EventStream(opener, refusal, cut)


async def read_all(stream: EventStream) -> list[TokenEvent]:
    events: list[TokenEvent] = []
    try:
        async for batch in stream:
            assert batch
            events += batch
    finally:
        await stream.aclose()
    return events


def fed(pieces: list[bytes]) -> EventStream:
    """A stream whose connection received these pieces."""

    async def opener(
        receiver: Receiver,
    ) -> tuple[Exchange, Decode]:
        exchange = Exchange(receiver)
        asyncio.get_running_loop().call_soon(play, exchange)
        return exchange, native_events(0)

    def play(exchange: Exchange) -> None:
        for piece in pieces:
            exchange.data_received(piece)
        exchange.connection_lost(None)

    return EventStream(opener, refusal)


def texts(events: list[TokenEvent]) -> str:
    return "".join(event.text for event in events if isinstance(event, Token))


async def test_events_arrive_over_a_socket_and_end_with_the_finish(serve: Serve) -> None:
    events = await read_all(stream_from(await serve(says(WHOLE))))
    assert texts(events) == "helö🌊"
    assert isinstance(events[-1], Finish)


async def test_a_cut_anywhere_changes_nothing() -> None:
    for cut in range(1, len(WHOLE)):
        events = await read_all(fed([WHOLE[:cut], WHOLE[cut:]]))
        assert texts(events) == "helö🌊", f"cut at {cut}"
        assert isinstance(events[-1], Finish)


@given(st.integers(0, WHOLE.index(b"\n\n", WHOLE.index(b'"stop": true')) + 1))
def test_an_answer_that_breaks_off_never_passes_for_whole(length: int) -> None:
    async def read() -> None:
        with pytest.raises(EngineError):
            await read_all(fed([WHOLE[:length]]))

    asyncio.run(read())


async def test_tokens_before_a_break_are_given_and_then_the_break() -> None:
    stream = fed([HEAD + chunk(event("hel"))])
    assert await anext(stream) == [Token("hel")]
    with pytest.raises(EngineBrokenError, match="broke off"):
        await anext(stream)


@pytest.mark.parametrize("named", [EngineHungError("frozen"), None], ids=["named", "unknown"])
async def test_who_knows_is_asked_what_ended_the_engine(
    serve: Serve, named: EngineError | None
) -> None:
    heard: list[str] = []

    async def ask_why(why: str) -> EngineError | None:
        heard.append(why)
        await asyncio.sleep(0)
        return named

    url = await serve(says(HEAD, chunk(event("hel"))))
    stream = stream_from(url, ask_why)
    assert texts(await anext(stream)) == "hel"
    states = [stream.running]
    with pytest.raises(type(named) if named else EngineBrokenError):
        await anext(stream)
    assert heard == ["connection closed"]
    assert [*states, stream.running] == [True, False]
    await stream.aclose()


async def test_a_sink_hears_of_it_too(serve: Serve) -> None:
    async def ask_why(_why: str) -> EngineError | None:
        return EngineHungError("frozen")

    stream = stream_from(await serve(says(HEAD, chunk(event("hel")))), ask_why)
    sink = Kept()
    with pytest.raises(EngineHungError):
        await stream.pump(sink)
    assert texts(sink.events) == "hel"
    await stream.aclose()


class Kept:
    """A sink with room for all."""

    def __init__(self) -> None:
        self.events: list[TokenEvent] = []

    def give(self, batch: list[TokenEvent]) -> bool:
        self.events += batch
        return bool(batch)

    async def drained(self) -> None:
        raise AssertionError("it was never full")


async def test_a_stream_can_be_broken_off_from_outside(serve: Serve) -> None:
    gone = asyncio.Event()

    async def peer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(HEAD + chunk(event("hel")))
        try:
            await reader.read()
        finally:
            gone.set()

    stream = stream_from(await serve(peer))
    await anext(stream)
    assert stream.heard
    stream.heard = False
    waiting = asyncio.ensure_future(anext(stream))
    stream.break_off(EngineHungError("frozen"))
    with pytest.raises(EngineHungError):
        await waiting
    await asyncio.wait_for(gone.wait(), 30)
    assert not stream.waiting


async def test_an_end_without_a_finish_is_a_break(serve: Serve) -> None:
    url = await serve(says(HEAD + chunk(event("hel")) + chunk(b"")))
    with pytest.raises(EngineBrokenError, match="no finish"):
        await read_all(stream_from(url))


@pytest.mark.parametrize("junk", [b"garbage\r\n\r\n", HEAD + b"zz\r\n"])
async def test_a_peer_that_does_not_speak_http_is_an_engine_error(
    serve: Serve, junk: bytes
) -> None:
    with pytest.raises(EngineError):
        await read_all(stream_from(await serve(says(junk))))


async def test_a_malformed_event_is_raised_in_its_place() -> None:
    stream = fed([HEAD + chunk(event("hel")) + chunk(b"data: {\n\n") + chunk(sse(LAST))])
    assert await anext(stream) == [Token("hel")]
    with pytest.raises(EngineBrokenError, match="malformed"):
        await anext(stream)


async def test_an_endless_event_is_cut_off() -> None:
    stream = fed([HEAD, *[chunk(b"data: " + b"x" * 100_000)] * 20])
    with pytest.raises(EngineBrokenError, match="larger than"):
        await anext(stream)


async def test_a_refusal_is_raised_with_its_reason(serve: Serve) -> None:
    fault = json.dumps({"error": {"type": "invalid_request_error", "message": "empty"}}).encode()
    answer = b"HTTP/1.1 400 Bad Request\r\nContent-Length: %d\r\n\r\n%b" % (len(fault), fault)
    with pytest.raises(EngineRefusedError, match="empty"):
        await read_all(stream_from(await serve(says(answer))))


async def test_nobody_listening_is_unavailable(serve: Serve) -> None:
    with pytest.raises(EngineUnavailableError, match="not reachable"):
        await read_all(stream_from("http://127.0.0.1:1"))


async def test_a_peer_that_hangs_up_without_an_answer_is_unavailable(serve: Serve) -> None:
    with pytest.raises(EngineUnavailableError, match="no answer"):
        await read_all(stream_from(await serve(says())))


async def test_closing_resets_the_connection_so_the_engine_knows(serve: Serve) -> None:
    hung_up = asyncio.Event()

    async def peer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(HEAD + chunk(event("hel")))
        try:
            await reader.read()
        except ConnectionResetError:
            hung_up.set()

    stream = stream_from(await serve(peer))
    await anext(stream)
    await stream.aclose()
    await asyncio.wait_for(hung_up.wait(), 30)
    with pytest.raises(StopAsyncIteration):
        await anext(stream)


async def test_a_reader_that_is_cancelled_leaves_a_stream_that_can_be_closed(serve: Serve) -> None:
    asked = asyncio.Event()

    async def peer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(HEAD)
        asked.set()
        await reader.read()

    stream = stream_from(await serve(peer))
    reading = asyncio.create_task(read_all(stream))
    await asked.wait()
    await until(lambda: stream.running)
    reading.cancel()
    with pytest.raises(asyncio.CancelledError):
        await reading


async def test_a_reader_that_does_not_come_makes_the_engine_wait(serve: Serve) -> None:
    written = 0

    async def peer(_reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal written
        writer.write(HEAD)
        for _ in range(400):
            writer.write(chunk(event("x" * 1_000)) * 100)
            await writer.drain()
            written += 100
        writer.write(chunk(sse(LAST)) + chunk(b""))
        await writer.drain()

    stream = stream_from(await serve(peer))
    await anext(stream)
    await until(lambda: not stream.waiting)
    waiting = -1
    while waiting != written:  # the system's buffers still take something
        waiting = written
        for _ in range(20):
            await asyncio.sleep(0)
    assert PENDING_EVENTS < waiting < 40_000
    events = await read_all(stream)
    assert written == 40_000
    assert isinstance(events[-1], Finish)


async def test_a_short_call_gives_status_and_body(serve: Serve) -> None:
    url = await serve(says(b"HTTP/1.1 404 Not Found\r\nContent-Length: 2\r\n\r\nno"))
    assert await call(url, encode_request("GET", "/"), CONFIG) == (404, b"no")


@pytest.mark.parametrize(
    ("peer", "kind"),
    [
        (says(HEAD, *[chunk(b"x" * 500)] * 3), EngineBrokenError),
        (says(HEAD, chunk(b"x")), EngineUnavailableError),
        (says(), EngineUnavailableError),
    ],
    ids=["too-long", "broken-off", "no-answer"],
)
async def test_a_short_call_that_fails_says_how(
    serve: Serve, peer: Peer, kind: type[EngineError]
) -> None:
    url = await serve(peer)
    with pytest.raises(kind):
        await call(url, encode_request("GET", "/"), CONFIG)


async def test_a_short_call_has_a_deadline(serve: Serve) -> None:
    async def peer(reader: asyncio.StreamReader, _writer: asyncio.StreamWriter) -> None:
        await reader.read()

    url = await serve(peer)
    with pytest.raises(EngineUnavailableError, match=r"within 0\.05 s"):
        await call(url, encode_request("GET", "/"), ExchangeConfig(call_timeout_s=0.05))


def test_a_request_carries_the_key_and_a_bounded_body() -> None:
    request = encode_request("POST", "/x", key="k", body=b"{}")
    head, _, body = request.partition(b"\r\n\r\n")
    assert head.startswith(b"POST /x HTTP/1.1\r\n")
    assert b"Authorization: Bearer k\r\n" in head
    assert b"Content-Length: 2" in head
    assert body == b"{}"


async def test_a_server_behind_https_is_asked_for_by_its_name(tmp_path: Path) -> None:
    def answer(_asked: Asked) -> Iterator[bytes]:
        yield whole(b"safe")

    with tls_server(tmp_path, answer, name="localhost") as server:
        url = f"https://localhost:{server.port}/prefix"
        request = encode_request("GET", "/prefix/v1/models", key="k", host="localhost")
        assert await call(url, request, CONFIG, tls=server.tls) == (200, b"safe")
        with pytest.raises(EngineUnavailableError):
            await call(url, request, CONFIG, tls=ssl.create_default_context())
    assert server.asked[0].path == "/prefix/v1/models"
    assert server.asked[0].headers["host"] == "localhost"
