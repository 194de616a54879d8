"""One HTTP/1.1 request to an engine on a connection of its own, read as it arrives (RFC 9112).

The path of every token, so it is a bare ``asyncio.Protocol`` with llhttp (through ``httptools``)
that hands bytes on as they come: no header objects, no queue, no task in between. Closing the
connection is how an engine is told to stop, which is why connections are not shared.
"""

from __future__ import annotations

import asyncio
import socket
import ssl
import struct
from contextlib import suppress
from dataclasses import dataclass
from typing import Protocol, cast
from urllib.parse import urlsplit

import httptools

from gpu_worker.engine import EngineBrokenError, EngineError, EngineUnavailableError

_RESET_AT_CLOSE = struct.pack("ii", 1, 0)


@dataclass(frozen=True, slots=True, kw_only=True)
class ExchangeConfig:
    """Bounds of a request to an engine."""

    connect_timeout_s: float = 5.0
    """Then the engine counts as unavailable."""
    call_timeout_s: float = 30.0
    """For short calls (health, tokenize). A stream may take as long as it takes."""
    answer_bytes: int = 16 * 1024 * 1024
    """The most that a short call may answer."""


class Receiver(Protocol):
    """Who reads an answer. Called from the event loop's read callback; must not block or raise."""

    def head(self, status: int) -> None:
        """The headers are here."""

    def body(self, data: bytes) -> None:
        """A piece of the body."""

    def arrived(self) -> None:
        """All pieces that came with one read were given. May be called after the end, too."""

    def end(self, failure: str | None) -> None:
        """The answer is whole, or broke off, and why. Called once, after all pieces."""


class _Callbacks:
    """What llhttp calls; the body goes to its receiver without a step in between."""

    __slots__ = ("on_body", "on_headers_complete", "on_message_complete")

    def __init__(self, exchange: Exchange, receiver: Receiver) -> None:
        self.on_body = receiver.body
        self.on_headers_complete = exchange.headers_complete
        self.on_message_complete = exchange.message_complete


class Exchange(asyncio.Protocol):
    """A request under way. Built by :func:`open_exchange`."""

    def __init__(self, receiver: Receiver) -> None:
        self._receiver: Receiver | None = receiver
        self._parser = httptools.HttpResponseParser(_Callbacks(self, receiver))
        self._transport: asyncio.Transport | None = None

    def close(self) -> None:
        """Drop the connection; the receiver hears nothing more. May be called twice.

        An engine that is still at work learns of it at its next write.
        """
        transport, self._transport = self._transport, None
        unfinished, self._receiver = self._receiver is not None, None
        if transport is None:
            return
        if unfinished:
            # A reset fails that very write; after a plain close the first one would succeed.
            with suppress(OSError):
                transport.get_extra_info("socket").setsockopt(
                    socket.SOL_SOCKET, socket.SO_LINGER, _RESET_AT_CLOSE
                )
        transport.abort()

    def pause(self) -> None:
        """Read no more for now, so that the engine has to wait."""
        if self._transport is not None:
            self._transport.pause_reading()

    def resume(self) -> None:
        """Read on."""
        if self._transport is not None:
            self._transport.resume_reading()

    # asyncio.Protocol
    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)

    def data_received(self, data: bytes) -> None:
        receiver = self._receiver
        if receiver is None:
            return
        try:
            self._parser.feed_data(data)
        except httptools.HttpParserError as error:
            self._end(f"it does not speak HTTP: {error}")
        else:
            receiver.arrived()

    def connection_lost(self, exc: Exception | None) -> None:
        self._transport = None
        self._end(str(exc) if exc is not None else "connection closed")

    # llhttp
    def headers_complete(self) -> None:
        if self._receiver is not None:
            self._receiver.head(self._parser.get_status_code())

    def message_complete(self) -> None:
        self._end(None)

    def _end(self, failure: str | None) -> None:
        receiver, self._receiver = self._receiver, None
        if receiver is not None:
            receiver.end(failure)


async def open_exchange(
    base_url: str,
    request: bytes,
    receiver: Receiver,
    config: ExchangeConfig,
    *,
    tls: ssl.SSLContext | None = None,
) -> Exchange:
    """Connect to ``http://host:port`` (with ``tls``: https) and send ``request``.

    Raises:
        EngineUnavailableError: nobody listens there, or not in time.
    """
    where = urlsplit(base_url)
    host, port = where.hostname or "", where.port or (443 if tls else 80)
    try:
        async with asyncio.timeout(config.connect_timeout_s):
            transport, exchange = await asyncio.get_running_loop().create_connection(
                lambda: Exchange(receiver), host, port, ssl=tls
            )
    except (OSError, TimeoutError) as error:
        raise EngineUnavailableError(f"the engine at {base_url} is not reachable") from error
    transport.write(request)
    return exchange


class WholeAnswer:
    """A receiver that keeps the answer of a short call, bounded."""

    def __init__(self, limit_bytes: int) -> None:
        self.status = 0
        self.content = bytearray()
        self.done: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._limit_bytes = limit_bytes

    def head(self, status: int) -> None:
        self.status = status

    def body(self, data: bytes) -> None:
        self.content += data
        if len(self.content) > self._limit_bytes:
            self._fail(EngineBrokenError(f"the engine's answer is over {self._limit_bytes} B"))

    def arrived(self) -> None:
        """Nothing waits for a part of it."""

    def end(self, failure: str | None) -> None:
        if failure is not None:
            self._fail(EngineUnavailableError(f"the engine gave no answer: {failure}"))
        elif not self.done.done():
            self.done.set_result(None)

    def _fail(self, error: EngineError) -> None:
        if not self.done.done():
            self.done.set_exception(error)


async def call(
    base_url: str, request: bytes, config: ExchangeConfig, *, tls: ssl.SSLContext | None = None
) -> tuple[int, bytes]:
    """A short exchange: status and whole body, within ``call_timeout_s``.

    Raises:
        EngineUnavailableError: not reachable, no whole answer, or not in time.
        EngineBrokenError: the answer is too long.
    """
    answer = WholeAnswer(config.answer_bytes)
    try:
        async with asyncio.timeout(config.call_timeout_s):
            exchange = await open_exchange(base_url, request, answer, config, tls=tls)
            try:
                await answer.done
            finally:
                exchange.close()
    except TimeoutError as error:
        raise EngineUnavailableError(
            f"the engine did not answer within {config.call_timeout_s:g} s"
        ) from error
    return answer.status, bytes(answer.content)


def encode_request(
    method: str, path: str, *, key: str = "", body: bytes = b"", host: str = "engine"
) -> bytes:
    """A request that asks the engine to close the connection afterwards."""
    head = f"{method} {path} HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n"
    if key:
        head += f"Authorization: Bearer {key}\r\n"
    if body:
        head += f"Content-Type: application/json\r\nContent-Length: {len(body)}\r\n"
    return head.encode("ascii") + b"\r\n" + body
