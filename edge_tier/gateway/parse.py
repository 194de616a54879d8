"""The parse stage: the JSON body of a request to a checked ``Prompt``.

Decoding goes into allow-listed structs (OpenAI API reference, chat completions and completions), so
a field that is not named here never goes further:

- *taken*: the fields of ``Prompt`` and ``Sampling``, each checked for type and range;
- *refused* (400, ``unsupported_parameter``): fields that would change the answer in a way this
  version cannot honour (tools, ``response_format``, ``n`` > 1, …), unless they ask for the default;
- *dropped*: everything else, both what is harmless (``metadata``, ``store``, ``service_tier``,
  ``prediction``, a message's ``name`` and ``tool_call_id``) and what is hostile (``n_discard``,
  ``slot_id``, ``lora``). What is sent upstream is written anew from the ``Prompt``.

Nothing here loops over the body in Python before its counts are known, so a hostile megabyte costs
milliseconds (``tests/edge_tier/gateway/test_parse.py`` holds the bound).
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, Literal, TypeVar

import msgspec

from edge_tier.gateway.parse_errors import (
    ParameterInvalidError,
    ParameterUnsupportedError,
    RequestTooLargeError,
    translated,
)
from edge_tier.gateway.request import Message, Prompt, Sampling

_NULL = msgspec.Raw(b"null")
_PRINTABLE = re.compile(r"[!-~]+")
_TOKEN_ID = re.compile(r"0|[1-9][0-9]{0,8}")
_MAX_STOPS = 4
_MAX_TOP_LOGPROBS = 20
_MAX_BIAS = 100
_SEED_BITS = 63

T = TypeVar("T")


@dataclass(frozen=True, slots=True, kw_only=True)
class ParseConfig:
    """Bounds on one request."""

    max_body_bytes: int = 1024 * 1024
    max_text_chars: int = 262_144
    """Characters of all messages together."""
    max_messages: int = 512
    max_parts: int = 256
    """Content parts of one message."""
    max_output_tokens: int = 1_048_576
    """The largest ``max_tokens`` that is believed; a caller's own limit is the limits stage's."""
    max_model_chars: int = 128
    max_user_chars: int = 256
    max_stop_chars: int = 256
    max_logit_bias_entries: int = 1_024


class _StreamOptions(msgspec.Struct):
    include_usage: bool | None = None


class _Part(msgspec.Struct):
    type: str
    text: str | None = None


class _Message(msgspec.Struct):
    role: Literal["system", "developer", "user", "assistant", "tool"]
    content: str | list[_Part] | None = None
    tool_calls: msgspec.Raw = _NULL
    function_call: msgspec.Raw = _NULL
    audio: msgspec.Raw = _NULL


class _Common(msgspec.Struct, kw_only=True):
    model: str
    temperature: float | None = None
    top_p: float | None = None
    seed: int | None = None
    stop: str | list[str] | None = None
    presence_penalty: float | None = None
    frequency_penalty: float | None = None
    logit_bias: msgspec.Raw = _NULL
    top_logprobs: int | None = None
    max_tokens: int | None = None
    max_completion_tokens: int | None = None
    stream: bool | None = None
    stream_options: _StreamOptions | None = None
    user: str | None = None
    n: msgspec.Raw = _NULL


class _Chat(_Common, kw_only=True):
    messages: list[_Message]
    logprobs: bool | None = None
    tools: msgspec.Raw = _NULL
    tool_choice: msgspec.Raw = _NULL
    parallel_tool_calls: msgspec.Raw = _NULL
    functions: msgspec.Raw = _NULL
    function_call: msgspec.Raw = _NULL
    response_format: msgspec.Raw = _NULL
    modalities: msgspec.Raw = _NULL
    audio: msgspec.Raw = _NULL
    reasoning_effort: msgspec.Raw = _NULL
    verbosity: msgspec.Raw = _NULL
    web_search_options: msgspec.Raw = _NULL


class _Completion(_Common, kw_only=True):
    prompt: msgspec.Raw
    logprobs: int | None = None
    best_of: msgspec.Raw = _NULL
    echo: msgspec.Raw = _NULL
    suffix: msgspec.Raw = _NULL


_HARMLESS: dict[str, tuple[object, ...]] = {
    "n": (1,),
    "best_of": (1,),
    "echo": (False,),
    "suffix": ("",),
    "tools": ([],),
    "tool_choice": ("none", "auto"),
    "parallel_tool_calls": (True, False),
    "functions": ([],),
    "function_call": ("none", "auto"),
    "response_format": ({"type": "text"},),
    "modalities": (["text"],),
    "audio": (),
    "reasoning_effort": ("none",),
    "verbosity": ("medium",),
    "web_search_options": (),
    "tool_calls": ([],),
}
"""Unsupported fields, and the values that ask for no more than what happens anyway."""
_MAX_HARMLESS_BYTES = 64

_CHAT = msgspec.json.Decoder(_Chat)
_COMPLETION = msgspec.json.Decoder(_Completion)
_BIAS: msgspec.json.Decoder[dict[str, float] | None] = msgspec.json.Decoder(dict[str, float] | None)
_TEXTS: msgspec.json.Decoder[str | list[str]] = msgspec.json.Decoder(str | list[str])
_ANY: msgspec.json.Decoder[Any] = msgspec.json.Decoder()

_CHAT_UNSUPPORTED = tuple(name for name in _Chat.__struct_fields__ if name in _HARMLESS)
_COMPLETION_UNSUPPORTED = tuple(name for name in _Completion.__struct_fields__ if name in _HARMLESS)
_MESSAGE_UNSUPPORTED = ("tool_calls", "function_call", "audio")


def parse_chat(body: bytes, config: ParseConfig) -> Prompt:
    """Read the body of ``POST /v1/chat/completions``.

    Raises:
        ParameterInvalidError: not JSON, or a field of the wrong type or out of range (``param``).
        ParameterUnsupportedError: a field that this version cannot honour.
        RequestTooLargeError: the body, its text, or a list in it is beyond ``config``.
    """
    fields = _decode(_CHAT, _bounded(body, config))
    _refuse_unsupported(fields, _CHAT_UNSUPPORTED, "")
    if fields.top_logprobs is not None and not fields.logprobs:
        raise ParameterInvalidError("top_logprobs needs logprobs to be true", "top_logprobs")
    return Prompt(
        kind="chat",
        model=_model(fields.model, config),
        messages=_messages(fields.messages, config),
        sampling=_sampling(fields, bool(fields.logprobs), fields.top_logprobs, config),
        max_tokens=_max_tokens(fields, config),
        stream=bool(fields.stream),
        include_usage=_include_usage(fields),
        user=_user(fields.user, config),
    )


def parse_completion(body: bytes, config: ParseConfig) -> Prompt:
    """Read the body of ``POST /v1/completions``. Raises as ``parse_chat`` does."""
    fields = _decode(_COMPLETION, _bounded(body, config))
    _refuse_unsupported(fields, _COMPLETION_UNSUPPORTED, "")
    _check_range(fields.logprobs, "logprobs", 0, _MAX_TOP_LOGPROBS)
    return Prompt(
        kind="completion",
        model=_model(fields.model, config),
        text=_completion_text(fields.prompt, config),
        sampling=_sampling(fields, fields.logprobs is not None, fields.logprobs, config),
        max_tokens=_max_tokens(fields, config),
        stream=bool(fields.stream),
        include_usage=_include_usage(fields),
        user=_user(fields.user, config),
    )


def _bounded(body: bytes, config: ParseConfig) -> bytes:
    if len(body) > config.max_body_bytes:
        raise RequestTooLargeError(f"the body is larger than {config.max_body_bytes} B")
    return body


def _decode(decoder: msgspec.json.Decoder[T], raw: bytes | msgspec.Raw, at: str = "") -> T:
    """Decode JSON; ``at`` is the path of ``raw`` in the body, for the error's ``param``."""
    try:
        return decoder.decode(raw)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise translated(error, bytes(raw), at) from error


def _refuse_unsupported(fields: msgspec.Struct, names: Iterable[str], at: str) -> None:
    for name in names:
        raw = getattr(fields, name)
        if raw is _NULL:
            continue
        path = f"{at}.{name}" if at else name
        # Every harmless value is short, so a long one need not be built to be refused.
        if len(bytes(raw)) > _MAX_HARMLESS_BYTES or not _is_harmless(name, raw, path):
            raise ParameterUnsupportedError(f"{path} is not supported by this server", path)


def _is_harmless(name: str, raw: msgspec.Raw, path: str) -> bool:
    value = _decode(_ANY, raw, path)
    # The type counts too: JSON's true is not 1.
    return value is None or any(
        type(value) is type(allowed) and value == allowed for allowed in _HARMLESS[name]
    )


def _messages(turns: list[_Message], config: ParseConfig) -> tuple[Message, ...]:
    if not turns:
        raise ParameterInvalidError("messages must hold at least one message", "messages")
    if len(turns) > config.max_messages:
        raise RequestTooLargeError(f"more than {config.max_messages} messages", "messages")
    messages = tuple(_message(turn, index, config) for index, turn in enumerate(turns))
    _check_chars(sum(len(message.content) for message in messages), "messages", config)
    return messages


def _message(turn: _Message, index: int, config: ParseConfig) -> Message:
    if not (turn.tool_calls is turn.function_call is turn.audio is _NULL):
        _refuse_unsupported(turn, _MESSAGE_UNSUPPORTED, f"messages[{index}]")
    content = turn.content
    if not isinstance(content, str):
        content = _joined_parts(content, f"messages[{index}].content", config)
    return Message(turn.role, content)


def _joined_parts(parts: list[_Part] | None, at: str, config: ParseConfig) -> str:
    """Text parts are joined by a line end, as llama.cpp and vLLM join them."""
    if parts is None:
        raise ParameterInvalidError(f"{at} is required", at)
    if len(parts) > config.max_parts:
        raise RequestTooLargeError(f"{at} holds more than {config.max_parts} parts", at)
    return "\n".join(_part_text(part, f"{at}[{i}]") for i, part in enumerate(parts))


def _part_text(part: _Part, at: str) -> str:
    if part.type != "text":
        raise ParameterUnsupportedError(f"{at}: only text parts are supported", at)
    if part.text is None:
        raise ParameterInvalidError(f"{at}.text is required", f"{at}.text")
    return part.text


def _completion_text(raw: msgspec.Raw, config: ParseConfig) -> str:
    # Token ids from outside could be control tokens, so a prompt is text only.
    value = _decode(_TEXTS, raw, "prompt")
    if isinstance(value, list):
        if len(value) != 1:
            raise ParameterUnsupportedError("prompt must be one string", "prompt")
        value = value[0]
    _check_chars(len(value), "prompt", config)
    return value


def _check_chars(chars: int, param: str, config: ParseConfig) -> None:
    if chars > config.max_text_chars:
        raise RequestTooLargeError(
            f"{param} holds {chars} characters, more than {config.max_text_chars}", param
        )


def _sampling(
    fields: _Common, logprobs: bool, top_logprobs: int | None, config: ParseConfig
) -> Sampling:
    _check_range(fields.temperature, "temperature", 0, 2)
    _check_range(fields.top_p, "top_p", 0, 1)
    _check_range(fields.presence_penalty, "presence_penalty", -2, 2)
    _check_range(fields.frequency_penalty, "frequency_penalty", -2, 2)
    _check_range(fields.seed, "seed", -(2**_SEED_BITS), 2**_SEED_BITS - 1)
    _check_range(top_logprobs, "top_logprobs", 0, _MAX_TOP_LOGPROBS)
    return Sampling(
        temperature=fields.temperature,
        top_p=fields.top_p,
        seed=fields.seed,
        stop=_stops(fields.stop, config) if fields.stop is not None else (),
        presence_penalty=fields.presence_penalty,
        frequency_penalty=fields.frequency_penalty,
        logit_bias=_logit_bias(fields.logit_bias, config),
        logprobs=logprobs,
        top_logprobs=top_logprobs,
    )


def _check_range(value: float | None, param: str, low: int, high: int) -> None:
    if value is not None and not low <= value <= high:
        raise ParameterInvalidError(f"{param} must be between {low} and {high}", param)


def _stops(value: str | list[str], config: ParseConfig) -> tuple[str, ...]:
    stops = (value,) if isinstance(value, str) else tuple(value)
    if len(stops) > _MAX_STOPS:
        raise ParameterInvalidError(f"stop holds more than {_MAX_STOPS} strings", "stop")
    if not all(0 < len(stop) <= config.max_stop_chars for stop in stops):
        raise ParameterInvalidError(
            f"each stop string has 1 to {config.max_stop_chars} characters", "stop"
        )
    return stops


def _logit_bias(raw: msgspec.Raw, config: ParseConfig) -> dict[str, float] | None:
    if raw is _NULL:
        return None
    # Valid keys are digits, so colons count the entries before any is built.
    if bytes(raw).count(b":") > config.max_logit_bias_entries:
        raise RequestTooLargeError(
            f"logit_bias holds more than {config.max_logit_bias_entries} entries", "logit_bias"
        )
    biases = _decode(_BIAS, raw, "logit_bias")
    for key, bias in (biases or {}).items():
        if not _TOKEN_ID.fullmatch(key):
            raise ParameterInvalidError(
                "logit_bias keys are token ids, as decimal strings", "logit_bias"
            )
        _check_range(bias, "logit_bias", -_MAX_BIAS, _MAX_BIAS)
    return biases


def _max_tokens(fields: _Common, config: ParseConfig) -> int | None:
    """One number from both spellings; two that differ could pass one check and use the other."""
    old, new = fields.max_tokens, fields.max_completion_tokens
    _check_range(old, "max_tokens", 1, config.max_output_tokens)
    _check_range(new, "max_completion_tokens", 1, config.max_output_tokens)
    if old is not None and new is not None and old != new:
        raise ParameterInvalidError(
            "max_tokens and max_completion_tokens differ; send one of them", "max_tokens"
        )
    return old if new is None else new


def _include_usage(fields: _Common) -> bool:
    if fields.stream_options is None:
        return False
    if not fields.stream:
        raise ParameterInvalidError("stream_options needs stream to be true", "stream_options")
    return bool(fields.stream_options.include_usage)


def _model(model: str, config: ParseConfig) -> str:
    if len(model) > config.max_model_chars or not _PRINTABLE.fullmatch(model):
        raise ParameterInvalidError(
            f"model is 1 to {config.max_model_chars} printable ASCII characters without spaces",
            "model",
        )
    return model


def _user(user: str | None, config: ParseConfig) -> str | None:
    if user is not None and len(user) > config.max_user_chars:
        raise ParameterInvalidError(f"user has at most {config.max_user_chars} characters", "user")
    return user
