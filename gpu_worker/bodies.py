"""Request bodies of the worker's API: bytes from outside to a checked ``Generation``.

Only the fields below are read. Whatever else a body holds (``slot_id``, ``lora``, ``n_discard``, …)
is dropped here and never reaches an engine.
"""

from __future__ import annotations

from typing import Annotated, Literal, TypeVar

import msgspec
from msgspec import Meta

from gpu_worker.engine import Generation, Message, Sampling
from wire.chat import ToolCall
from wire.errors import RequestInvalidError
from wire.journal import JournalWanted, count

MAX_PROMPT_TOKENS = 1_048_576
MAX_MESSAGES = 4_096

T = TypeVar("T")
_TokenId = Annotated[int, Meta(ge=0, lt=2**31)]
_TokenIds = Annotated[tuple[_TokenId, ...], Meta(min_length=1, max_length=MAX_PROMPT_TOKENS)]
_Penalty = Annotated[float, Meta(ge=-2.0, le=2.0)]
_Stop = Annotated[str, Meta(min_length=1, max_length=256)]
_Stops = Annotated[tuple[_Stop, ...], Meta(max_length=16)]
_Bias = Annotated[float, Meta(ge=-100.0, le=100.0)]
_BiasId = Annotated[str, Meta(pattern=r"^[0-9]{1,9}$")]
_MAX_TOP = 20
_MAX_FIRST = 256
_MAX_CHOICES = 128
_MAX_INPUTS = 2_048
_MAX_TOOLS_BYTES = 256 * 1024
_NOTHING = msgspec.Raw(b"null")
_Text = Annotated[str, Meta(min_length=1)]


class _Turn(msgspec.Struct, frozen=True):
    """A message as it arrives: an assistant's that only makes calls has no content."""

    role: Literal["system", "developer", "user", "assistant", "tool"]
    content: str | None = None
    tool_calls: Annotated[tuple[ToolCall, ...], Meta(max_length=_MAX_CHOICES)] | None = None
    tool_call_id: str | None = None

    def message(self) -> Message:
        if self.content is None and not self.tool_calls:
            raise RequestInvalidError("a message needs content")
        return Message(
            self.role, self.content or "", self.tool_calls or (), self.tool_call_id or ""
        )


_Turns = Annotated[tuple[_Turn, ...], Meta(min_length=1, max_length=MAX_MESSAGES)]


class StreamOptions(msgspec.Struct, frozen=True):
    include_usage: bool = False


class _Body(msgspec.Struct, frozen=True, kw_only=True):
    model: str = ""
    stream: bool | None = None
    stream_options: StreamOptions | None = None
    max_tokens: Annotated[int, Meta(ge=1, le=MAX_PROMPT_TOKENS)] | None = None
    temperature: Annotated[float, Meta(ge=0.0, le=2.0)] | None = None
    top_p: Annotated[float, Meta(ge=0.0, le=1.0)] | None = None
    seed: Annotated[int, Meta(ge=-(2**63), le=2**63 - 1)] | None = None
    stop: _Stop | _Stops | None = None
    presence_penalty: _Penalty | None = None
    frequency_penalty: _Penalty | None = None
    logit_bias: Annotated[dict[_BiasId, _Bias], Meta(max_length=1_024)] | None = None
    n: Annotated[int, Meta(ge=1, le=_MAX_CHOICES)] | None = None
    revision: Annotated[str, Meta(max_length=64)] = ""
    """Our extension: the revision that token ids were made for."""
    logprobs_first: Annotated[int, Meta(ge=1, le=_MAX_FIRST)] | None = None
    """Our extension: logprobs for the first so many tokens only, which is all that a confidence
    gate looks at. Stands for ``logprobs`` too."""
    journal: JournalWanted | None = None
    """Our extension: the ids of the answer's tokens are told, or an answer goes on that another
    worker began."""

    def journaled(self, asked: Generation) -> JournalWanted | None:
        """The journal that is asked for, which only one stream after token ids can have.

        Raises:
            RequestInvalidError: this is none, or the answer cannot go on.
        """
        journal = self.journal
        if journal is None:
            return None
        ids = asked.prompt and isinstance(asked.prompt[0], int)
        if not (ids and self.stream and (self.n or 1) == 1):
            raise RequestInvalidError("journal needs token ids, and a stream of one choice")
        if asked.max_tokens is not None and count(journal.ids) >= asked.max_tokens:
            raise RequestInvalidError("journal holds as many tokens as are asked for")
        if min(journal.ids, default=0) < 0 and not journal.replay:
            raise RequestInvalidError("journal: an answer goes on only after tokens that are named")
        return journal

    @property
    def include_usage(self) -> bool:
        return self.stream_options is not None and self.stream_options.include_usage

    def sampling(self, *, logprobs: bool, top_logprobs: int) -> Sampling:
        """The sampling fields, in the form that engines take."""
        first = self.logprobs_first or 0
        stop = (self.stop,) if isinstance(self.stop, str) else self.stop or ()
        return Sampling(
            temperature=self.temperature,
            top_p=self.top_p,
            # Engines take 32 bits; the same seed must still give the same answer.
            seed=self.seed % 2**32 if self.seed is not None else None,
            stop=stop,
            presence_penalty=self.presence_penalty,
            frequency_penalty=self.frequency_penalty,
            logit_bias=tuple((int(id_), bias) for id_, bias in (self.logit_bias or {}).items()),
            logprobs=logprobs or first > 0,
            top_logprobs=top_logprobs,
            logprobs_first=first,
        )


class ChatBody(_Body, frozen=True, kw_only=True):
    """``POST /v1/chat/completions``. ``prompt_token_ids`` is our extension: a prompt that the edge
    has rendered and tokenized; it stands in place of ``messages``."""

    messages: _Turns | None = None
    prompt_token_ids: _TokenIds | None = None
    max_completion_tokens: Annotated[int, Meta(ge=1, le=MAX_PROMPT_TOKENS)] | None = None
    logprobs: bool | None = None
    top_logprobs: Annotated[int, Meta(ge=0, le=_MAX_TOP)] | None = None
    tools: msgspec.Raw = _NOTHING
    tool_choice: msgspec.Raw = _NOTHING
    parallel_tool_calls: bool | None = None
    response_format: msgspec.Raw = _NOTHING

    def generation(self) -> Generation:
        """What to ask the engine.

        Raises:
            RequestInvalidError: neither or both of the two forms of a prompt.
        """
        if (self.prompt_token_ids is None) == (self.messages is None):
            raise RequestInvalidError("give either messages or prompt_token_ids")
        tools, response_format = _json(self.tools), _json(self.response_format)
        if self.prompt_token_ids and (tools or response_format):
            raise RequestInvalidError("tools and response_format need messages")
        if self.top_logprobs and not (self.logprobs or self.logprobs_first):
            raise RequestInvalidError("top_logprobs needs logprobs")
        return Generation(
            prompt=self.prompt_token_ids or tuple(turn.message() for turn in self.messages or ()),
            max_tokens=self.max_completion_tokens or self.max_tokens,
            sampling=self.sampling(
                logprobs=bool(self.logprobs), top_logprobs=self.top_logprobs or 0
            ),
            tools=tools,
            tool_choice=_json(self.tool_choice),
            parallel_tool_calls=self.parallel_tool_calls,
            response_format=response_format,
        )


class CompletionBody(_Body, frozen=True, kw_only=True):
    """``POST /v1/completions``. ``logprobs`` is the number of alternatives, as OpenAI has it."""

    prompt: Annotated[str, Meta(min_length=1)] | _TokenIds
    logprobs: Annotated[int, Meta(ge=0, le=_MAX_TOP)] | None = None

    def generation(self) -> Generation:
        """What to ask the engine."""
        return Generation(
            prompt=self.prompt,
            max_tokens=self.max_tokens,
            sampling=self.sampling(
                logprobs=self.logprobs is not None, top_logprobs=self.logprobs or 0
            ),
        )


class EmbeddingBody(msgspec.Struct, frozen=True, kw_only=True):
    """``POST /v1/embeddings``."""

    input: _Text | Annotated[tuple[_Text, ...], Meta(min_length=1, max_length=_MAX_INPUTS)]
    model: str = ""
    encoding_format: Literal["float", "base64"] = "float"
    dimensions: int | None = None

    @property
    def texts(self) -> tuple[str, ...]:
        return (self.input,) if isinstance(self.input, str) else self.input


class TokenizeBody(msgspec.Struct, frozen=True, kw_only=True):
    """``POST /tokenize``."""

    content: str
    model: str = ""
    add_special: bool = False
    parse_special: bool = False


def _json(raw: msgspec.Raw) -> str:
    """JSON that is passed on as it is; empty where there is none."""
    data = bytes(raw)
    if len(data) > _MAX_TOOLS_BYTES:
        raise RequestInvalidError("tools or response_format are too large")
    try:
        return "" if data in {b"null", b"[]"} else data.decode()
    except UnicodeDecodeError as error:
        raise RequestInvalidError("tools or response_format are not UTF-8") from error


def decode_body(data: bytes, kind: type[T]) -> T:
    """Read a body as ``kind``.

    Raises:
        RequestInvalidError: not JSON, too deep, or a field of the wrong type or out of range. The
            message names the field, not what it held.
    """
    try:
        return msgspec.json.decode(data, type=kind)
    except (msgspec.DecodeError, RecursionError, UnicodeError) as error:
        raise RequestInvalidError(f"the body cannot be read: {error}") from error
