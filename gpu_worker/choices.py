"""Several answers to one request (OpenAI's ``n``), one after the other, as one stream.

They share the request's slot: the second one finds the prompt in the slot's cache, and requests
that ask for several answers can never wait for one another. Every choice but the last ends with a
``ChoiceEnd``; the ``Finish`` of the whole counts the prompt once and all that was generated.
"""

from __future__ import annotations

from collections.abc import Callable

import msgspec

from gpu_worker.engine import (
    ChoiceEnd,
    EngineBrokenError,
    Finish,
    Generation,
    Sink,
    TokenEvent,
    TokenStream,
)

_SEEDS = 2**32


def nth(request: Generation, index: int) -> Generation:
    """The request for one choice: the same seed would only give the same answer again."""
    seed = request.sampling.seed
    if not index or seed is None:
        return request
    sampling = msgspec.structs.replace(request.sampling, seed=(seed + index) % _SEEDS)
    return msgspec.structs.replace(request, sampling=sampling)


class Choices:
    """A stream (``gpu_worker.engine.TokenStream``) of ``count`` answers.

    Args:
        open_choice: opens the stream of the choice with that index.
    """

    def __init__(self, open_choice: Callable[[int], TokenStream], count: int) -> None:
        self._open = open_choice
        self._count = count
        self._index = 0
        self._stream: TokenStream | None = None
        self._ended: list[Finish] = []

    def __aiter__(self) -> Choices:
        return self

    async def __anext__(self) -> list[TokenEvent]:
        if len(self._ended) == self._count:
            raise StopAsyncIteration
        stream = await self._current()
        try:
            batch = await anext(stream)
        except StopAsyncIteration as error:
            raise EngineBrokenError("the engine ended its answer without a finish") from error
        return self.take(batch)

    async def pump(self, sink: Sink) -> None:
        relay = _Relay(self, sink)
        while len(self._ended) < self._count:
            before = len(self._ended)
            await (await self._current()).pump(relay)
            if len(self._ended) == before:
                raise EngineBrokenError("the engine ended its answer without a finish")

    async def aclose(self) -> None:
        stream, self._stream = self._stream, None
        if stream is not None:
            await stream.aclose()

    async def _current(self) -> TokenStream:
        if len(self._ended) > self._index:
            await self.aclose()
            self._index += 1
        if self._stream is None:
            self._stream = self._open(self._index)
        return self._stream

    def take(self, batch: list[TokenEvent]) -> list[TokenEvent]:
        """The batch with the end of a choice in place of its finish."""
        last = batch[-1] if batch else None
        if not isinstance(last, Finish):
            return batch
        self._ended.append(last)
        return [
            *batch[:-1],
            self._sum() if len(self._ended) == self._count else ChoiceEnd(last.reason),
        ]

    def _sum(self) -> Finish:
        first, last = self._ended[0], self._ended[-1]
        return Finish(
            reason=last.reason,
            prompt_tokens=first.prompt_tokens,
            completion_tokens=sum(finish.completion_tokens for finish in self._ended),
            cached_tokens=first.cached_tokens,
            prompt_ms=sum(finish.prompt_ms for finish in self._ended),
            decode_ms=sum(finish.decode_ms for finish in self._ended),
        )


class _Relay:
    """Passes batches on (``gpu_worker.engine.Sink``)."""

    def __init__(self, choices: Choices, sink: Sink) -> None:
        self._choices = choices
        self._sink = sink

    def give(self, batch: list[TokenEvent]) -> bool:
        return self._sink.give(self._choices.take(batch))

    async def drained(self) -> None:
        await self._sink.drained()
