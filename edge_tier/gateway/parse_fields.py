"""What chat, completion and embedding requests have in common: bounds, and the generation fields.

Every number is checked for its range (OpenAI API reference), and every count before anything is
built of it.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field

import msgspec

from edge_tier.gateway.parse_errors import ParameterInvalidError, RequestTooLargeError, decode
from edge_tier.gateway.parse_tools import NULL, ToolsConfig
from edge_tier.gateway.request import Sampling

_PRINTABLE = re.compile(r"[!-~]+")
_TOKEN_ID = re.compile(r"0|[1-9][0-9]{0,8}")
_MAX_STOPS = 4
_MAX_TOP_LOGPROBS = 20
_MAX_BIAS = 100
_SEED_BITS = 63


@dataclass(frozen=True, slots=True, kw_only=True)
class ParseConfig:
    """Bounds on one request."""

    max_body_bytes: int = 1024 * 1024
    """A larger body is refused (413)."""
    max_text_chars: int = 262_144
    """Characters of all messages together."""
    max_messages: int = 512
    """Of a chat; more are refused (413)."""
    max_parts: int = 256
    """Content parts of one message."""
    max_output_tokens: int = 1_048_576
    """The largest ``max_tokens`` that is believed; a caller's own limit is the limits stage's."""
    max_model_chars: int = 128
    """Of a model's name; a longer one is refused (400)."""
    max_user_chars: int = 256
    """Of ``user``; a longer one is refused (400)."""
    max_stop_chars: int = 256
    """Of each ``stop``; a longer one is refused (400)."""
    max_logit_bias_entries: int = 1_024
    """More are refused (413)."""
    max_choices: int = 8
    """The largest ``n``; each choice may use as many tokens as one alone."""
    max_inputs: int = 256
    """Texts to embed in one request."""
    tools: ToolsConfig = field(default_factory=ToolsConfig)


class _StreamOptions(msgspec.Struct):
    include_usage: bool | None = None


class Common(msgspec.Struct, kw_only=True):
    """The fields that chat and completions share, as they are decoded."""

    model: str
    temperature: float | None = None
    top_p: float | None = None
    seed: int | None = None
    stop: str | list[str] | None = None
    presence_penalty: float | None = None
    frequency_penalty: float | None = None
    logit_bias: msgspec.Raw = NULL
    top_logprobs: int | None = None
    max_tokens: int | None = None
    max_completion_tokens: int | None = None
    stream: bool | None = None
    stream_options: _StreamOptions | None = None
    user: str | None = None
    n: int | None = None


_BIAS: msgspec.json.Decoder[dict[str, float] | None] = msgspec.json.Decoder(dict[str, float] | None)


def sampling(
    fields: Common, logprobs: bool, top_logprobs: int | None, config: ParseConfig
) -> Sampling:
    """How to choose tokens. Raises ``ParameterInvalidError`` or ``RequestTooLargeError``."""
    check_range(fields.temperature, "temperature", 0, 2)
    check_range(fields.top_p, "top_p", 0, 1)
    check_range(fields.presence_penalty, "presence_penalty", -2, 2)
    check_range(fields.frequency_penalty, "frequency_penalty", -2, 2)
    check_range(fields.seed, "seed", -(2**_SEED_BITS), 2**_SEED_BITS - 1)
    check_range(top_logprobs, "top_logprobs", 0, _MAX_TOP_LOGPROBS)
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


def check_range(value: float | None, param: str, low: int, high: int) -> None:
    """Raise ``ParameterInvalidError`` for a number that is not within the range."""
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
    if raw is NULL:
        return None
    # Valid keys are digits, so colons count the entries before any is built.
    if bytes(raw).count(b":") > config.max_logit_bias_entries:
        raise RequestTooLargeError(
            f"logit_bias holds more than {config.max_logit_bias_entries} entries", "logit_bias"
        )
    biases = decode(_BIAS, raw, "logit_bias")
    for key, bias in (biases or {}).items():
        if not _TOKEN_ID.fullmatch(key):
            raise ParameterInvalidError(
                "logit_bias keys are token ids, as decimal strings", "logit_bias"
            )
        check_range(bias, "logit_bias", -_MAX_BIAS, _MAX_BIAS)
    return biases


def max_tokens(fields: Common, config: ParseConfig) -> int | None:
    """One number from both spellings; two that differ could pass one check and use the other."""
    old, new = fields.max_tokens, fields.max_completion_tokens
    check_range(old, "max_tokens", 1, config.max_output_tokens)
    check_range(new, "max_completion_tokens", 1, config.max_output_tokens)
    if old is not None and new is not None and old != new:
        raise ParameterInvalidError(
            "max_tokens and max_completion_tokens differ; send one of them", "max_tokens"
        )
    return old if new is None else new


def include_usage(fields: Common) -> bool:
    """Whether a stream ends with its usage. Raises ``ParameterInvalidError``: it is no stream."""
    if fields.stream_options is None:
        return False
    if not fields.stream:
        raise ParameterInvalidError("stream_options needs stream to be true", "stream_options")
    return bool(fields.stream_options.include_usage)


def checked_model(model: str, config: ParseConfig) -> str:
    """A model's name. Raises ``ParameterInvalidError``: it cannot be one."""
    if len(model) > config.max_model_chars or not _PRINTABLE.fullmatch(model):
        raise ParameterInvalidError(
            f"model is 1 to {config.max_model_chars} printable ASCII characters without spaces",
            "model",
        )
    return model


def checked_user(user: str | None, config: ParseConfig) -> str | None:
    """Who asks, as the client says. Raises ``ParameterInvalidError``: too long."""
    if user is not None and len(user) > config.max_user_chars:
        raise ParameterInvalidError(f"user has at most {config.max_user_chars} characters", "user")
    return user


def check_chars(chars: int, param: str, config: ParseConfig) -> None:
    """Raise ``RequestTooLargeError`` for more characters than are taken."""
    if chars > config.max_text_chars:
        raise RequestTooLargeError(
            f"{param} holds {chars} characters, more than {config.max_text_chars}", param
        )


def choices(fields: Common, config: ParseConfig) -> int:
    """``n``: how many answers are wanted. Raises ``ParameterInvalidError``: out of range."""
    check_range(fields.n, "n", 1, config.max_choices)
    return fields.n or 1
