"""A whole answer: read from whichever backend gives it, or gathered from a stream that only we
asked for. Nothing of it is given out before it is all there, so where a worker breaks off, another
backend is asked it all again."""

from __future__ import annotations

import dataclasses
import time

from edge_tier.gateway.backends import Backends
from edge_tier.gateway.errors import UpstreamError
from edge_tier.gateway.hybrid import Begun
from edge_tier.gateway.opened import Wanted
from edge_tier.gateway.relay import StreamScan
from edge_tier.gateway.streaming import flow
from wire.chat import Kind
from wire.chat_answer import AnswerAccumulator
from wire.errors import HeadwaterError
from wire.sse import SSEDecoder


class WholeAnswer:
    """One answer.

    Args:
        wanted: what was asked for.
        answer_id: names an answer that is gathered.
        max_bytes: of the answer.
        max_event_bytes: of one event, where it is gathered.
        max_again: how often it is asked for again.
    """

    __slots__ = (
        "_answer_id",
        "_backends",
        "_left",
        "_max_again",
        "_max_bytes",
        "_max_event_bytes",
        "_wanted",
    )

    def __init__(
        self,
        backends: Backends,
        wanted: Wanted,
        answer_id: str,
        *,
        max_bytes: int,
        max_event_bytes: int,
        max_again: int,
    ) -> None:
        self._backends = backends
        self._wanted = wanted
        self._answer_id = answer_id
        self._max_bytes = max_bytes
        self._max_event_bytes = max_event_bytes
        self._max_again = max_again
        self._left: frozenset[str] = frozenset()
        """Workers that broke off."""

    async def read(self, begun: Begun) -> bytes:
        """Its body. ``begun`` is made the answer of whoever gave it.

        Raises:
            HeadwaterError: nobody gave a whole one.
        """
        if begun.stream:
            try:
                return await self._gathered(begun)
            except _NotWholeError as error:
                await self._once_more(begun, error.why, failed=error.early)
        while True:
            try:
                return await begun.opened.response.read(self._max_bytes)
            except HeadwaterError as error:
                await self._once_more(begun, error)

    async def _gathered(self, begun: Begun) -> bytes:
        """Raises ``_NotWholeError``."""
        kind: Kind = "completion" if self._wanted.prompt.kind == "completion" else "chat"
        model, now, most = begun.opened.step.model, int(time.time()), self._max_bytes
        answer = AnswerAccumulator(self._answer_id, model, now, kind, max_answer_chars=most)
        decoder = SSEDecoder(max_event_bytes=self._max_event_bytes)

        def take(data: bytes) -> None:
            for event in decoder.feed(data):
                answer.feed(event.data)

        scan = StreamScan(keep_usage=True)
        try:
            await flow(begun, scan, take)
            if not answer.finished:
                raise UpstreamError("the backend ended its stream before the answer was whole")
        except HeadwaterError as error:
            early = scan.failed or isinstance(error, UpstreamError)
            raise _NotWholeError(error, early=early) from error
        return answer.body()

    async def _once_more(
        self, begun: Begun, error: HeadwaterError, *, failed: bool = False
    ) -> None:
        """Ask another backend.

        Args:
            failed: the backend said so itself, or ended too early.

        Raises:
            HeadwaterError: ``error``, where that is of no use.
        """
        opened = begun.opened
        broke = failed or opened.response.failed
        opened.broke = broke or isinstance(error, UpstreamError)
        if not broke or not opened.worker or len(self._left) >= self._max_again:
            raise error
        self._backends.broke(opened)
        opened.close()
        self._left |= {opened.worker}
        begun.opened = await self._backends.open(
            dataclasses.replace(self._wanted, avoid=self._left)
        )


class _NotWholeError(Exception):
    def __init__(self, why: HeadwaterError, *, early: bool) -> None:
        super().__init__(why.message)
        self.why = why
        self.early = early
