"""The client half of the wire: blocking GETs on kept-alive connections, for worker threads.

Receiving chunks is a hot path. A thread that reads a socket straight into the buffer which is then
hashed holds the GIL for neither, so a few threads saturate a link that an event loop's copies
would not (docs/adr/0003). ``HttpSource`` calls this through an executor.
"""

from __future__ import annotations

import http.client
import ssl
import threading
from dataclasses import dataclass
from urllib.parse import urlsplit

from wire.errors import ConfigError, SourceUnavailableError, TooLargeError


@dataclass(frozen=True, slots=True, kw_only=True)
class ClientConfig:
    """Bounds of a client towards one server."""

    connect_timeout_s: float = 5.0
    stall_timeout_s: float = 10.0
    """A server that sends nothing for so long is given up."""
    idle_connections: int = 8
    """Connections kept open for the next request."""


@dataclass(frozen=True, slots=True)
class Response:
    """A whole answer. Header names are in lower case."""

    status: int
    headers: dict[str, str]
    body: bytearray


class BlockingClient:
    """GET and POST to one server. Thread-safe: a connection is used by one thread at a time.

    Args:
        base_url: ``http[s]://host[:port]``, no path.
        token: sent as bearer token; never logged.

    Raises:
        ConfigError: the URL is not of that form.
    """

    def __init__(
        self, base_url: str, *, token: str | None = None, config: ClientConfig | None = None
    ) -> None:
        parts = urlsplit(base_url)
        if parts.scheme not in {"http", "https"} or not parts.hostname or parts.path.strip("/"):
            raise ConfigError(f"source URL must be http[s]://host[:port], not {base_url!r}")
        self.netloc = parts.netloc.rpartition("@")[2]
        self._host, self._port = parts.hostname, parts.port
        self._tls = ssl.create_default_context() if parts.scheme == "https" else None
        self._token = token
        self._config = config or ClientConfig()
        self._idle: list[http.client.HTTPConnection] = []
        self._lock = threading.Lock()
        self._closed = False

    def get(
        self, target: str, *, limit_bytes: int, headers: dict[str, str] | None = None
    ) -> Response:
        """GET ``target`` (path and query) and read the whole body.

        Args:
            limit_bytes: the most that the body may have, checked before it is believed.

        Raises:
            SourceUnavailableError: not reachable, stalled, or broke off.
            TooLargeError: the answer announces or sends more than ``limit_bytes``.
        """
        return self._exchange("GET", target, None, limit_bytes, headers)

    def send(
        self,
        method: str,
        target: str,
        body: bytes | bytearray | memoryview,
        *,
        limit_bytes: int = 1 << 20,
        headers: dict[str, str] | None = None,
    ) -> Response:
        """Like :meth:`get`, with a body. Not retried once the server may have acted on it."""
        return self._exchange(method, target, body, limit_bytes, headers)

    def close(self) -> None:
        """Close idle connections; those in use are closed when they come back."""
        with self._lock:
            self._closed = True
            idle, self._idle = self._idle, []
        for connection in idle:
            connection.close()

    def _exchange(
        self,
        method: str,
        target: str,
        body: bytes | bytearray | memoryview | None,
        limit_bytes: int,
        headers: dict[str, str] | None,
    ) -> Response:
        all_headers = dict(headers or {})
        if self._token is not None:
            all_headers["Authorization"] = f"Bearer {self._token}"
        connection, fresh = self._acquire()
        try:
            try:
                response = _roundtrip(connection, method, target, body, all_headers)
            except (http.client.RemoteDisconnected, ConnectionResetError, BrokenPipeError):
                # A kept-alive connection that the server had closed in the meantime says so here,
                # before any answer; that is no fault of the server, so try once on a new one.
                if fresh or method == "POST":
                    raise
                connection.close()
                connection = self._connect()
                response = _roundtrip(connection, method, target, body, all_headers)
            content = _read(response, limit_bytes)
        except TooLargeError:
            connection.close()
            raise
        except (OSError, http.client.HTTPException) as error:
            connection.close()
            why = str(error) or type(error).__name__
            raise SourceUnavailableError(f"{self.netloc}: {method} {target}: {why}") from error
        self._release(connection, reusable=not response.will_close)
        names = {name.lower(): value for name, value in response.getheaders()}
        return Response(response.status, names, content)

    def _acquire(self) -> tuple[http.client.HTTPConnection, bool]:
        with self._lock:
            if self._idle:
                return self._idle.pop(), False
        return self._connect(), True

    def _connect(self) -> http.client.HTTPConnection:
        timeout = self._config.connect_timeout_s
        connection: http.client.HTTPConnection
        if self._tls is not None:
            connection = http.client.HTTPSConnection(
                self._host, self._port, timeout=timeout, context=self._tls
            )
        else:
            connection = http.client.HTTPConnection(self._host, self._port, timeout=timeout)
        try:
            connection.connect()
        except OSError as error:
            raise SourceUnavailableError(f"{self.netloc}: cannot connect: {error}") from error
        connection.sock.settimeout(self._config.stall_timeout_s)
        return connection

    def _release(self, connection: http.client.HTTPConnection, *, reusable: bool) -> None:
        with self._lock:
            if reusable and not self._closed and len(self._idle) < self._config.idle_connections:
                self._idle.append(connection)
                return
        connection.close()


def _roundtrip(
    connection: http.client.HTTPConnection,
    method: str,
    target: str,
    body: bytes | bytearray | memoryview | None,
    headers: dict[str, str],
) -> http.client.HTTPResponse:
    connection.request(method, target, body=body, headers=headers)
    return connection.getresponse()


def _read(response: http.client.HTTPResponse, limit_bytes: int) -> bytearray:
    """The body, read straight into one buffer where its length is announced."""
    length = response.length
    if length is None:
        content = bytearray(response.read(limit_bytes + 1))
        if len(content) > limit_bytes:
            raise TooLargeError(f"answer is over the {limit_bytes} B allowed")
        return content
    if length > limit_bytes:
        raise TooLargeError(f"answer of {length} B is over the {limit_bytes} B allowed")
    content = bytearray(length)
    view, filled = memoryview(content), 0
    while filled < length:
        count = response.readinto(view[filled:])
        if count == 0:
            raise http.client.IncompleteRead(b"", length - filled)
        filled += count
    if length == 0:
        response.read()
    return content
