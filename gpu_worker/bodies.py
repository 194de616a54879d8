"""Request bodies of the worker's API: bytes from outside to a checked ``Generation``.

Only the fields below are read. Whatever else a body holds (``slot_id``, ``lora``, ``n_discard``, …)
is dropped here and never reaches an engine.
"""

from __future__ import annotations

from typing import Annotated, TypeVar

import msgspec
from msgspec import Meta

from gpu_worker.engine import Generation, Message, Sampling
from wire.errors import RequestInvalidError

MAX_PROMPT_TOKENS = 1_048_576
MAX_MESSAGES = 4_096

T = TypeVar("T")
_TokenId = Annotated[int, Meta(ge=0, lt=2**31)]
_TokenIds = Annotated[tuple[_TokenId, ...], Meta(min_length=1, max_length=MAX_PROMPT_TOKENS)]
_Messages = Annotated[tuple[Message, ...], Meta(min_length=1, max_length=MAX_MESSAGES)]
_Penalty = Annotated[float, Meta(ge=-2.0, le=2.0)]
_Stop = Annotated[str, Meta(min_length=1, max_length=256)]
_Stops = Annotated[tuple[_Stop, ...], Meta(max_length=16)]
_Bias = Annotated[float, Meta(ge=-100.0, le=100.0)]
_BiasId = Annotated[str, Meta(pattern=r"^[0-9]{1,9}$")]
_MAX_TOP = 20
_MAX_FIRST = 256


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
    revision: Annotated[str, Meta(max_length=64)] = ""
    """Our extension: the revision that token ids were made for."""
    logprobs_first: Annotated[int, Meta(ge=1, le=_MAX_FIRST)] | None = None
    """Our extension: logprobs for the first so many tokens only, which is all that a confidence
    gate looks at. Stands for ``logprobs`` too."""

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

    messages: _Messages | None = None
    prompt_token_ids: _TokenIds | None = None
    max_completion_tokens: Annotated[int, Meta(ge=1, le=MAX_PROMPT_TOKENS)] | None = None
    logprobs: bool | None = None
    top_logprobs: Annotated[int, Meta(ge=0, le=_MAX_TOP)] | None = None

    def generation(self) -> Generation:
        """What to ask the engine.

        Raises:
            RequestInvalidError: neither or both of the two forms of a prompt.
        """
        prompt = self.prompt_token_ids or self.messages
        if prompt is None or (self.prompt_token_ids and self.messages):
            raise RequestInvalidError("give either messages or prompt_token_ids")
        if self.top_logprobs and not (self.logprobs or self.logprobs_first):
            raise RequestInvalidError("top_logprobs needs logprobs")
        return Generation(
            prompt=prompt,
            max_tokens=self.max_completion_tokens or self.max_tokens,
            sampling=self.sampling(
                logprobs=bool(self.logprobs), top_logprobs=self.top_logprobs or 0
            ),
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


class TokenizeBody(msgspec.Struct, frozen=True, kw_only=True):
    """``POST /tokenize``."""

    content: str
    add_special: bool = False
    parse_special: bool = False


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
