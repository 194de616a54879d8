"""An engine's server-sent events as a stream of token batches.

Events are decoded in the read callback and handed on from there: to the task that waits for the
next batch, or straight to a sink. A reader that does not come is not waited for without bound: from
``PENDING_EVENTS`` on the engine's connection is not read. A connection breaks a moment before it is
known what became of the engine; who knows how to ask (``Cut``) is asked before the reader is told.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

from gpu_worker.engine import (
    EngineBrokenError,
    EngineError,
    EngineUnavailableError,
    Finish,
    Sink,
    TokenEvent,
)
from gpu_worker.engines.exchange import Exchange, Receiver
from wire.errors import SourceUnavailableError
from wire.sse import SSEDecoder

PENDING_EVENTS = 256
MAX_REFUSAL_BYTES = 64 * 1024

Decode = Callable[[str | bytes, list[TokenEvent]], None]
"""Reads the data of one server-sent event and appends what it says. Raises ``EngineError``."""

Opener = Callable[[Receiver], Awaitable[tuple[Exchange, Decode]]]
"""Sends the request; its answer goes to the receiver. Raises ``EngineError``."""

Refusal = Callable[[int, bytes], EngineError]
"""The error that an answer with this status and body means."""

Cut = Callable[[str], Awaitable[EngineError | None]]
"""What ended the engine, where that is why its answer broke off as the text says. Bounded in time,
and raises nothing."""


class EventStream:
    """One answer (``gpu_worker.engine.TokenStream``)."""

    def __init__(self, opener: Opener, refusal: Refusal, cut: Cut | None = None) -> None:
        self.heard = False
        """Whether anything has come since somebody last set this to False."""
        self._opener = opener
        self._refusal = refusal
        self._ask_why = cut
        self._asking: asyncio.Task[None] | None = None
        self._loop = asyncio.get_running_loop()
        self._sse = SSEDecoder()
        self._plain = False
        self._exchange: Exchange | None = None
        self._decode: Decode | None = None
        self._status = 0
        self._refused = b""
        self._batch: list[TokenEvent] = []
        self._failure: Exception | None = None
        self._finished = self._closed = False
        self._paused = False
        self._waiter: asyncio.Future[list[TokenEvent]] | None = None
        self._sink: Sink | None = None
        self._pumping: asyncio.Future[None] | None = None

    @property
    def waiting(self) -> bool:
        """Whether it waits for the engine: not while its own reader is behind."""
        return self.running and not self._paused

    @property
    def running(self) -> bool:
        """Whether an answer is under way."""
        ended = self._finished or self._failure is not None
        return self._exchange is not None and not ended

    def __aiter__(self) -> EventStream:
        return self

    def __anext__(self) -> Awaitable[list[TokenEvent]]:
        if self._exchange is None and not self._finished:
            return self._open_and_next()
        return self._next()

    async def pump(self, sink: Sink) -> None:
        if self._exchange is None and not self._finished:
            await self._open()
        while not self._finished:
            self._sink, self._pumping = sink, self._loop.create_future()
            self._feed(sink)
            self._resume()
            try:
                await self._pumping
            finally:
                self._sink = None
            if self._failure is not None:
                raise self._failure
            if not self._finished:
                self._pause()
                await sink.drained()

    async def aclose(self) -> None:
        self._closed = self._finished = True
        self._plain = False
        if self._asking is not None:
            self._asking.cancel()
        if self._exchange is not None:
            self._exchange.close()

    def break_off(self, error: EngineError) -> None:
        """End it for the reader, and at the engine."""
        if self._exchange is not None:
            self._exchange.close()
        self._fail(error)
        self.arrived()

    # Receiver
    def head(self, status: int) -> None:
        self._status = status
        self._plain = status == 200

    def body(self, data: bytes) -> None:
        """Decode the events that ``data`` completes.

        Engines send an event in one piece. What is plainly that (one ``data`` line and a blank
        one) is taken as it is; all else goes through the decoder, until it is between events again.
        """
        if self._plain and self._decode is not None:
            end = len(data) - 2
            if data[:6] == b"data: " and data.find(b"\n") == end and data[end:] == b"\n\n":
                try:
                    self._decode(data[6:end], self._batch)
                except EngineError as error:
                    self._fail(error)
                return
        self._body_in_pieces(data)

    def arrived(self) -> None:
        self.heard = True
        sink = self._sink
        if sink is not None:
            self._feed(sink)
        elif self._waiter is not None and not self._waiter.done():
            self._answer(self._waiter)
        elif len(self._batch) > PENDING_EVENTS:
            self._pause()

    def end(self, failure: str | None) -> None:
        if self._status not in {0, 200} and failure is None:
            self._fail(self._refusal(self._status, self._refused))
        elif not self._whole():
            why = failure or "no finish came"
            if self._ask_why is not None and not self._closed:
                self._asking = self._loop.create_task(self._explain(self._ask_why, why))
                return
            self._fail(self._cut(why))
        self.arrived()

    async def _explain(self, ask_why: Cut, why: str) -> None:
        self._fail(await ask_why(why) or self._cut(why))
        self.arrived()

    def _body_in_pieces(self, data: bytes) -> None:
        if self._status != 200:
            self._refused = (self._refused + data)[:MAX_REFUSAL_BYTES]
        elif self._failure is None and self._decode is not None:
            try:
                for event in self._sse.feed(data):
                    self._decode(event.data, self._batch)
            except EngineError as error:
                self._fail(error)
            except SourceUnavailableError as error:
                self._fail(EngineBrokenError(error.message))
            else:
                self._plain = data[-2:] == b"\n\n" and b"\r" not in data

    def _feed(self, sink: Sink) -> None:
        """Give the sink what there is, and wake the pump when it has something to decide."""
        room, batch = True, self._batch
        if batch:
            self._batch = []
            self._finished = type(batch[-1]) is Finish
            try:
                room = sink.give(batch)
            except Exception as error:  # noqa: BLE001 - it is the pump's caller who must have it
                self._fail(error)
        if not room or self._finished or self._failure is not None:
            self._sink = None
            if self._pumping is not None and not self._pumping.done():
                self._pumping.set_result(None)

    def _next(self) -> asyncio.Future[list[TokenEvent]]:
        """What there is, or a promise of it."""
        waiter: asyncio.Future[list[TokenEvent]] = self._loop.create_future()
        self._answer(waiter)
        if not waiter.done():
            self._waiter = waiter
        self._resume()
        return waiter

    def _answer(self, waiter: asyncio.Future[list[TokenEvent]]) -> None:
        """Give ``waiter`` what there is: events before a failure, a failure before the end."""
        batch = self._batch
        if batch:
            self._batch = []
            self._finished = type(batch[-1]) is Finish
            waiter.set_result(batch)
        elif self._failure is not None or self._finished:
            waiter.set_exception(self._failure or StopAsyncIteration())
            waiter.exception()  # a reader that is cancelled right now leaves it unread
        else:
            return
        self._waiter = None

    def _pause(self) -> None:
        if not self._paused and self._exchange is not None:
            self._paused = True
            self._exchange.pause()

    def _resume(self) -> None:
        if self._paused and self._exchange is not None:
            self._paused = False
            self._exchange.resume()

    def _fail(self, error: Exception) -> None:
        self._plain = False
        if self._failure is None:
            self._failure = error

    def _whole(self) -> bool:
        """Whether the finish has been read, if not yet given on."""
        return self._finished or (bool(self._batch) and type(self._batch[-1]) is Finish)

    def _cut(self, why: str) -> EngineError:
        if self._status:
            return EngineBrokenError(f"the engine broke off its answer: {why}")
        return EngineUnavailableError(f"the engine gave no answer: {why}")

    async def _open(self) -> None:
        self._exchange, self._decode = await self._opener(self)
        if self._closed:  # while it connected
            self._exchange.close()

    async def _open_and_next(self) -> list[TokenEvent]:
        await self._open()
        return await self._next()
