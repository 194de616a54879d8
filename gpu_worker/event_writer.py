"""Writes an event stream to a client, as lean as aiohttp allows.

aiohttp sends the headers; after that each batch goes to the transport as one chunk (RFC 9112,
section 7.1) in one call. A client that reads too slowly fills the transport's bounded buffer; then
nothing more is taken from the engine until it catches up, or is given up.
"""

from __future__ import annotations

import asyncio

from aiohttp import HttpVersion11, web
from aiohttp.abc import AbstractStreamWriter

_HEADERS = {
    "Content-Type": "text/event-stream; charset=utf-8",
    "Cache-Control": "no-store",
    "X-Accel-Buffering": "no",
}


class ClientGoneError(Exception):
    """The client closed the connection, or stopped reading: there is nobody to answer."""


class EventWriter:
    """One streamed answer. Nothing is sent before the first ``write``.

    Args:
        headers: further headers of the answer.
        stall_timeout_s: how long a client may leave the buffer full.
    """

    def __init__(
        self, request: web.Request, headers: dict[str, str], *, stall_timeout_s: float
    ) -> None:
        self.response = web.StreamResponse(headers={**_HEADERS, **headers})
        self._request = request
        self._protocol = request.protocol
        self._stall_timeout_s = stall_timeout_s
        self._chunked = request.version >= HttpVersion11
        self._writer: AbstractStreamWriter | None = None

    @property
    def started(self) -> bool:
        """Whether the status line is out, so that an error can only be an event."""
        return self._writer is not None

    async def write(self, events: bytes) -> None:
        """Send whole events, and the headers before the first of them.

        Raises:
            ClientGoneError: nobody is there to read them.
        """
        if self._writer is None:
            await self._start(events)
        elif not self.push(events):
            await self.drained()

    def push(self, events: bytes) -> bool:
        """Send whole events without waiting, after the first ``write``.

        Returns:
            Whether there is room for more; otherwise await ``drained``.

        Raises:
            ClientGoneError: nobody is there to read them.
        """
        protocol = self._protocol
        transport = protocol.transport
        if transport is None or transport.is_closing():
            raise ClientGoneError
        transport.write(b"%x\r\n%b\r\n" % (len(events), events) if self._chunked else events)
        return not protocol.writing_paused

    async def drained(self) -> None:
        """Wait until the client has read most of what was sent.

        Raises:
            ClientGoneError: it left, or did not read for ``stall_timeout_s``.
        """
        assert self._writer is not None
        try:
            async with asyncio.timeout(self._stall_timeout_s):
                await self._writer.drain()
        except TimeoutError as error:
            if self._protocol.transport is not None:
                self._protocol.transport.abort()
            raise ClientGoneError from error
        except ConnectionError as error:
            raise ClientGoneError from error

    async def finish(self, events: bytes) -> None:
        """Send the last events and end the answer."""
        if self._writer is None:
            await self._start(b"")
        try:
            await self.response.write_eof(events)
        except ConnectionError as error:
            raise ClientGoneError from error

    async def _start(self, events: bytes) -> None:
        if self._chunked:
            self.response.enable_chunked_encoding()
        else:
            self.response.force_close()
        try:
            self._writer = await self.response.prepare(self._request)
            if events:
                # Headers and first events leave in one packet.
                await self.response.write(events)
        except ConnectionError as error:
            raise ClientGoneError from error
