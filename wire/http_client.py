"""The client half of the wire: blocking GETs on kept-alive connections, for worker threads.

Receiving chunks is a hot path. A thread that reads a socket straight into the buffer which is then
hashed holds the GIL for neither, so a few threads saturate a link that an event loop's copies
would not (docs/adr/0003). ``HttpSource`` calls this through an executor; ``http_connection`` is
the wire itself.
"""

from __future__ import annotations

import socket
import ssl
import threading
from dataclasses import dataclass
from urllib.parse import urlsplit

from wire.chunk import Buffer
from wire.errors import ConfigError, SourceUnavailableError
from wire.http_connection import Abandon, Connection, DroppedError, Response


@dataclass(frozen=True, slots=True, kw_only=True)
class ClientConfig:
    """Bounds of a client towards one server."""

    connect_timeout_s: float = 5.0
    """For a connection, TLS included; then the server counts as unavailable."""
    stall_timeout_s: float = 10.0
    """A server that sends nothing for so long is given up."""
    min_bytes_per_s: int = 16 * 1024
    """So is one that sends less than this, over the same time."""
    idle_connections: int = 8
    """Connections kept open for the next request."""


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
        self._idle: list[Connection] = []
        self._lock = threading.Lock()
        self._closed = False

    def get(
        self,
        target: str,
        *,
        limit_bytes: int,
        headers: dict[str, str] | None = None,
        into: memoryview | None = None,
        abandon: Abandon | None = None,
    ) -> Response:
        """GET ``target`` (path and query) and read the whole body.

        Args:
            limit_bytes: the most that the body may have, checked before it is believed.
            into: its beginning receives the body of a 200, where it is large enough.
            abandon: lets another thread end the request.

        Raises:
            SourceUnavailableError: not reachable, stalled, or broke off.
            TooLargeError: the answer announces or sends more than ``limit_bytes``.
        """
        return self._exchange("GET", target, None, limit_bytes, headers, into, abandon)

    def send(
        self,
        method: str,
        target: str,
        body: Buffer,
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
        body: Buffer | None,
        limit_bytes: int,
        headers: dict[str, str] | None,
        into: memoryview | None = None,
        abandon: Abandon | None = None,
    ) -> Response:
        all_headers = dict(headers or {})
        if self._token is not None:
            all_headers["Authorization"] = f"Bearer {self._token}"
        abandon = abandon or Abandon()

        def attempt(connection: Connection) -> Response:
            try:
                abandon.begin(connection.sock)
                response = connection.exchange(
                    method, target, all_headers, body, limit_bytes=limit_bytes, into=into
                )
            except BaseException:
                abandon.end()
                connection.close()
                raise
            abandon.end()
            self._release(connection)
            return response

        try:
            connection = self._take_idle()
            if connection is not None:
                try:
                    return attempt(connection)
                except DroppedError:
                    # A kept-alive connection that the server had closed in the meantime says so
                    # here, before any answer; that is no fault of the server, so try once anew.
                    if method == "POST":
                        raise
            return attempt(self._connect())
        except SourceUnavailableError as error:
            raise SourceUnavailableError(f"{self.netloc}: {method} {target}: {error}") from error

    def _take_idle(self) -> Connection | None:
        with self._lock:
            return self._idle.pop() if self._idle else None

    def _connect(self) -> Connection:
        port = self._port or (443 if self._tls is not None else 80)
        try:
            sock = socket.create_connection(
                (self._host, port), timeout=self._config.connect_timeout_s
            )
            if self._tls is not None:
                sock = self._tls.wrap_socket(sock, server_hostname=self._host)
        except OSError as error:
            raise SourceUnavailableError(f"cannot connect: {error}") from error
        return Connection(
            sock,
            self.netloc,
            stall_timeout_s=self._config.stall_timeout_s,
            min_bytes_per_s=self._config.min_bytes_per_s,
        )

    def _release(self, connection: Connection) -> None:
        with self._lock:
            room = len(self._idle) < self._config.idle_connections
            if connection.reusable and not self._closed and room:
                self._idle.append(connection)
                return
        connection.close()
