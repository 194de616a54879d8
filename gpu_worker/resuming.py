"""Going on with an answer that another worker began (docs/adr/0027).

Either the tokens so far are put behind the prompt, and the answer goes on after them; or, where the
sampler's state depends on them (a seed), the whole answer is generated again, its first tokens are
compared with those that the client has, and only what follows is given on.
"""

from __future__ import annotations

from collections.abc import Callable

import msgspec

from gpu_worker.engine import (
    EngineBrokenError,
    Finish,
    Generation,
    Sink,
    Token,
    TokenEvent,
    TokenStream,
)
from wire.errors import HeadwaterError
from wire.journal import REPLAY_DIFFERS, JournalWanted, count


class ReplayDiffersError(HeadwaterError):
    """With the same seed, this engine gives other tokens than the client has."""

    status = 422
    code = REPLAY_DIFFERS


def continued(
    open_stream: Callable[[Generation], TokenStream], request: Generation, journal: JournalWanted
) -> TokenStream:
    """The stream of what follows after ``journal.ids``."""
    request = msgspec.structs.replace(request, token_ids=True)
    if journal.replay and journal.ids:
        return Replay(open_stream(request), journal.ids)
    prompt, limit = (*request.prompt, *journal.ids), request.max_tokens
    left = limit - len(journal.ids) if limit is not None else None
    return open_stream(msgspec.structs.replace(request, prompt=prompt, max_tokens=left))


def whole_usage(last: Finish, journal: JournalWanted | None) -> tuple[int, int]:
    """Tokens of the prompt and of the whole answer, whoever gave which part of it."""
    before = count(journal.ids) if journal is not None and not journal.replay else 0
    return last.prompt_tokens - before, last.completion_tokens + before


class Replay:
    """A stream (``gpu_worker.engine.TokenStream``) without its first tokens.

    Args:
        expected: the ids of these, as a journal has them.
    """

    def __init__(self, stream: TokenStream, expected: tuple[int, ...]) -> None:
        self._stream = stream
        self._expected = expected
        self._seen = 0

    def __aiter__(self) -> Replay:
        return self

    async def __anext__(self) -> list[TokenEvent]:
        """As of any stream. Raises ``ReplayDiffersError`` too."""
        while True:
            try:
                batch = await anext(self._stream)
            except StopAsyncIteration as error:
                raise EngineBrokenError("the engine ended its answer without a finish") from error
            if rest := self._after(batch):
                return rest

    async def pump(self, sink: Sink) -> None:
        if self._seen < len(self._expected):
            batch = await anext(self)
            ended = isinstance(batch[-1], Finish)
            if not sink.give(batch) and not ended:
                await sink.drained()
            if ended:
                return
        await self._stream.pump(sink)

    async def aclose(self) -> None:
        await self._stream.aclose()

    def _after(self, batch: list[TokenEvent]) -> list[TokenEvent]:
        """What of a batch is new to the client."""
        for index, event in enumerate(batch):
            if self._seen == len(self._expected):
                return batch[index:]
            ids = event.ids if isinstance(event, Token) else ()
            if isinstance(event, Token) and not (ids or event.text):
                continue  # it says nothing, so no journal tells of it
            end = self._seen + len(ids)
            if not ids or self._expected[self._seen : end] != ids:
                raise ReplayDiffersError(
                    f"token {self._seen} of the answer is another one here; it cannot go on so"
                )
            self._seen = end
        return []
