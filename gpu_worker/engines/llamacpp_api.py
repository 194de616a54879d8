"""What is said to llama.cpp's HTTP API and what it answers, sans-IO.

Its API is described in llama.cpp's ``tools/server/README.md``; fields were checked against the
server itself (xllamacpp 2026.10). Unknown fields of an answer are ignored.
"""

from __future__ import annotations

import secrets
from collections.abc import Callable
from functools import partial
from typing import Any, TypeAlias, TypeVar

import msgspec

from gpu_worker.engine import (
    CallPiece,
    ContextLengthError,
    Embeddings,
    EngineBrokenError,
    EngineError,
    EngineRefusedError,
    EngineUnavailableError,
    Finish,
    Generation,
    Message,
    Sampling,
    Token,
    TokenEvent,
)
from gpu_worker.engines.event_stream import Decode
from gpu_worker.engines.llamacpp_tools import add_tools
from wire.chat import DONE_DATA, FinishReason, TokenLogprob, ToolCallDelta

T = TypeVar("T")
Logprobs: TypeAlias = list[TokenLogprob] | None
_DONE_BYTES = DONE_DATA.encode()
_FINISH_FIELDS = ("stop", "stop_type", "tokens_evaluated", "tokens_predicted", "timings", "content")
"""The last event would otherwise repeat the prompt and all settings."""


class SlotState(msgspec.Struct, frozen=True):
    """An entry of ``GET /slots``."""

    is_processing: bool


class Tokenized(msgspec.Struct, frozen=True):
    """The answer of ``POST /tokenize``."""

    tokens: list[int]


class _Vector(msgspec.Struct, frozen=True):
    index: int
    embedding: list[float]


class _Vectors(msgspec.Struct, frozen=True):
    data: list[_Vector]
    usage: _Usage


class _Timings(msgspec.Struct, frozen=True):
    cache_n: int = 0
    prompt_ms: float = 0.0
    predicted_ms: float = 0.0


class _Fault(msgspec.Struct, frozen=True):
    message: str = ""
    type: str = ""


class _Refusal(msgspec.Struct, frozen=True):
    error: _Fault = _Fault()


class _Native(msgspec.Struct, frozen=True):
    """An event of ``/completion``; the last one has ``stop``."""

    content: str = ""
    stop: bool = False
    tokens: tuple[int, ...] = ()
    completion_probabilities: list[TokenLogprob] | None = None
    stop_type: str = ""
    tokens_evaluated: int = 0
    tokens_predicted: int = 0
    timings: _Timings = _Timings()
    error: _Fault | None = None


class _Delta(msgspec.Struct, frozen=True):
    content: str | None = None
    tool_calls: tuple[ToolCallDelta, ...] = ()


class _Logprobs(msgspec.Struct, frozen=True):
    content: list[TokenLogprob] | None = None


class _Choice(msgspec.Struct, frozen=True):
    delta: _Delta = _Delta()
    logprobs: _Logprobs | None = None
    finish_reason: FinishReason | None = None


class _Usage(msgspec.Struct, frozen=True):
    prompt_tokens: int = 0
    completion_tokens: int = 0


class _Chat(msgspec.Struct, frozen=True):
    """An event of ``/v1/chat/completions``; the finish reason comes before the usage."""

    choices: tuple[_Choice, ...] = ()
    usage: _Usage | None = None
    timings: _Timings = _Timings()
    error: _Fault | None = None


_decode_native = msgspec.json.Decoder(_Native).decode
_decode_chat = msgspec.json.Decoder(_Chat).decode


def compose(request: Generation, *, cache_prompt: bool) -> tuple[str, bytes, Decode]:
    """Path and body that ask for ``request``, and how to read the events of the answer.

    A plain-text prompt must have been made token ids before: llama.cpp reads control tokens in it.
    """
    # Progress is an event for each batch of the prompt, at which a closed connection is noticed.
    fields: dict[str, Any] = {
        "stream": True,
        "cache_prompt": cache_prompt,
        "return_progress": True,
        **_sampling_fields(request.sampling),
    }
    sampling = request.sampling
    shown = sampling.top_logprobs, sampling.logprobs_first
    if request.prompt and isinstance(request.prompt[0], Message):
        fields |= {"messages": request.prompt, "stream_options": {"include_usage": True}}
        forced = add_tools(fields, request)
        if request.max_tokens is not None:
            fields["max_tokens"] = request.max_tokens
        if sampling.logprobs:
            # 0 would give none at all, not even those of the chosen tokens.
            fields |= {"logprobs": True, "top_logprobs": max(1, sampling.top_logprobs)}
        body = msgspec.json.encode(fields)
        return (
            "/v1/chat/completions",
            body,
            chat_events(*shown, forced=forced, one=request.parallel_tool_calls is False),
        )
    fields |= {"prompt": request.prompt, "response_fields": _FINISH_FIELDS}
    if request.max_tokens is not None:
        fields["n_predict"] = request.max_tokens
    if sampling.logprobs:
        fields["n_probs"] = max(1, sampling.top_logprobs)
    if request.token_ids:
        fields["return_tokens"] = True
        return "/completion", msgspec.json.encode(fields), journaled_events(*shown)
    return "/completion", msgspec.json.encode(fields), native_events(*shown)


def embeddings(answer: bytes) -> Embeddings:
    """The vectors in an answer of ``/v1/embeddings``. Raises ``EngineBrokenError``."""
    found = decode_answer(answer, _Vectors)
    ordered = sorted(found.data, key=lambda vector: vector.index)
    return Embeddings([vector.embedding for vector in ordered], found.usage.prompt_tokens)


def native_events(top_logprobs: int, first: int = 0) -> Decode:
    """Reads the events of one ``/completion``, with so many alternatives of a token; where
    ``first`` is given, only so many tokens keep their logprobs."""
    shown = logprob_filter(top_logprobs, first)

    def decode(data: str | bytes, batch: list[TokenEvent]) -> None:
        try:
            event = _decode_native(data)
        except (msgspec.DecodeError, RecursionError) as error:
            raise _malformed(error) from error
        if event.error is not None:
            raise _failure(event.error)
        if event.content or event.completion_probabilities:
            batch.append(Token(event.content, shown(event.completion_probabilities)))
        if event.stop:
            batch.append(_native_finish(event))

    return decode


def journaled_events(top_logprobs: int, first: int = 0) -> Decode:
    """As :func:`native_events`, with the ids of the tokens behind each piece of text.

    llama.cpp names a token in its own event, also where its text is held back because a string at
    which to stop may have begun; then the ids, and the logprobs, wait for the text. Of a character
    of several tokens only the last one is told, but they are counted.
    """
    shown = logprob_filter(top_logprobs, first)
    told = 0
    ids: list[int] = []
    held: list[TokenLogprob] = []

    def decode(data: str | bytes, batch: list[TokenEvent]) -> None:
        nonlocal told
        try:
            event = _decode_native(data)
        except (msgspec.DecodeError, RecursionError) as error:
            raise _malformed(error) from error
        if event.error is not None:
            raise _failure(event.error)
        logprobs = event.completion_probabilities
        one = event.tokens_predicted == told + 1 and len(event.tokens) == 1
        if one and event.content and not (ids or held):
            told += 1  # as nearly always: an event is one token and its text
            batch.append(Token(event.content, shown(logprobs), event.tokens))
            return
        if event.tokens_predicted > told:
            gap = event.tokens_predicted - told - len(event.tokens)
            if gap > 0:
                ids.append(-gap)
            ids.extend(event.tokens)
            told = event.tokens_predicted
        held.extend(logprobs or ())
        if event.content:
            batch.append(Token(event.content, shown(held.copy() or None), tuple(ids)))
            ids.clear()
            held.clear()
        if event.stop:
            if held:
                batch.append(Token("", shown(held)))
            batch.append(msgspec.structs.replace(_native_finish(event), ids=tuple(ids)))

    return decode


def chat_events(
    top_logprobs: int, first: int = 0, *, forced: str = "", one: bool = False
) -> Decode:
    """Reads the events of one ``/v1/chat/completions``; its arguments as of ``native_events``.

    Args:
        forced: the function that had to be called: the content is its arguments.
        one: only one call is wanted; llama.cpp was seen to make more all the same.
    """
    shown = logprob_filter(top_logprobs, first)
    reason: FinishReason | None = None
    call_id: str | None = f"call_{secrets.token_hex(12)}" if forced else None

    def decode(data: str | bytes, batch: list[TokenEvent]) -> None:
        nonlocal reason, call_id
        if data in (DONE_DATA, _DONE_BYTES):
            return
        try:
            event = _decode_chat(data)
        except (msgspec.DecodeError, RecursionError) as error:
            raise _malformed(error) from error
        if event.error is not None:
            raise _failure(event.error)
        for choice in event.choices:
            reason = choice.finish_reason or reason
            logprobs = choice.logprobs.content if choice.logprobs is not None else None
            if forced:
                if choice.delta.content:
                    name = forced if call_id else None
                    batch.append(CallPiece(0, call_id, name, choice.delta.content))
                    call_id = None
                continue
            for call in choice.delta.tool_calls:
                if one and call.index > 0:
                    continue
                function = call.function
                piece = function.arguments or ""
                batch.append(CallPiece(call.index, call.id, function.name, piece))
            if choice.delta.content or logprobs:
                batch.append(Token(choice.delta.content or "", shown(logprobs)))
        if event.usage is not None and reason is not None:
            ended: FinishReason = "tool_calls" if forced and reason == "stop" else reason
            batch.append(_finish(ended, event.usage, event.timings))

    return decode


def decode_answer(answer: bytes, kind: type[T]) -> T:
    """A whole answer of ``kind``. Raises ``EngineBrokenError``."""
    try:
        return msgspec.json.decode(answer, type=kind)
    except (msgspec.DecodeError, RecursionError) as error:
        raise EngineBrokenError(f"the engine sent a malformed answer: {error}") from error


def refusal(status: int, answer: bytes) -> EngineError:
    """The error that an answer other than 200 means."""
    if status == 503:
        return EngineUnavailableError("the engine is still loading")
    try:
        return _failure(msgspec.json.decode(answer, type=_Refusal).error)
    except (msgspec.DecodeError, RecursionError):
        return EngineBrokenError(f"the engine answered {status} without saying why")


def _malformed(error: Exception) -> EngineBrokenError:
    return EngineBrokenError(f"the engine sent a malformed event: {error}")


def _failure(fault: _Fault) -> EngineError:
    """What llama.cpp says is wrong, as one of ours. Its messages hold numbers, no prompt text."""
    if fault.type == "exceed_context_size_error":
        return ContextLengthError(fault.message)
    if fault.type == "invalid_request_error":
        return EngineRefusedError(fault.message)
    return EngineBrokenError(f"the engine failed ({fault.type or 'no reason given'})")


def _native_finish(event: _Native) -> Finish:
    reason: FinishReason = "stop" if event.stop_type in {"eos", "word"} else "length"
    counts = _Usage(event.tokens_evaluated, event.tokens_predicted)
    return _finish(reason, counts, event.timings)


def _finish(reason: FinishReason, counts: _Usage, timings: _Timings) -> Finish:
    return Finish(
        reason=reason,
        prompt_tokens=counts.prompt_tokens,
        completion_tokens=counts.completion_tokens,
        cached_tokens=timings.cache_n,
        prompt_ms=timings.prompt_ms,
        decode_ms=timings.predicted_ms,
    )


def _sampling_fields(sampling: Sampling) -> dict[str, Any]:
    """The fields that both endpoints call the same."""
    fields = {
        "temperature": sampling.temperature,
        "top_p": sampling.top_p,
        "seed": sampling.seed,
        "presence_penalty": sampling.presence_penalty,
        "frequency_penalty": sampling.frequency_penalty,
        "stop": sampling.stop or None,
        "logit_bias": sampling.logit_bias or None,
    }
    return {name: value for name, value in fields.items() if value is not None}


def logprob_filter(top: int, first: int) -> Callable[[Logprobs], Logprobs]:
    """What is passed on of a token's logprobs. The engine cannot be told to stop computing them,
    but encoding and sending them can be spared."""
    if not first:
        return partial(_trim, top=top)
    left = first

    def shown(logprobs: Logprobs) -> Logprobs:
        nonlocal left
        if not logprobs or not left:
            return None
        kept = logprobs[:left]
        left -= len(kept)
        return _trim(kept, top)

    return shown


def _trim(logprobs: Logprobs, top: int) -> Logprobs:
    """At most ``top`` alternatives of each token: llama.cpp cannot be asked for none."""
    if logprobs is None or all(len(entry.top_logprobs) <= top for entry in logprobs):
        return logprobs
    return [
        TokenLogprob(entry.token, entry.logprob, entry.bytes, entry.top_logprobs[:top])
        for entry in logprobs
    ]
