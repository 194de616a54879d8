"""From an engine's token events to OpenAI's bytes.

A stream's status is decided by its first event: until that, or until the first keep-alive is due,
an engine that refuses still gives a plain HTTP error. After that an error is an event, and then
there is no ``[DONE]``: that is sent only after a whole answer.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from gpu_worker.engine import (
    CallPiece,
    ChoiceEnd,
    EngineBrokenError,
    Finish,
    Token,
    TokenEvent,
    TokenStream,
)
from gpu_worker.event_writer import EventWriter
from gpu_worker.openai_errors import openai_error_event
from gpu_worker.resuming import whole_usage
from wire.chat import DONE, ChunkEncoder
from wire.chat_answer import AnswerAccumulator
from wire.errors import HeadwaterError
from wire.journal import JournalWanted, id_line
from wire.sse import comment

_PING = comment("ping")

FirstToken = Callable[[], None]
"""Told when the first token is there."""


async def answer_whole(
    stream: TokenStream, answer: AnswerAccumulator, first_token: FirstToken
) -> Finish:
    """Read a stream to its end into ``answer``.

    Raises:
        EngineError: refused, or broken: half an answer is none.
    """
    waiting, index = True, 0
    async for batch in stream:
        if waiting:
            waiting = False
            first_token()
        for event in batch:
            if isinstance(event, Finish):
                answer.finish(event.reason, index)
                answer.usage(event.prompt_tokens, event.completion_tokens)
                return event
            if isinstance(event, Token):
                answer.text(event.text, event.logprobs, index)
            elif isinstance(event, CallPiece):
                answer.call(event.index, event.id, event.name, event.arguments, index)
            else:
                answer.finish(event.reason, index)
                index += 1
    raise EngineBrokenError("the engine ended its answer without a finish")


async def answer_stream(
    stream: TokenStream,
    writer: EventWriter,
    encoder: ChunkEncoder,
    first_token: FirstToken,
    *,
    include_usage: bool,
    journal: JournalWanted | None = None,
    ping_interval_s: float,
) -> Finish:
    """Stream an answer to its end.

    Args:
        journal: tell the ids of the tokens; where it names some, the answer goes on after them.

    Raises:
        ClientGoneError: the client left.
        HeadwaterError: the engine refused or broke. Where the answer had begun
            (``writer.started``), the client has been told by an event.
    """
    relay = _Relay(writer, encoder, journal)
    try:
        batch = await _first_batch(stream, writer, ping_interval_s)
        first_token()
        relay.take(batch)
        if relay.last is None:
            await writer.write(relay.withheld())
            await stream.pump(relay)
        last = relay.finish()
        usage = encoder.usage(*whole_usage(last, journal)) if include_usage else b""
        await writer.finish(relay.withheld() + relay.ending(last) + usage + DONE)
    except HeadwaterError as error:
        if writer.started:
            await writer.finish(openai_error_event(error))
        raise
    return last


class _Relay:
    """Encodes tokens straight to the client (``gpu_worker.engine.Sink``).

    What comes with the finish, and the beginning, is withheld to be sent with what belongs to it.
    """

    def __init__(
        self, writer: EventWriter, encoder: ChunkEncoder, journal: JournalWanted | None
    ) -> None:
        self.last: Finish | None = None
        self.encoder = encoder
        """Of the choice that is being answered."""
        self._writer = writer
        self._journaled = journal is not None
        self._withheld = encoder.role()
        if journal is not None:
            # Who goes on with an answer does not begin it.
            begins = self._withheld and not journal.begun
            self._withheld = id_line(()) + self._withheld if begins else b""

    def give(self, batch: list[TokenEvent]) -> bool:
        event = batch[0]
        if len(batch) == 1 and isinstance(event, Token):
            data = self.encoder.delta(event.text, event.logprobs)
            return self._writer.push(_line(event) + data if self._journaled else data)
        self.take(batch)
        return self.last is not None or self._writer.push(self.withheld())

    async def drained(self) -> None:
        await self._writer.drained()

    def take(self, batch: list[TokenEvent]) -> None:
        """Encode a batch, but keep it."""
        for event in batch:
            if isinstance(event, Finish):
                self.last = event
            elif isinstance(event, Token):
                data = self.encoder.delta(event.text, event.logprobs)
                self._withheld += _line(event) + data if self._journaled else data
            elif isinstance(event, CallPiece):
                self._withheld += self.encoder.call(
                    event.index, event.id, event.name, event.arguments
                )
            elif isinstance(event, ChoiceEnd):
                self._withheld += self.encoder.finish(event.reason)
                self.encoder = self.encoder.next()
                self._withheld += self.encoder.role()

    def withheld(self) -> bytes:
        """What is to be sent; it is the caller's now."""
        events, self._withheld = self._withheld, b""
        return events

    def ending(self, last: Finish) -> bytes:
        """The event with the finish reason."""
        line = id_line(last.ids) if self._journaled else b""
        return line + self.encoder.finish(last.reason)

    def finish(self) -> Finish:
        if self.last is None:
            raise EngineBrokenError("the engine ended its answer without a finish")
        return self.last


def _line(token: Token) -> bytes:
    """Of a text whose tokens are not known there is none, and the edge knows what that means."""
    return id_line(token.ids) if token.ids or not token.text else b""


async def _first_batch(
    stream: TokenStream, writer: EventWriter, ping_interval_s: float
) -> list[TokenEvent]:
    """The first events; meanwhile the connection is kept alive."""
    first = asyncio.ensure_future(anext(stream))
    try:
        while not (await asyncio.wait({first}, timeout=ping_interval_s))[0]:
            await writer.write(_PING)
        return first.result()
    except StopAsyncIteration as error:
        raise EngineBrokenError("the engine gave no answer at all") from error
    finally:
        first.cancel()
        await asyncio.gather(first, return_exceptions=True)
