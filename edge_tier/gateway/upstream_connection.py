"""One socket to a backend, and its HTTP/1.1 parser; it serves one answer after the other.

Requests are written by hand, answers are parsed by httptools. Where whoever takes a body knows the
chunked coding, the body's bytes go past the parser (:meth:`Connection.splice`).
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Protocol, cast

import httptools

from edge_tier.gateway.errors import UpstreamError
from wire.errors import HeadwaterError

_FIRST_FINAL_STATUS = 200
Sink = Callable[[bytes], None]
"""Gets each piece of the body, in order."""


class Answer(Protocol):
    """What becomes of the answer that is being received."""

    @property
    def headed(self) -> bool:
        """Whether its head is whole."""
        ...

    @property
    def ended(self) -> bool:
        """Whether its body has arrived whole."""
        ...

    def on_head(self, status: int, headers: dict[str, str]) -> None: ...

    def on_data(self, data: bytes) -> None: ...

    def on_end(self) -> None: ...

    def fail(self, error: HeadwaterError) -> None: ...


class Connection(asyncio.Protocol):
    """Args:
    max_header_bytes: of an answer; a larger head ends the connection.
    """

    def __init__(self, max_header_bytes: int) -> None:
        self._transport: asyncio.Transport | None = None
        self._max_header_bytes = max_header_bytes
        self._parser = httptools.HttpResponseParser(self)
        self._response: Answer | None = None
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

    def send(self, request: bytes, response: Answer) -> None:
        if self._transport is None or self._transport.is_closing():
            raise UpstreamError("connection to the backend is closed")
        self._response = response
        self.heard = self.at_boundary = False
        self._head_bytes = 0
        self._transport.write(request)

    def finish(self, response: Answer) -> None:
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

    def __init__(self, connection: Connection, sink: Sink) -> None:
        self._connection = connection
        # Not a method: the event loop calls the sink itself.
        self.data_received = sink  # type: ignore[assignment]

    def connection_lost(self, exc: Exception | None) -> None:
        self._connection.connection_lost(exc)
