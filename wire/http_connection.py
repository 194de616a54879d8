"""One connection to a server, for one blocking request after the other (RFC 9112).

This is where chunks arrive, so it is made for that: a body of known length goes from the socket
straight into its buffer, a mebibyte a system call and without the GIL (``MSG_WAITALL``). The time
limit is the kernel's own (``SO_RCVTIMEO``); over TLS, where the kernel cannot know, it is Python's.
"""

from __future__ import annotations

import socket
import ssl
import struct
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass

import httptools

from wire.chunk import Buffer
from wire.errors import NameInvalidError, SourceUnavailableError, TooLargeError

_HEAD_BYTES = 64 * 1024
"""The most that status line and headers of an answer may have."""
_READ_BYTES = 64 * 1024
_SLICE_BYTES = 1 << 20
"""Received by one system call: large enough to be cheap, small enough to notice who dribbles."""


@dataclass(frozen=True, slots=True)
class Response:
    """A whole answer. Header names are in lower case."""

    status: int
    headers: dict[str, str]
    body: bytearray | memoryview


class DroppedError(SourceUnavailableError):
    """The server closed the connection before any byte of an answer."""


class Abandon:
    """Lets one thread end a request that another one is in the middle of."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._socket: socket.socket | None = None
        self._abandoned = False

    def abandon(self) -> bool:
        """End the request at once, or as soon as it begins.

        Returns:
            Whether the other thread has begun: it may still write into its buffer until it returns.
        """
        with self._lock:
            self._abandoned = True
            if self._socket is None:
                return False
            # Below TLS, so that a thread inside of OpenSSL just sees the end of the stream.
            _shut(self._socket)
            return True

    def begin(self, sock: socket.socket) -> None:
        """Called by the thread that is about to use the socket.

        Raises:
            SourceUnavailableError: nobody wants the answer any more.
        """
        with self._lock:
            if self._abandoned:
                raise SourceUnavailableError("the request was abandoned")
            self._socket = sock

    def end(self) -> None:
        """Called when the socket is no longer used."""
        with self._lock:
            self._socket = None


class Pace:
    """Tells a server that delivers from one that dribbles. Pure; times are given.

    Args:
        min_bytes_per_s: the mean below which, over one window, a server is given up.
        window_s: how long it is watched before it is judged.
    """

    def __init__(self, min_bytes_per_s: float, window_s: float, now_s: float) -> None:
        self._floor = min_bytes_per_s
        self._window_s = window_s
        self._since_s = now_s
        self._bytes = 0

    def got(self, count: int, now_s: float) -> None:
        """So many bytes have come by now.

        Raises:
            SourceUnavailableError: too few of them in this window.
        """
        self._bytes += count
        age_s = now_s - self._since_s
        if age_s < self._window_s:
            return
        if self._bytes < self._floor * age_s:
            raise SourceUnavailableError(
                f"stalled: {self._bytes} B in {age_s:.1f} s, less than {self._floor:.0f} B/s"
            )
        self._since_s, self._bytes = now_s, 0


class Connection:
    """An open connection. Not thread-safe; anything raised means that it must be closed.

    Args:
        sock: connected; the connection owns it.
        host: the ``Host`` header.
        stall_timeout_s: silence for so long ends a request; also the window of ``Pace``.
        min_bytes_per_s: as ``Pace``.
    """

    def __init__(
        self,
        sock: socket.socket,
        host: str,
        *,
        stall_timeout_s: float,
        min_bytes_per_s: float,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.sock = sock
        self.reusable = False
        """Whether the server keeps the connection after the answer that was read."""
        self._host = host
        self._stall_timeout_s = stall_timeout_s
        self._min_bytes_per_s = min_bytes_per_s
        self._clock = clock
        self._wait_all = 0 if isinstance(sock, ssl.SSLSocket) else socket.MSG_WAITALL
        self._buffer = bytearray(_READ_BYTES)
        _limit_silence(sock, stall_timeout_s)

    def exchange(
        self,
        method: str,
        target: str,
        headers: Mapping[str, str],
        body: Buffer | None,
        *,
        limit_bytes: int,
        into: memoryview | None = None,
    ) -> Response:
        """Send a request and read the whole answer.

        Args:
            limit_bytes: the most that the answer's body may have, checked before it is believed.
            into: its beginning receives the body of a 200, where it is large enough.

        Raises:
            DroppedError: the connection was closed before any byte of an answer.
            SourceUnavailableError: stalled, broke off, or broke the protocol.
            TooLargeError: the answer announces or sends more than ``limit_bytes``.
        """
        self.reusable = False
        try:
            self._send(method, target, headers, body)
            head, rest = self._read_head()
            content = self._read_body(head, rest, limit_bytes, into)
        except BlockingIOError as error:
            raise SourceUnavailableError(
                f"stalled: nothing for {self._stall_timeout_s} s"
            ) from error
        except OSError as error:
            raise SourceUnavailableError(str(error) or type(error).__name__) from error
        self.reusable = head.keeps_alive and head.framed
        return Response(head.status, head.headers, content)

    def close(self) -> None:
        """Close the socket; may be called twice."""
        self.sock.close()

    def _send(
        self, method: str, target: str, headers: Mapping[str, str], body: Buffer | None
    ) -> None:
        length = {} if body is None else {"Content-Length": str(len(body))}
        lines = [f"{method} {target} HTTP/1.1", f"Host: {self._host}", "Accept-Encoding: identity"]
        lines += [f"{name}: {value}" for name, value in {**headers, **length}.items()]
        if not all(line.isascii() and line.isprintable() for line in lines):
            raise NameInvalidError("a request's path and headers must be printable ASCII")
        try:
            self.sock.sendall("\r\n".join((*lines, "", "")).encode())
            if body:
                self.sock.sendall(body)
        except (ConnectionResetError, BrokenPipeError) as error:
            raise DroppedError("the server closed the connection") from error

    def _read_head(self) -> tuple[_Head, memoryview]:
        """The head, and what came behind it already (valid until the next read)."""
        view, size = memoryview(self._buffer), 0
        while (end := self._buffer.find(b"\r\n\r\n", 0, size)) < 0:
            if size == len(view):
                raise SourceUnavailableError(f"the answer's head is over {_HEAD_BYTES} B")
            try:
                count = self.sock.recv_into(view[size:])
            except ConnectionResetError as error:
                if size == 0:
                    raise DroppedError("the server reset the connection") from error
                raise
            if count == 0:
                kind = SourceUnavailableError if size else DroppedError
                raise kind("the server closed the connection")
            size += count
        return _Head(bytes(view[: end + 4])), view[end + 4 : size]

    def _read_body(
        self, head: _Head, rest: memoryview, limit_bytes: int, into: memoryview | None
    ) -> bytearray | memoryview:
        length = head.length
        if length is None:
            return self._read_unmeasured(head, rest, limit_bytes)
        if length > limit_bytes:
            raise TooLargeError(f"answer of {length} B is over the {limit_bytes} B allowed")
        fits = into is not None and head.status == 200 and length <= len(into)
        content = into[:length] if fits and into is not None else bytearray(length)
        if len(rest) > length:
            raise SourceUnavailableError("the server sent more than it announced")
        view = memoryview(content)
        view[: len(rest)] = rest
        self._fill(view[len(rest) :])
        return content

    def _fill(self, view: memoryview) -> None:
        pace = Pace(self._min_bytes_per_s, self._stall_timeout_s, self._clock())
        while view:
            count = self.sock.recv_into(view[:_SLICE_BYTES], 0, self._wait_all)
            if count == 0:
                raise SourceUnavailableError(f"broke off {len(view)} B before the end")
            view = view[count:]
            pace.got(count, self._clock())

    def _read_unmeasured(self, head: _Head, rest: memoryview, limit_bytes: int) -> bytearray:
        """A body in the chunked coding, or one that ends with the connection."""
        pace = Pace(self._min_bytes_per_s, self._stall_timeout_s, self._clock())
        head.feed(rest)
        while not head.complete:
            count = self.sock.recv_into(self._buffer)
            if count == 0:
                if head.chunked:
                    raise SourceUnavailableError("broke off before the last chunk")
                break
            head.feed(memoryview(self._buffer)[:count])
            if len(head.body) > limit_bytes:
                break
            pace.got(count, self._clock())
        if len(head.body) > limit_bytes:
            raise TooLargeError(f"answer is over the {limit_bytes} B allowed")
        return head.body


class _Head:
    """Status and headers of an answer, read by httptools; and its body where that has no length.

    Raises:
        SourceUnavailableError: no HTTP.
    """

    def __init__(self, data: bytes) -> None:
        self.headers: dict[str, str] = {}
        self.body = bytearray()
        self.complete = False
        self._parser = httptools.HttpResponseParser(self)
        self.feed(data)
        self.status: int = self._parser.get_status_code()
        if self.status < 200:
            raise SourceUnavailableError(f"an interim answer ({self.status}) where none was asked")
        self.keeps_alive: bool = self._parser.should_keep_alive()
        self.chunked = "transfer-encoding" in self.headers

    @property
    def length(self) -> int | None:
        """Bytes of the body; None where only reading it tells (RFC 9112 section 6.3)."""
        if self.status in (204, 304):
            return 0
        text = self.headers.get("content-length")
        if self.chunked or text is None:
            return None
        if not (text.isascii() and text.isdigit() and len(text) < 20):
            raise SourceUnavailableError("the answer's Content-Length is no number")
        return int(text)

    @property
    def framed(self) -> bool:
        """Whether the end of the body shows without the end of the connection."""
        return self.length is not None or self.chunked

    def feed(self, data: bytes | memoryview) -> None:
        try:
            self._parser.feed_data(data)
        except httptools.HttpParserError as error:
            raise SourceUnavailableError(f"does not speak HTTP: {error}") from error

    def on_header(self, name: bytes, value: bytes) -> None:
        self.headers[name.decode("latin-1").lower()] = value.decode("latin-1")

    def on_body(self, data: bytes) -> None:
        self.body += data

    def on_message_complete(self) -> None:
        self.complete = True


def _limit_silence(sock: socket.socket, timeout_s: float) -> None:
    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    if isinstance(sock, ssl.SSLSocket):
        sock.settimeout(timeout_s)
        return
    sock.settimeout(None)
    limit = struct.pack("@ll", int(timeout_s), int(timeout_s % 1 * 1e6))
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVTIMEO, limit)
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_SNDTIMEO, limit)


def _shut(sock: socket.socket) -> None:
    try:
        socket.socket.shutdown(sock, socket.SHUT_RDWR)
    except OSError:
        return  # it has ended by itself
