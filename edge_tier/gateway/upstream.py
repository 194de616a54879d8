"""A pool of HTTP/1.1 connections to one backend, written for streams of small events.

This is a hot path: the parser calls straight back into whoever consumes the body, so a token event
costs no task switch between the backend's socket and the client's. Where the consumer understands
the chunked coding itself, the body even goes past the parser (:meth:`UpstreamResponse.splice`).
Requests are written by hand (method, path and headers are ours), answers are parsed by httptools,
every size is bounded.
"""

from __future__ import annotations

import asyncio
import ssl
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from typing import cast
from urllib.parse import urlsplit

import httptools

from edge_tier.gateway.errors import UpstreamError
from edge_tier.gateway.stalls import Stalls, Watched
from wire.errors import ConfigError, HeadwaterError

_FIRST_FINAL_STATUS = 200
Sink = Callable[[bytes], None]
"""Gets each piece of the decoded body, in order."""


@dataclass(frozen=True, slots=True, kw_only=True)
class UpstreamConfig:
    """Bounds of the connections to one backend."""

    connect_timeout_s: float = 2.0
    head_timeout_s: float = 120.0
    """From the request to the answer's headers, and from these to its first event; prompt
    processing may take this long."""
    stall_timeout_s: float = 60.0
    """Between two pieces of a body, while it is read."""
    idle_connections: int = 1_024
    max_header_bytes: int = 32 * 1024
    max_buffered_bytes: int = 256 * 1024
    """Body held while nobody takes it, before the backend is told to wait."""

    def __post_init__(self) -> None:
        for name in ("connect_timeout_s", "head_timeout_s", "stall_timeout_s"):
            if getattr(self, name) <= 0:
                raise ValueError(f"{name} is a time above 0, in seconds")


class _SilentError(UpstreamError):
    """The backend took the request and said nothing; it may be working on it."""


class UpstreamPool:
    """Kept-alive connections to ``http[s]://host[:port]``.

    Args:
        base_url: the backend; a path is kept as a prefix.
        token: sent as bearer token; never logged.

    Raises:
        ConfigError: not such a URL.
    """

    def __init__(
        self, base_url: str, *, token: str | None = None, config: UpstreamConfig | None = None
    ) -> None:
        parts = urlsplit(base_url)
        if parts.scheme not in {"http", "https"} or not parts.hostname:
            shown = base_url.rpartition("@")[2]
            raise ConfigError(f"backend URL must be http[s]://host[:port], not {shown!r}")
        self.base_url = parts._replace(netloc=parts.netloc.rpartition("@")[2]).geturl()
        """For messages: without a password that stands in it."""
        self._host = parts.hostname
        self._tls = ssl.create_default_context() if parts.scheme == "https" else None
        self._port = parts.port or (443 if self._tls else 80)
        self._config = config or UpstreamConfig()
        self._idle: deque[_Connection] = deque()
        self._closed = False
        self._stalls = Stalls(
            self._config.head_timeout_s, self._config.stall_timeout_s, self._stalled
        )
        authorization = f"Authorization: Bearer {token}\r\n" if token else ""
        self._prefix = parts.path.rstrip("/")
        self._head = (
            f" HTTP/1.1\r\nHost: {parts.netloc.rpartition('@')[2]}\r\n{authorization}"
            "Content-Type: application/json\r\nAccept-Encoding: identity\r\n"
        ).encode("latin-1")

    async def post(self, path: str, body: bytes, *, headers: bytes = b"") -> UpstreamResponse:
        """POST a JSON body and wait for the answer's status and headers.

        Args:
            headers: further header lines, each ending in CRLF.

        Raises:
            UpstreamError: not reachable, too slow, or not HTTP.
        """
        target = f"{self._prefix}{path}".encode("latin-1")
        length = str(len(body)).encode()
        request = b"".join(
            (b"POST ", target, self._head, headers, b"Content-Length: ", length, b"\r\n\r\n", body)
        )
        while True:
            connection, fresh = await self._acquire()
            response = UpstreamResponse(self, connection, self._config.max_buffered_bytes)
            try:
                connection.send(request, response)
                await self._headed(response)
            except UpstreamError as error:
                response.close()
                # The backend had closed an idle connection; the request never reached it.
                if fresh or connection.heard or isinstance(error, _SilentError):
                    raise
            except BaseException:
                response.close()
                raise
            else:
                self._stalls.watch(response)
                return response

    def over(self, response: UpstreamResponse) -> None:
        """Nobody waits for more of this answer."""
        self._stalls.forget(response)

    def release(self, connection: _Connection) -> None:
        """Take back a connection whose answer was read to the end."""
        if self._closed or len(self._idle) >= self._config.idle_connections:
            connection.abort()
        else:
            self._idle.append(connection)

    def retire(self) -> None:
        """Close the idle connections; those in use close when their answer ends."""
        self._closed = True
        while self._idle:
            self._idle.pop().abort()

    async def aclose(self) -> None:
        """As :meth:`retire`."""
        self.retire()

    async def _headed(self, response: UpstreamResponse) -> None:
        """Wait for the answer's headers. One timer: this runs for every request."""
        timer = self.deadline(response)
        try:
            await response.head()
        finally:
            timer.cancel()

    def deadline(self, response: UpstreamResponse) -> asyncio.TimerHandle:
        """Fails the response unless it is cancelled in time (``head_timeout_s``)."""
        loop = asyncio.get_running_loop()
        return loop.call_later(self._config.head_timeout_s, self._silent, response)

    def _silent(self, response: UpstreamResponse) -> None:
        limit_s = self._config.head_timeout_s
        response.fail(_SilentError(f"{self.base_url} sent no answer within {limit_s} s"))

    def _stalled(self, response: Watched, limit_s: float) -> None:
        if isinstance(response, UpstreamResponse):
            response.fail(UpstreamError(f"{self.base_url} sent nothing more for {limit_s} s"))

    async def _acquire(self) -> tuple[_Connection, bool]:
        while self._idle:
            connection = self._idle.pop()
            if connection.usable:
                return connection, False
        loop = asyncio.get_running_loop()
        try:
            async with asyncio.timeout(self._config.connect_timeout_s):
                _, connection = await loop.create_connection(
                    lambda: _Connection(self._config.max_header_bytes),
                    self._host,
                    self._port,
                    ssl=self._tls,
                )
        except (OSError, TimeoutError) as error:
            why = str(error) or "timed out"
            raise UpstreamError(f"cannot connect to {self.base_url}: {why}") from error
        return connection, True


class UpstreamResponse:
    """One answer. Headers are there; the body is taken by :meth:`pump`, :meth:`splice` or
    :meth:`read`, once.

    Whoever got it calls :meth:`close`, which may be called twice: an answer that was not read to
    its end takes its connection with it, so the backend notices at once that nobody listens.
    """

    __slots__ = (
        "_buffer",
        "_buffered",
        "_closed",
        "_connection",
        "_ended",
        "_error",
        "_max_buffered",
        "_pieces",
        "_pool",
        "_progress",
        "_sink",
        "_waiter",
        "headed",
        "headers",
        "status",
    )

    def __init__(self, pool: UpstreamPool, connection: _Connection, max_buffered: int) -> None:
        self.status = 0
        self.headers: dict[str, str] = {}
        self.headed = False
        self._pool = pool
        self._connection = connection
        self._max_buffered = max_buffered
        self._buffer: list[bytes] = []
        self._buffered = 0
        self._pieces = 0
        self._progress: Callable[[], int] | None = None
        self._sink: Sink | None = None
        self._ended = False
        self._error: HeadwaterError | None = None
        self._waiter: asyncio.Future[None] | None = None
        self._closed = False

    @property
    def ended(self) -> bool:
        """Whether the body has arrived whole."""
        return self._ended

    @property
    def failed(self) -> bool:
        """Whether the backend has broken off."""
        return self._error is not None

    @property
    def progress(self) -> int:
        """Another number whenever some of the body has come."""
        return self._pieces + (self._progress() if self._progress is not None else 0)

    @property
    def paused(self) -> bool:
        """Whether the backend was told to wait."""
        return self._connection.paused

    @property
    def spliceable(self) -> bool:
        """Whether :meth:`splice` may be called now."""
        broken = self._ended or self._error is not None
        return self._connection.at_boundary and not self._buffer and not broken

    def held(self) -> bytes:
        """The part of the body that has arrived and was not taken yet; it stays to be taken."""
        if len(self._buffer) > 1:
            self._buffer = [b"".join(self._buffer)]
        return self._buffer[0] if self._buffer else b""

    async def head(self) -> None:
        """Wait for status and headers. Raises ``UpstreamError``."""
        while not self.headed:
            await self._wait()

    async def first(self) -> bytes:
        """Wait for the first bytes of the body and leave them to be pumped; empty at its end.

        Raises:
            UpstreamError: the backend broke off before any.
        """
        while not self._buffer and not self._ended:
            await self._wait()
        return self._buffer[0] if self._buffer else b""

    async def more(self) -> bool:
        """Wait until more of the body is held than before, or it has ended.

        Returns:
            Whether there is more.

        Raises:
            UpstreamError: the backend broke off.
        """
        size = self._buffered
        self.resume()
        while self._buffered == size and not self._ended:
            await self._wait()
        return self._buffered > size

    def take(self) -> bytes:
        """What is held, which is the caller's now."""
        data = self.held()
        self._buffer, self._buffered = [], 0
        return data

    async def pump(self, sink: Sink) -> None:
        """Give every piece of the body to ``sink`` as it arrives, until the end.

        Raises:
            UpstreamError: the backend broke off.
        """
        held, self._buffer, self._buffered = self._buffer, [], 0
        self._sink = sink
        for data in held:
            sink(data)
        self.resume()
        while not self._ended:
            await self._wait()

    async def splice(self, sink: Sink, progress: Callable[[], int]) -> None:
        """Give what arrives from now on to ``sink`` as it is on the wire, in the chunked coding.

        Only where :attr:`spliceable`, and after what is held was taken. Whoever reads it calls
        :meth:`on_end` after the last chunk, or :meth:`fail`, and must not raise.

        Args:
            progress: another number whenever the sink got something that counts.

        Raises:
            HeadwaterError: the backend broke off, or what :meth:`fail` was told.
        """
        self._progress = progress
        self._connection.splice(sink)
        self.resume()
        while not self._ended:
            await self._wait()

    async def read(self, limit_bytes: int) -> bytes:
        """The whole body.

        Raises:
            UpstreamError: broke off, or is over ``limit_bytes``.
        """
        self._max_buffered = limit_bytes
        self.resume()
        while not self._ended:
            await self._wait()
            if self._buffered > limit_bytes:
                break
        if self._buffered > limit_bytes:
            self._connection.abort()  # there is no use in reading on
            raise UpstreamError(f"answer of the backend is over {limit_bytes} B")
        return self.take()

    def cut(self) -> None:
        """No more of the body is needed: it ends here, and the connection with it."""
        self._connection.abort()
        self.on_end()

    def pause(self) -> None:
        """Stop reading from the backend (the client is slower)."""
        self._connection.pause()

    def resume(self) -> None:
        """Read on."""
        self._connection.resume()

    def close(self) -> None:
        """Give the connection back, or cut it where the answer is not whole."""
        if self._closed:
            return
        self._closed = True
        self._pool.over(self)
        self._connection.finish(self)
        if self._ended and self._connection.usable:
            self._pool.release(self._connection)
        else:
            self._connection.abort()

    def on_head(self, status: int, headers: dict[str, str]) -> None:
        """From the connection: status and headers."""
        self.status, self.headers, self.headed = status, headers, True
        self._wake()

    def on_data(self, data: bytes) -> None:
        """From the connection: a piece of the body."""
        self._pieces += 1
        if self._sink is not None:
            self._sink(data)
            return
        self._buffer.append(data)
        self._buffered += len(data)
        if self._buffered > self._max_buffered:
            self.pause()
        self._wake()

    def on_end(self) -> None:
        """The body is whole."""
        self._ended = True
        self._wake()

    def fail(self, error: HeadwaterError) -> None:
        """End with an error; the first one counts."""
        if self._ended:
            self._connection.abort()  # what came after the end makes the connection of no use
            return
        if self._error is not None:
            return
        self._error = error
        self._wake()

    async def _wait(self) -> None:
        """Until something has happened. Raises where the answer has ended with an error already."""
        if self._error is not None:
            raise self._error
        self._waiter = asyncio.get_running_loop().create_future()
        await self._waiter

    def _wake(self) -> None:
        waiter = self._waiter
        if waiter is not None:
            self._waiter = None
            if not waiter.done():
                waiter.set_result(None)


class _Connection(asyncio.Protocol):
    """One socket and its parser; serves one answer after the other."""

    def __init__(self, max_header_bytes: int) -> None:
        self._transport: asyncio.Transport | None = None
        self._max_header_bytes = max_header_bytes
        self._parser = httptools.HttpResponseParser(self)
        self._response: UpstreamResponse | None = None
        self._headers: dict[str, str] = {}
        self._header_bytes = 0
        self._keep_alive = True
        self._head_bytes = 0
        """Of an answer whose head is not whole yet."""
        self._interim = False
        self.paused = False
        self.heard = False
        """Whether any byte of the current answer arrived."""
        self._raw = False
        """Bytes of the body go past the parser."""
        self.at_boundary = False
        """The body is chunked, and what was parsed ends exactly where a chunk does."""
        self._whole_chunks = False

    @property
    def usable(self) -> bool:
        """Whether another request may be sent."""
        return self._keep_alive and self._transport is not None and not self._transport.is_closing()

    def send(self, request: bytes, response: UpstreamResponse) -> None:
        if self._transport is None or self._transport.is_closing():
            raise UpstreamError("connection to the backend is closed")
        self._response = response
        self.heard = self.at_boundary = False
        self._head_bytes = 0
        self._transport.write(request)

    def finish(self, response: UpstreamResponse) -> None:
        """The response is done with; late data belongs to nobody."""
        if self._response is response:
            self._response = None
        if self._raw:
            # Only a part of this answer went through the parser: the next one needs another.
            self._raw = False
            self._parser = httptools.HttpResponseParser(self)
            if self._transport is not None:
                self._transport.set_protocol(self)
        if self.paused:
            self.resume()

    def splice(self, sink: Sink) -> None:
        if self._transport is not None:
            self._raw = True
            self._transport.set_protocol(_Spliced(self, sink))

    def pause(self) -> None:
        if not self.paused and self._transport is not None and not self._transport.is_closing():
            self.paused = True
            self._transport.pause_reading()

    def resume(self) -> None:
        if self.paused and self._transport is not None and not self._transport.is_closing():
            self.paused = False
            self._transport.resume_reading()

    def abort(self) -> None:
        if self._transport is not None:
            self._transport.abort()

    # asyncio.Protocol

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        # uvloop's transports are no subclasses of asyncio's, so this is nothing to assert.
        self._transport = cast("asyncio.Transport", transport)

    def connection_lost(self, exc: Exception | None) -> None:
        self._transport = None
        self._fail(f"backend closed the connection{f': {exc}' if exc else ''}")

    def data_received(self, data: bytes) -> None:
        self.heard = True
        if self._response is None:
            self.abort()  # bytes that no request asked for
            return
        try:
            self._parser.feed_data(data)
        except httptools.HttpParserError as error:
            self._fail(f"backend does not speak HTTP: {error}")
            self.abort()
        response = self._response
        if response is not None and not response.headed:
            # The parser keeps a header that has no end, and tells nobody.
            self._head_bytes += len(data)
            if self._head_bytes > self._max_header_bytes:
                self._fail("the head of the backend's answer is too large")
                self.abort()
        # A size line that has only begun is not told of; then the data do not end in CRLF.
        self.at_boundary = self._whole_chunks and data[-2:] == b"\r\n"

    # httptools callbacks

    def on_message_begin(self) -> None:
        response = self._response
        if response is not None and response.ended:
            # A second answer to one request: it must never become somebody else's.
            self._response = None
            self.abort()
        self._headers = {}
        self._header_bytes = 0

    def on_header(self, name: bytes, value: bytes) -> None:
        self._header_bytes += len(name) + len(value)
        if self._header_bytes > self._max_header_bytes:
            raise httptools.HttpParserError("headers are too large")
        self._headers[name.decode("latin-1").lower()] = value.decode("latin-1")

    def on_headers_complete(self) -> None:
        self._keep_alive = self._parser.should_keep_alive()
        self._whole_chunks = self._headers.get("transfer-encoding", "").lower() == "chunked"
        status = self._parser.get_status_code()
        # The answer itself is still to come (RFC 9110 section 15.2).
        self._interim = status < _FIRST_FINAL_STATUS
        if self._response is not None and not self._interim:
            self._response.on_head(status, self._headers)

    def on_chunk_header(self) -> None:
        self._whole_chunks = False

    def on_chunk_complete(self) -> None:
        self._whole_chunks = True

    def on_body(self, data: bytes) -> None:
        if self._response is not None:
            self._response.on_data(data)

    def on_message_complete(self) -> None:
        if self._response is not None and not self._interim:
            self._response.on_end()

    def _fail(self, message: str) -> None:
        if self._response is not None:
            self._response.fail(UpstreamError(message))


class _Spliced(asyncio.Protocol):
    """Stands in a connection's place while its bytes go straight to a sink."""

    __slots__ = ("_connection", "data_received")

    def __init__(self, connection: _Connection, sink: Sink) -> None:
        self._connection = connection
        # Not a method: the event loop calls the sink itself.
        self.data_received = sink  # type: ignore[assignment]

    def connection_lost(self, exc: Exception | None) -> None:
        self._connection.connection_lost(exc)
