"""The edge's front door: reads requests from connections, and gives each to whom it belongs.

Requests for ``/v1`` are the hot path and are read here, with bounds and deadlines: head, key, body,
then a task that answers. A connection whose request is for anything else goes to the web
application for good, once its head has arrived whole; that answers ``/v1`` too, only less fast.

States of a connection (all rules are in :class:`Connection`): *waiting* for a head, *reading* a
body, *answering*, *lingering* after a refusal, or *handed over*. What a client sends while it is
answered waits, within a bound, so that answers keep the order of requests (RFC 9112 section 9.3.2);
so does a client that sends and does not take its answers.
"""

from __future__ import annotations

import asyncio
import math
from collections.abc import Callable, Coroutine
from contextlib import suppress
from dataclasses import dataclass
from typing import Any, Protocol, cast

from edge_tier.gateway.errors import BodyTimeoutError
from edge_tier.gateway.heads import END, HeadTooLargeError, RequestHead, parse_head
from edge_tier.gateway.reply import Reply
from wire.errors import HeadwaterError, TooLargeError

Answer = Callable[[bytes, Reply], Coroutine[Any, Any, None]]
"""Gets the body and answers; whatever goes wrong becomes an answer too."""
_OURS = (b"POST /v1/", b"GET /v1/")
_CONTINUE = b"HTTP/1.1 100 Continue\r\n\r\n"


@dataclass(frozen=True, slots=True, kw_only=True)
class FrontConfig:
    """Bounds of a client's connection."""

    max_head_bytes: int = 32 * 1024
    """Of a request's line and headers; a larger head is refused (431)."""
    head_timeout_s: float = 10.0
    """From the connection, or from a head's first byte, to its last."""
    body_timeout_s: float = 30.0
    """How long a client may take to send a request's body."""
    idle_s: float = 75.0
    """Between two requests of a connection."""
    max_pipelined_bytes: int = 64 * 1024
    """What a client may send ahead while it is answered."""
    linger_s: float = 2.0
    """How long a refused client may go on sending before it is cut off: cut at once, it might lose
    the refusal (RFC 9112 section 9.6)."""
    sweep_s: float = 0.25
    """How often deadlines are looked at."""


class Handler(Protocol):
    """What answers."""

    @property
    def max_body_bytes(self) -> int: ...

    def accept(self, head: RequestHead) -> Answer:
        """Look at a head before its body is read. Raises ``HeadwaterError`` to refuse it."""
        ...

    def refuse(self, error: HeadwaterError, reply: Reply) -> None:
        """Answer a request that is not let in."""
        ...


class Front:
    """Makes the protocol of each connection, and holds them to their deadlines.

    Args:
        fallback: makes the web application's protocol.
    """

    def __init__(
        self,
        handler: Handler,
        fallback: Callable[[], asyncio.Protocol],
        config: FrontConfig,
    ) -> None:
        self.handler = handler
        self.fallback = fallback
        self.config = config
        self._connections: set[Connection] = set()
        self._stopping = False
        self._empty = asyncio.Event()
        """Set once the last connection has left a front that stops."""

    def __call__(self) -> Connection:
        return Connection(self)

    def joined(self, connection: Connection) -> None:
        self._connections.add(connection)

    def left(self, connection: Connection) -> None:
        self._connections.discard(connection)
        if self._stopping and not self._connections:
            self._empty.set()

    @property
    def connections(self) -> tuple[Connection, ...]:
        """Those that are open and were not handed over."""
        return tuple(self._connections)

    @property
    def answering(self) -> int:
        """Requests that are being answered now, of connections that were not handed over."""
        return sum(one.task is not None for one in self._connections)

    @property
    def stopping(self) -> bool:
        """Whether connections are closed after the answer that runs."""
        return self._stopping

    async def sweep(self) -> None:
        """Look at deadlines until cancelled."""
        while True:
            await asyncio.sleep(self.config.sweep_s)
            self.look()

    def look(self) -> None:
        """Call to account who has let a deadline pass."""
        now = asyncio.get_running_loop().time()
        for connection in [one for one in self._connections if one.deadline <= now]:
            connection.overdue()

    async def drain(self, timeout_s: float) -> None:
        """Let running answers finish and clients take them, then end all connections."""
        self._stopping = True
        tasks = [one.task for one in self._connections if one.task is not None]
        for connection in list(self._connections):
            connection.stop()
        if self._connections:
            with suppress(TimeoutError):
                await asyncio.wait_for(self._empty.wait(), timeout_s)
        for connection in list(self._connections):
            connection.abort()
        await asyncio.gather(*tasks, return_exceptions=True)


class Connection(asyncio.Protocol):
    """One client."""

    __slots__ = (
        "_accepted",
        "_buffer",
        "_front",
        "_full",
        "_have",
        "_head",
        "_lingering",
        "_reading",
        "_transport",
        "_unsent",
        "deadline",
        "task",
    )

    def __init__(self, front: Front) -> None:
        self.deadline = math.inf
        self.task: asyncio.Task[None] | None = None
        self._front = front
        self._transport: asyncio.Transport | None = None
        self._buffer = b""
        """What has come and belongs to no request yet; while a body is read, its beginning."""
        self._reading: list[bytes] = []
        self._have = 0
        self._lingering = False
        self._full = False
        """The client does not take its answers; until it does, no further request is read."""
        self._unsent = 0
        """What it had not taken when it was last looked at."""
        self._head: RequestHead | None = None
        self._accepted: Answer | None = None

    @property
    def ahead(self) -> int:
        """Bytes that came before their turn."""
        return len(self._buffer)

    # asyncio.Protocol

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)
        self._front.joined(self)
        self._due(self._front.config.head_timeout_s)

    def connection_lost(self, exc: Exception | None) -> None:  # noqa: ARG002 - the interface's
        self._transport = None
        self._front.left(self)
        if self.task is not None:
            self.task.cancel()

    def pause_writing(self) -> None:
        self._full = True

    def resume_writing(self) -> None:
        self._full = False
        if self.task is None and self._transport is not None and not self._lingering:
            self._go_on_soon(self._transport)

    def data_received(self, data: bytes) -> None:
        if self.task is not None or (self._full and self._head is None):
            self._ahead(data)
        elif self._head is not None:
            self._body(data)
        elif self._lingering:
            return
        else:
            self._waiting(data)

    # Rules

    def overdue(self) -> None:
        """The deadline has passed."""
        if self.task is not None or self._transport is None:
            self.deadline = math.inf
        elif self._head is not None and not self._lingering:
            seconds = self._front.config.body_timeout_s
            self._refuse(BodyTimeoutError(f"the body did not arrive within {seconds:g} s"))
        elif self._taking():
            self._due(self._front.config.idle_s)
        else:
            self.abort()

    def _taking(self) -> bool:
        """Whether the client still takes what it was answered, however slowly."""
        assert self._transport is not None
        before, self._unsent = self._unsent, self._transport.get_write_buffer_size()
        return 0 < self._unsent < before

    def stop(self) -> None:
        """Close now, or after the answer that runs; what is answered is still sent."""
        if self.task is None and self._transport is not None:
            self._transport.close()

    def abort(self) -> None:
        """Close at once."""
        if self._transport is not None:
            self._transport.abort()

    def _waiting(self, data: bytes) -> None:
        first = not self._buffer
        data = self._buffer + data
        end = data.find(END)
        if end < 0:
            if first:
                self._due(self._front.config.head_timeout_s)
            self._buffer = data
            if len(data) > self._front.config.max_head_bytes:
                self._refuse(HeadTooLargeError("the request's head is too large"))
            elif not _may_be_http(data):
                self._hand_over(data)
            return
        if not data.startswith(_OURS):
            self._hand_over(data)
            return
        end += len(END)
        if end > self._front.config.max_head_bytes:
            self._refuse(HeadTooLargeError("the request's head is too large"))
            return
        self._buffer = data[end:]
        self._headed(data[:end])

    def _headed(self, data: bytes) -> None:
        """A head has come whole."""
        handler = self._front.handler
        try:
            head = parse_head(data)
            self._head = head
            self._accepted = handler.accept(head)
            if head.length > handler.max_body_bytes:
                raise TooLargeError(
                    f"a body of {head.length} B is over the {handler.max_body_bytes} B allowed"
                )
        except HeadwaterError as error:
            self._refuse(error)
            return
        if len(self._buffer) >= head.length:
            self._complete(self._buffer)
            return
        if self._transport is not None:
            self._transport.resume_reading()
            if head.http11 and "expect" in head.headers:
                self._transport.write(_CONTINUE)
        self._reading, self._have = [self._buffer], len(self._buffer)
        self._due(self._front.config.body_timeout_s)

    def _body(self, data: bytes) -> None:
        assert self._head is not None
        self._reading.append(data)
        self._have += len(data)
        if self._have >= self._head.length:
            self._complete(b"".join(self._reading))

    def _complete(self, data: bytes) -> None:
        """A request has come whole; ``data`` begins with its body."""
        head, accepted, transport = self._head, self._accepted, self._transport
        assert head is not None
        assert accepted is not None
        assert transport is not None
        self._reading = []
        self._buffer = data[head.length :]
        self.deadline = math.inf
        reply = Reply(
            transport,
            http11=head.http11,
            keep_alive=head.keep_alive and not self._front.stopping,
        )
        self.task = asyncio.get_running_loop().create_task(
            self._answer(accepted, data[: head.length], reply), name="answer"
        )
        self._head = self._accepted = None

    async def _answer(self, accepted: Answer, body: bytes, reply: Reply) -> None:
        try:
            await accepted(body, reply)
        finally:
            self.task = None
            reply.release()
            self._answered(reply)

    def _answered(self, reply: Reply) -> None:
        transport = self._transport
        if transport is None or transport.is_closing():
            return
        if not reply.ended:
            transport.abort()  # an answer that is not whole must not look so
            return
        self._unsent = transport.get_write_buffer_size()
        self._due(self._front.config.idle_s)
        if not reply.keep_alive or self._front.stopping:
            transport.close()
        elif not self._full:
            self._go_on_soon(transport)

    def _go_on_soon(self, transport: asyncio.Transport) -> None:
        """Not at once: a thousand small requests sent ahead would be a thousand calls deep."""
        if len(self._buffer) > self._front.config.max_pipelined_bytes:
            transport.pause_reading()
        else:
            transport.resume_reading()
        if self._buffer:
            asyncio.get_running_loop().call_soon(self._go_on)

    def _go_on(self) -> None:
        """Read the request that came while the one before it was answered."""
        waiting = self.task is None and self._head is None and not self._lingering
        if self._transport is not None and waiting and self._buffer and not self._full:
            self._waiting(b"")

    def _ahead(self, data: bytes) -> None:
        self._buffer += data
        if len(self._buffer) > self._front.config.max_pipelined_bytes and self._transport:
            self._transport.pause_reading()

    def _refuse(self, error: HeadwaterError) -> None:
        """Answer a request that is not let in; go on only where it is known where it ends."""
        transport, head = self._transport, self._head
        if transport is None:
            return
        read = head is not None and len(self._buffer) >= head.length and not self._reading
        keep = read and head is not None and head.keep_alive and error.status in _KEPT
        reply = Reply(transport, http11=head is None or head.http11, keep_alive=keep)
        self._front.handler.refuse(error, reply)
        self._head = self._accepted = None
        self._reading = []
        if keep and head is not None:
            self._buffer = self._buffer[head.length :]
            self._answered(reply)
            return
        self._buffer = b""
        self._lingering = True
        self._due(self._front.config.linger_s)
        if transport.can_write_eof():
            transport.write_eof()

    def _hand_over(self, data: bytes) -> None:
        transport = self._transport
        assert transport is not None
        self._front.left(self)
        self._transport = None
        protocol = self._front.fallback()
        transport.set_protocol(protocol)
        protocol.connection_made(transport)
        protocol.data_received(data)

    def _due(self, seconds: float) -> None:
        self.deadline = asyncio.get_running_loop().time() + seconds


_KEPT = frozenset({401, 403, 404, 405})
"""Refusals after which a connection whose request was read whole goes on."""


def _may_be_http(data: bytes) -> bool:
    """Whether a head may still come of this: it must begin with a method."""
    return data[:1].isalpha() and data[:1].isupper()
