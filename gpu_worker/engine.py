"""What a worker needs of any engine, and the values that pass between them.

An engine is one file in ``gpu_worker/engines``; nothing else in the worker knows which one runs.
Tokens come in batches: everything that reached the worker together is one list, so a burst costs
one wake-up and one write.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable
from typing import ClassVar, Literal, Protocol, TypeAlias

import msgspec

from wire.chat import FinishReason, TokenLogprob, ToolCall
from wire.errors import HeadwaterError
from wire.golden import Expectations, Verdict
from wire.workers import Fault


class EngineError(HeadwaterError):
    """Something went wrong in an engine or on the way to it."""

    status = 502
    code = "engine_error"


class EngineStartError(EngineError):
    """The engine did not come up; ``fault`` names why."""

    status = 503
    code = "engine_start_failed"

    def __init__(self, message: str, *, fault: Fault = "") -> None:
        super().__init__(message)
        self.fault = fault


class EngineUnavailableError(EngineError):
    """No engine answers at the moment: it is starting, restarting or closed. Try again soon."""

    status = 503
    code = "engine_unavailable"

    def __init__(self, message: str) -> None:
        super().__init__(message, headers={"Retry-After": "1"})


class EngineBrokenError(EngineError):
    """The engine died or broke the protocol while it was answering."""

    code = "engine_broken"


class EngineFailedError(EngineBrokenError):
    """The engine ended while it was answering. Where nothing was sent yet the client may come
    again: a new one is being started."""

    status = 503
    fault: ClassVar[Fault] = "crashed"

    def __init__(self, message: str) -> None:
        super().__init__(message, headers={"Retry-After": "1"})


class EngineCrashedError(EngineFailedError):
    """It crashed, or was killed."""

    code = "engine_crashed"


class EngineHungError(EngineFailedError):
    """It stood still and was killed for that."""

    code = "engine_hung"
    fault = "hung"


class EngineOutOfMemoryError(EngineFailedError):
    """It asked for more memory than there is."""

    code = "engine_out_of_memory"
    fault = "out_of_memory"


class EngineRefusedError(EngineError):
    """The engine says that the request cannot be answered."""

    status = 400
    code = "request_invalid"


class ContextLengthError(EngineRefusedError):
    """Prompt and answer do not fit the context of a slot."""

    code = "context_length_exceeded"


class TokensUnsupportedError(EngineRefusedError):
    """The engine takes text and messages only (feature ``messages_only``)."""

    code = "token_ids_unsupported"


class ProbeFailedError(EngineError):
    """The engine runs but does not answer sanely: the revision must not serve."""

    code = "probe_failed"
    fault: ClassVar[Fault] = "probe_failed"


def failed(fault: Fault, message: str) -> EngineFailedError:
    """The error of a request whose engine was ended by ``fault``."""
    for kind in (EngineHungError, EngineOutOfMemoryError):
        if kind.fault == fault:
            return kind(message)
    return EngineCrashedError(message)


class Message(msgspec.Struct, frozen=True, omit_defaults=True):
    """One turn of a conversation."""

    role: Literal["system", "developer", "user", "assistant", "tool"]
    content: str
    tool_calls: tuple[ToolCall, ...] = ()
    tool_call_id: str = ""


class Sampling(msgspec.Struct, frozen=True, kw_only=True):
    """How to choose tokens; ``None`` leaves it to the engine. Ranges were checked at the door."""

    temperature: float | None = None
    top_p: float | None = None
    seed: int | None = None
    stop: tuple[str, ...] = ()
    presence_penalty: float | None = None
    frequency_penalty: float | None = None
    logit_bias: tuple[tuple[int, float], ...] = ()
    """Pairs of token id and bias."""
    logprobs: bool = False
    top_logprobs: int = 0
    logprobs_first: int = 0
    """Logprobs are wanted for the first so many tokens only; 0: for all of them."""


class Generation(msgspec.Struct, frozen=True, kw_only=True):
    """A request to an engine. ``prompt`` is token ids, plain text, or messages for the template.

    In plain text nothing is read as a control token.
    """

    prompt: tuple[int, ...] | str | tuple[Message, ...]
    max_tokens: int | None = None
    """None: until the model ends or the slot is full."""
    sampling: Sampling = Sampling()
    tools: str = ""
    """OpenAI's list of tools as JSON, for messages; empty: none."""
    tool_choice: str = ""
    """As JSON; empty: the engine's default."""
    parallel_tool_calls: bool | None = None
    response_format: str = ""
    """As JSON, for messages; empty: free text."""
    token_ids: bool = False
    """Whether the ids of the answer's tokens are to be told, where the engine knows them."""


class Token(msgspec.Struct, frozen=True, gc=False):
    """A piece of the answer: whole characters, from one token or several."""

    text: str
    logprobs: list[TokenLogprob] | None = None
    ids: tuple[int, ...] = ()
    """All tokens since the last piece, where they were asked for: of those that the engine did not
    name, the negative number. Never of a token whose text is still held back. Empty: not known."""


class Finish(msgspec.Struct, frozen=True, kw_only=True):
    """The end of a whole answer. Counts are tokens; ``cached_tokens`` of the prompt were reused."""

    reason: FinishReason
    prompt_tokens: int
    completion_tokens: int
    cached_tokens: int = 0
    prompt_ms: float = 0.0
    decode_ms: float = 0.0
    ids: tuple[int, ...] = ()
    """Tokens after the last piece of text, as the one that ends the answer."""


class CallPiece(msgspec.Struct, frozen=True):
    """A piece of the ``index``-th call of a tool; the first one of a call has its id and name."""

    index: int
    id: str | None
    name: str | None
    arguments: str


class ChoiceEnd(msgspec.Struct, frozen=True):
    """One of several answers is whole; what follows is of the next."""

    reason: FinishReason


class Embeddings(msgspec.Struct, frozen=True):
    """Vectors of texts, in the order of the texts."""

    vectors: list[list[float]]
    prompt_tokens: int


TokenEvent: TypeAlias = Token | CallPiece | ChoiceEnd | Finish


class Sink(Protocol):
    """Takes batches in the moment they arrive."""

    def give(self, batch: list[TokenEvent]) -> bool:
        """Take a batch, without blocking; it is the sink's from then on.

        Returns:
            Whether there is room for more; otherwise ``drained`` is awaited first.
        """
        ...

    async def drained(self) -> None:
        """There is room again. May raise to end the stream."""
        ...


class TokenStream(Protocol):
    """The answer to one request: batches of events, a ``Finish`` last. For one reader.

    A stream that ends without ``Finish`` raises, so a cut can never pass for an end. It is read
    by iterating, or from some point on by ``pump``, which costs no task switch for each token.
    """

    def __aiter__(self) -> AsyncIterator[list[TokenEvent]]: ...

    def __anext__(self) -> Awaitable[list[TokenEvent]]:
        """What arrived since the last call; waits for the next where nothing did.

        Raises:
            EngineRefusedError: before the first event; the request is at fault.
            EngineUnavailableError: before the first event; nothing was done.
            EngineBrokenError: the engine broke the protocol, or died
                (:class:`EngineFailedError`, one class for each cause).
        """
        ...

    async def pump(self, sink: Sink) -> None:
        """Give ``sink`` all that is still to come; returns after the ``Finish``.

        Raises:
            EngineError: as ``__anext__``.
            Exception: whatever the sink raised.
        """
        ...

    async def aclose(self) -> None:
        """Stop the generation and free its slot, whether it ended or not. May be called twice."""
        ...


class Slots(msgspec.Struct, frozen=True):
    """How many requests the engine runs at once, and how many it runs now, by its own account."""

    total: int
    busy: int


class Probe(msgspec.Struct, frozen=True):
    """What a golden probe saw. Times in seconds from the request."""

    text: str
    tokens: int
    first_token_s: float
    total_s: float
    verdict: Verdict | None = None
    """What the golden prompts showed, where there were some."""


class Engine(Protocol):
    """A model that can be asked. Built stopped; all methods may be called concurrently."""

    @property
    def model(self) -> str:
        """The model's name."""
        ...

    @property
    def revision(self) -> str:
        """The revision whose files it serves."""
        ...

    @property
    def base_url(self) -> str:
        """Where the engine itself listens, ``http://host:port``; empty while it is down."""
        ...

    @property
    def features(self) -> frozenset[str]:
        """What it can do beyond plain chat and completion (``wire.workers``); known once it has
        started."""
        ...

    @property
    def capacity(self) -> int:
        """Requests it runs at once; more would wait inside the engine."""
        ...

    @property
    def ready(self) -> bool:
        """Whether a request has a chance now. False while starting, restarting and after death."""
        ...

    @property
    def dead(self) -> asyncio.Future[str]:
        """Done when the engine is given up for good, with the reason. A restart is no death."""
        ...

    @property
    def fault(self) -> Fault:
        """What ended it last, by name; empty where nothing did."""
        ...

    async def start(self) -> None:
        """Load the model and wait until it answers.

        Raises:
            EngineStartError: it did not come up; nothing is left running.
        """
        ...

    async def probe(self, golden: Expectations | None = None) -> Probe:
        """Generate a few tokens greedily and check that they are sane; then, where the revision
        says what it must answer, that it does (``gpu_worker.golden_probe``).

        Raises:
            ProbeFailedError: it crashed or refused, gave no tokens, numbers that are no
                probabilities, or other answers than were published.
        """
        ...

    async def health(self) -> bool:
        """Whether the engine itself says that it is well. Never raises."""
        ...

    def stream(self, request: Generation) -> TokenStream:
        """Ask. Nothing is sent before the first event is awaited."""
        ...

    async def tokenize(
        self, text: str, *, add_special: bool = False, parse_special: bool = False
    ) -> list[int]:
        """Token ids of ``text``.

        Args:
            add_special: put BOS before it where the vocabulary asks for that.
            parse_special: read control tokens in the text; never for text from outside.
        """
        ...

    async def embed(self, texts: tuple[str, ...]) -> Embeddings:
        """Vectors of ``texts``, in which nothing is read as a control token.

        Raises:
            EngineRefusedError: it gives no embeddings, or a text is too long.
        """
        ...

    async def slots(self) -> Slots:
        """The engine's own account of its slots."""
        ...

    async def aclose(self) -> None:
        """Stop for good; running streams break. May be called twice."""
        ...


async def collect(stream: TokenStream) -> tuple[str, Finish]:
    """The whole answer of a stream, which is closed."""
    text: list[str] = []
    try:
        async for batch in stream:
            for event in batch:
                if isinstance(event, Finish):
                    return "".join(text), event
                if isinstance(event, Token):
                    text.append(event.text)
    finally:
        await stream.aclose()
    raise EngineBrokenError("the stream ended without a finish")
