"""Writes one HTTP/1.1 answer straight into a client's transport (RFC 9112).

The hot path of every answer: the head is one piece of bytes, and an event of a stream is one system
call. Where the transport holds nothing back the bytes go to the socket at once, past the event
loop's own queue; what the socket does not take, the transport keeps and sends later.
"""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import Callable
from dataclasses import dataclass
from email.utils import formatdate
from http import HTTPStatus
from typing import Protocol

from edge_tier.gateway.chunked import LAST, frame

_STATUS = {
    status.value: f"HTTP/1.1 {status.value} {status.phrase}\r\n".encode() for status in HTTPStatus
}
_STREAM = b"Content-Type: text/event-stream; charset=utf-8\r\nCache-Control: no-cache\r\n" + (
    b"X-Accel-Buffering: no\r\n"
)


@dataclass(frozen=True, slots=True, kw_only=True)
class SlowReaders:
    """What is done about a client that reads more slowly than its answer comes."""

    high_water_bytes: int = 256 * 1024
    """Unsent bytes at which the backend is told to wait."""
    deadline_s: float = 30.0
    """A client that takes nothing for so long is cut off."""
    poll_s: float = 0.02
    """How often a slow client is looked at."""


class Pausable(Protocol):
    """Where the bytes come from."""

    def pause(self) -> None: ...

    def resume(self) -> None: ...


class Reply:
    """One answer: either :meth:`whole`, or :meth:`begin`, pieces, and :meth:`end`.

    Args:
        transport: the client's; it stays open afterwards where ``keep_alive``.
        http11: an HTTP/1.0 client gets no chunks, and its connection is closed.
    """

    __slots__ = (
        "_fd",
        "_waiting",
        "direct",
        "ended",
        "http11",
        "keep_alive",
        "started",
        "transport",
    )

    def __init__(
        self, transport: asyncio.WriteTransport, *, http11: bool = True, keep_alive: bool = True
    ) -> None:
        self.transport = transport
        self.http11 = http11
        self.keep_alive = keep_alive and http11
        self.started = False
        self.ended = False
        self._waiting: asyncio.Task[None] | None = None
        sock = transport.get_extra_info("socket")
        plain = sock is not None and transport.get_extra_info("sslcontext") is None
        self._fd = sock.fileno() if plain else -1
        # Of the answer before this one, something may still be unsent; nothing may overtake it.
        self.direct = self._fd >= 0 and not transport.get_write_buffer_size()
        """Whether the socket took all that was written."""

    @property
    def gone(self) -> bool:
        """Whether the client has left."""
        return self.transport.is_closing()

    def whole(self, status: int, headers: bytes, body: bytes) -> None:
        """A whole answer. ``headers``: lines, each ending in CRLF, without length and date."""
        self._send(
            b"%b%bContent-Length: %d\r\n%b\r\n%b"
            % (_STATUS[status], headers, len(body), self._common(), body)
        )
        self.started = self.ended = True

    def begin(self, headers: bytes, first: bytes = b"") -> None:
        """The head of an event stream, and its first piece with it."""
        coding, piece = b"", first
        if self.http11:
            coding, piece = b"Transfer-Encoding: chunked\r\n", frame(first)
        self._send(
            b"%b%b%b%b%b\r\n%b" % (_STATUS[200], headers, _STREAM, coding, self._common(), piece)
        )
        self.started = True

    def write(self, data: bytes) -> None:
        """A piece of the stream; nothing waits."""
        if data:
            self._send(frame(data) if self.http11 else data)

    def splicer(self, source: Pausable, config: SlowReaders) -> Callable[[bytes], None]:
        """What sends pieces that are in chunks already; only for HTTP/1.1.

        One function, because it runs for every token: see :meth:`_send` and :meth:`relieve`.
        """
        descriptor, is_closing, write = self._fd, self.transport.is_closing, os.write

        def send(framed: bytes) -> None:
            if self.direct and not is_closing():
                try:
                    sent = write(descriptor, framed)
                except BlockingIOError:
                    sent = 0
                except OSError:
                    self.transport.abort()  # the client is gone
                    return
                if sent == len(framed):
                    return
                self.direct = False
                self.transport.write(framed[sent:])
            else:
                self._send(framed)
            self.relieve(source, config)

        return send

    def end(self) -> None:
        """The end of the stream. What was written before is whole."""
        if self.http11:
            self._send(LAST)
        self.ended = True

    def relieve(self, source: Pausable, config: SlowReaders) -> None:
        """Called after writing: where too much is unsent, ``source`` waits for the client."""
        if self.direct or self._waiting is not None:
            return
        if self.transport.get_write_buffer_size() > config.high_water_bytes:
            source.pause()
            self._waiting = asyncio.create_task(self._drain(source, config), name="slow-reader")

    def release(self) -> None:
        """Nothing more will be written, or from another source; may be called twice."""
        if self._waiting is not None:
            self._waiting.cancel()
            self._waiting = None

    def _send(self, data: bytes) -> None:
        transport = self.transport
        if transport.is_closing():
            return
        if not self.direct:
            self.direct = self._fd >= 0 and not transport.get_write_buffer_size()
        if self.direct:
            try:
                sent = os.write(self._fd, data)
            except BlockingIOError:
                sent = 0
            except OSError:
                transport.abort()  # the client is gone
                return
            if sent == len(data):
                return
            self.direct, data = False, data[sent:]
        transport.write(data)

    def _common(self) -> bytes:
        connection = b"" if self.keep_alive else b"Connection: close\r\n"
        return b"Date: %b\r\n%b" % (_DATE(), connection)

    async def _drain(self, source: Pausable, config: SlowReaders) -> None:
        """Let a slow client catch up, or cut it off when it takes nothing at all."""
        loop, unsent = asyncio.get_running_loop(), self.transport.get_write_buffer_size
        size, since = unsent(), loop.time()
        while size > config.high_water_bytes // 2 and not self.gone:
            await asyncio.sleep(config.poll_s)
            now = unsent()
            if now < size:
                since = loop.time()
            elif loop.time() - since > config.deadline_s:
                self.transport.abort()
            size = now
        self._waiting = None
        source.resume()


class _Date:
    """The time as HTTP writes it (RFC 9110 section 5.6.7), made once a second."""

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._second = 0
        self._text = b""

    def __call__(self) -> bytes:
        second = int(self._clock())
        if second != self._second:
            self._second = second
            self._text = formatdate(second, usegmt=True).encode()
        return self._text


_DATE = _Date(time.time)
