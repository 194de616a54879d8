"""An engine (``gpu_worker.engine.Engine``) that answers from a list, and fails on demand."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

from gpu_worker.engine import (
    Embeddings,
    EngineBrokenError,
    EngineError,
    EngineRefusedError,
    EngineUnavailableError,
    Finish,
    Generation,
    Probe,
    Sink,
    Slots,
    Token,
    TokenEvent,
)
from wire.chat import FinishReason
from wire.golden import Expectations
from wire.workers import Fault


def tokens(*texts: str) -> list[list[TokenEvent]]:
    """One batch for each text."""
    return [[Token(text)] for text in texts]


def finish(reason: FinishReason = "stop", *, prompt: int = 3, completion: int = 2) -> Finish:
    return Finish(reason=reason, prompt_tokens=prompt, completion_tokens=completion)


class FakeEngine:
    """Gives ``batches`` and then its fault or its end.

    ``gate`` holds every batch from the ``held_from``-th on until it is set; ``refusal`` is raised
    instead of the first one, ``breaks_with`` after the last one. ``open`` counts streams and
    ``given`` batches; ``asked`` keeps the requests.
    """

    def __init__(
        self,
        batches: Sequence[list[TokenEvent]] | None = None,
        *,
        model: str = "chat-small",
        revision: str = "a" * 64,
        capacity: int = 4,
    ) -> None:
        self.model = model
        self.revision = revision
        self.capacity = capacity
        self.batches: list[list[TokenEvent]] = [*tokens("Hel", "lo"), [finish()]]
        if batches is not None:
            self.batches = list(batches)
        self.gate = asyncio.Event()
        self.gate.set()
        self.held_from = 0
        self.refusal: EngineError | None = None
        self.fault: Fault = ""
        self.breaks_with: EngineError | None = None
        self.ready = True
        self.features = frozenset({"logprobs", "json_schema"})
        self.vectors: list[list[float]] | None = None
        """What every request for embeddings gets; None: it gives none."""
        self.dead: asyncio.Future[str] = asyncio.get_running_loop().create_future()
        self.asked: list[Generation] = []
        self.open = 0
        self.given = 0
        self.changed = asyncio.Condition()

    @property
    def base_url(self) -> str:
        return "http://127.0.0.1:1" if self.ready else ""

    async def start(self) -> None:
        self.ready = True

    async def probe(self, golden: Expectations | None = None) -> Probe:
        return Probe("", 1, 0.0, 0.0)

    async def health(self) -> bool:
        return self.ready

    def stream(self, request: Generation) -> FakeStream:
        self.asked.append(request)
        return FakeStream(self)

    async def tokenize(
        self, text: str, *, add_special: bool = False, parse_special: bool = False
    ) -> list[int]:
        if not self.ready:
            raise EngineUnavailableError("the engine is down")
        return [*([0] if add_special else []), *text.encode()]

    async def embed(self, texts: tuple[str, ...]) -> Embeddings:
        if self.vectors is None:
            raise EngineRefusedError("this engine gives no embeddings")
        return Embeddings(self.vectors, sum(map(len, texts)))

    async def slots(self) -> Slots:
        return Slots(self.capacity, self.open)

    async def aclose(self) -> None:
        self.ready = False
        if not self.dead.done():
            self.dead.set_result("closed")

    async def until_open(self, count: int) -> None:
        """Wait until exactly so many streams are open."""
        async with self.changed:
            await self.changed.wait_for(lambda: self.open == count)

    async def count(self, step: int) -> None:
        async with self.changed:
            self.open += step
            self.changed.notify_all()


class FakeStream:
    """An answer of :class:`FakeEngine`."""

    def __init__(self, engine: FakeEngine) -> None:
        self._engine = engine
        self._left = [list(batch) for batch in engine.batches]
        self._opened = self._closed = False

    def __aiter__(self) -> FakeStream:
        return self

    async def __anext__(self) -> list[TokenEvent]:
        if not self._opened:
            self._opened = True
            await self._engine.count(1)
            if self._engine.refusal is not None:
                raise self._engine.refusal
        if len(self._engine.batches) - len(self._left) >= self._engine.held_from:
            await self._engine.gate.wait()
        if self._left:
            self._engine.given += 1
            return self._left.pop(0)
        if self._engine.breaks_with is not None:
            raise self._engine.breaks_with
        if not self._engine.ready:
            raise EngineBrokenError("the engine died")
        raise StopAsyncIteration

    async def pump(self, sink: Sink) -> None:
        async for batch in self:
            if not sink.give(batch):
                await sink.drained()

    async def aclose(self) -> None:
        if self._opened and not self._closed:
            await self._engine.count(-1)
        self._closed = True
