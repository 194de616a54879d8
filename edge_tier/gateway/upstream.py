"""A pool of HTTP/1.1 connections to one backend, written for streams of small events.

This is a hot path: the parser calls straight back into whoever consumes the body, so a token event
costs no task switch between the backend's socket and the client's. Where the consumer understands
the chunked coding itself, the body even goes past the parser (:meth:`UpstreamResponse.splice`).
Requests are written by hand (method, path and headers are ours), and every size is bounded.
"""

from __future__ import annotations

import asyncio
import ssl
from collections import deque
from dataclasses import dataclass
from urllib.parse import urlsplit

from edge_tier.gateway.errors import UpstreamError
from edge_tier.gateway.stalls import Stalls, Watched
from edge_tier.gateway.upstream_connection import Connection
from edge_tier.gateway.upstream_response import UpstreamResponse
from wire.errors import ConfigError


@dataclass(frozen=True, slots=True, kw_only=True)
class UpstreamConfig:
    """Bounds of the connections to one backend."""

    connect_timeout_s: float = 2.0
    """Then the backend counts as unavailable, and another one is asked."""
    head_timeout_s: float = 120.0
    """From the request to the answer's headers, and from these to its first event; prompt
    processing may take this long."""
    stall_timeout_s: float = 60.0
    """Between two pieces of a body, while it is read."""
    idle_connections: int = 1_024
    """Connections kept open for the next request; others are closed after their answer."""
    max_header_bytes: int = 32 * 1024
    """Of an answer's head; a larger one is the backend's fault, and its connection is closed."""
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
        self._idle: deque[Connection] = deque()
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

    def release(self, connection: Connection) -> None:
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

    async def _acquire(self) -> tuple[Connection, bool]:
        while self._idle:
            connection = self._idle.pop()
            if connection.usable:
                return connection, False
        loop = asyncio.get_running_loop()
        try:
            async with asyncio.timeout(self._config.connect_timeout_s):
                _, connection = await loop.create_connection(
                    lambda: Connection(self._config.max_header_bytes),
                    self._host,
                    self._port,
                    ssl=self._tls,
                )
        except (OSError, TimeoutError) as error:
            why = str(error) or "timed out"
            raise UpstreamError(f"cannot connect to {self.base_url}: {why}") from error
        return connection, True
