"""One answer of a backend: its headers, and its body as it arrives."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Protocol

from edge_tier.gateway.errors import UpstreamError
from edge_tier.gateway.upstream_connection import Connection, Sink
from wire.errors import HeadwaterError


class Lender(Protocol):
    """Where connections come from."""

    def over(self, response: UpstreamResponse) -> None:
        """Nobody waits for more of this answer."""
        ...

    def release(self, connection: Connection) -> None:
        """Take back a connection whose answer was read to the end."""
        ...


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

    def __init__(self, pool: Lender, connection: Connection, max_buffered: int) -> None:
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
