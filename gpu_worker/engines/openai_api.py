"""What is said to an OpenAI-compatible engine and what it answers, sans-IO.

Field names follow the OpenAI API reference. Servers differ in what they leave out (usage, bytes of
tokens, the reason of an error), so little is taken for granted: that a whole answer names a reason
and ends with ``[DONE]``. Token ids as a prompt are vLLM's (``/v1/completions``; OpenAI's own API
has them too).
"""

from __future__ import annotations

from itertools import zip_longest
from typing import Any, get_args

import msgspec

from gpu_worker.engine import (
    CallPiece,
    ContextLengthError,
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
    TokensUnsupportedError,
)
from gpu_worker.engines.event_stream import Decode
from gpu_worker.engines.llamacpp_api import Logprobs, logprob_filter
from wire.chat import (
    DONE_DATA,
    ChatChunk,
    ChunkChoice,
    FinishReason,
    TokenLogprob,
    TopLogprob,
    Usage,
)
from wire.chat import Logprobs as WireLogprobs

_DONE = frozenset({DONE_DATA, DONE_DATA.encode()})
_REASONS: frozenset[str] = frozenset(get_args(FinishReason))
_TOO_LONG = ("context length", "context_length", "too long", "context size")
_SHOWN = 300
_decode_chunk = msgspec.json.Decoder(ChatChunk).decode


class _Fault(msgspec.Struct, frozen=True):
    message: str = ""
    type: str | None = None
    code: str | int | None = None


class _Refusal(msgspec.Struct, frozen=True):
    """What is wrong stands in ``error``; older vLLM has its fields on top."""

    error: _Fault | str | None = None
    message: str = ""


def compose(
    request: Generation, model: str, *, takes_ids: bool, context_tokens: int = 0
) -> tuple[str, bytes, Decode]:
    """Path and body that ask for ``request``, and how to read the events of the answer.

    Args:
        model: its name at the server.
        takes_ids: whether a prompt may be token ids.
        context_tokens: prompt and answer together, where an answer to ids without a limit of its
            own may fill the rest; 0: the server decides.

    Raises:
        TokensUnsupportedError: token ids for a server that takes none.
    """
    sampling = request.sampling
    fields = {
        "model": model,
        "stream": True,
        "stream_options": {"include_usage": True},
        **_sampling_fields(sampling),
    }
    if request.max_tokens is not None:
        fields["max_tokens"] = request.max_tokens
    decode = events(sampling.top_logprobs, sampling.logprobs_first)
    if request.prompt and isinstance(request.prompt[0], Message):
        fields |= {"messages": request.prompt, **_tool_fields(request)}
        if sampling.logprobs:
            fields |= {"logprobs": True, "top_logprobs": sampling.top_logprobs}
        return "/v1/chat/completions", msgspec.json.encode(fields), decode
    if not isinstance(request.prompt, str):
        if not takes_ids:
            raise TokensUnsupportedError("this engine takes no token ids; send messages or text")
        if request.max_tokens is None and context_tokens:
            # The API's own default would be 16.
            fields["max_tokens"] = max(1, context_tokens - len(request.prompt))
    fields["prompt"] = request.prompt
    if sampling.logprobs:
        fields["logprobs"] = sampling.top_logprobs
    return "/v1/completions", msgspec.json.encode(fields), decode


def events(top_logprobs: int, first: int = 0) -> Decode:
    """Reads the events of one answer, chat or completion, with so many alternatives of a token;
    where ``first`` is given, only so many tokens keep their logprobs."""
    shown = logprob_filter(top_logprobs, first)
    reason, usage, pieces = "", Usage(), 0

    def decode(data: str | bytes, batch: list[TokenEvent]) -> None:
        nonlocal reason, usage, pieces
        if data in _DONE:
            if reason:
                batch.append(_finish(reason, usage, pieces))
            return
        try:
            chunk = _decode_chunk(data)
        except (msgspec.DecodeError, RecursionError) as error:
            raise EngineBrokenError(f"the engine sent a malformed event: {error}") from error
        if chunk.failed:
            raise refusal(500, bytes(data, "utf-8") if isinstance(data, str) else data)
        usage = chunk.usage or usage
        for choice in chunk.choices[:1]:
            reason = choice.finish_reason or reason
            pieces += _take(choice, shown(_logprobs(choice.logprobs)), batch)

    return decode


def refusal(status: int, answer: bytes) -> EngineError:
    """The error that an answer other than 200, or an error event, means."""
    try:
        found = msgspec.json.decode(answer, type=_Refusal)
    except (msgspec.DecodeError, RecursionError):
        found = _Refusal()
    fault = found.error
    text = (fault.message if isinstance(fault, _Fault) else fault or found.message)[:_SHOWN]
    if status in {429, 503}:
        return EngineUnavailableError(f"the engine takes no request now: {text}")
    if status in {401, 403}:
        return EngineBrokenError("the engine does not accept the worker's key")
    if status < 500:
        if any(sign in text.lower() for sign in _TOO_LONG):
            return ContextLengthError(text)
        return EngineRefusedError(text or f"the engine answered {status} without saying why")
    return EngineBrokenError(f"the engine failed ({text or 'no reason given'})")


def _take(choice: ChunkChoice, logprobs: Logprobs, batch: list[TokenEvent]) -> int:
    """Append what a chunk says; returns how many pieces of text that were."""
    delta, text = choice.delta, choice.text or ""
    if delta is not None:
        text = delta.content or text
        for call in delta.tool_calls or ():
            function = call.function
            batch.append(CallPiece(call.index, call.id, function.name, function.arguments or ""))
    if text or logprobs:
        batch.append(Token(text, logprobs))
    return bool(text)


def _finish(reason: str, usage: Usage, pieces: int) -> Finish:
    """The end; where the server counted nothing, pieces stand for tokens."""
    known: FinishReason = reason if reason in _REASONS else "stop"  # type: ignore[assignment]
    return Finish(
        reason=known,
        prompt_tokens=usage.prompt_tokens,
        completion_tokens=usage.completion_tokens or pieces,
    )


def _logprobs(found: WireLogprobs | None) -> Logprobs:
    """In chat form, whichever form the server uses."""
    if found is None:
        return None
    if found.content is not None or not found.tokens:
        return found.content
    rows = zip_longest(found.tokens, found.token_logprobs or (), found.top_logprobs or ())
    return [
        TokenLogprob(
            token,
            # Of the very first token of a text there is none.
            logprob if logprob is not None else 0.0,
            list(token.encode()),
            [TopLogprob(text, value, list(text.encode())) for text, value in (top or {}).items()],
        )
        for token, logprob, top in rows
        if token is not None
    ]


def _sampling_fields(sampling: Sampling) -> dict[str, Any]:
    fields = {
        "temperature": sampling.temperature,
        "top_p": sampling.top_p,
        "seed": sampling.seed,
        "presence_penalty": sampling.presence_penalty,
        "frequency_penalty": sampling.frequency_penalty,
        "stop": sampling.stop or None,
        "logit_bias": {str(id_): bias for id_, bias in sampling.logit_bias} or None,
    }
    return {name: value for name, value in fields.items() if value is not None}


def _tool_fields(request: Generation) -> dict[str, Any]:
    """What stands as JSON in the request goes on as it is."""
    fields: dict[str, Any] = {
        name: msgspec.Raw(text.encode())
        for name in ("tools", "tool_choice", "response_format")
        if (text := getattr(request, name))
    }
    if request.tools and request.parallel_tool_calls is not None:
        fields["parallel_tool_calls"] = request.parallel_tool_calls
    return fields
