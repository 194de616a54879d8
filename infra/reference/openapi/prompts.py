"""``/v1``: OpenAI's API as the edge answers it (OpenAI API reference)."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from edge_tier.gateway.audit import AuditError
from edge_tier.gateway.content import ContentBlockedError
from edge_tier.gateway.credentials import InvalidKeyError, ModelForbiddenError
from edge_tier.gateway.errors import (
    BodyTimeoutError,
    ModelsNotReadyError,
    NoBackendError,
    UpstreamError,
    UpstreamRefusedError,
)
from edge_tier.gateway.heads import HeadInvalidError, HeadTooLargeError, LengthRequiredError
from edge_tier.gateway.hidden import HiddenTextError
from edge_tier.gateway.jwt_tokens import AuthBusyError
from edge_tier.gateway.limits import BudgetExceededError, RateLimitedError, TokensOverLimitError
from edge_tier.gateway.parse_errors import (
    ParameterInvalidError,
    ParameterUnsupportedError,
    RequestTooLargeError,
)
from edge_tier.gateway.personal_data import TooMuchPersonalDataError
from edge_tier.gateway.route import NoRouteError, StaysLocalError, UnknownModelError
from edge_tier.gateway.sanitize import HomoglyphsBlockedError, PersonalDataBlockedError
from edge_tier.gateway.screening import InjectionBlockedError
from edge_tier.gateway.shedding import OverloadedError
from edge_tier.gateway.tokenize import ContextExceededError
from infra.reference.openapi.model import JSON, Answer, Area, Operation, Parameter, Schema
from infra.reference.openapi.parts import EVENT, openai_shape
from wire.chat import ModelCard, ModelList, Usage
from wire.errors import ForbiddenError, HeadwaterError, TooLargeError

_LET_IN: tuple[type[HeadwaterError], ...] = (
    InvalidKeyError,
    ForbiddenError,
    AuthBusyError,
    HeadInvalidError,
    HeadTooLargeError,
)
_ASKED: tuple[type[HeadwaterError], ...] = (
    *_LET_IN,
    LengthRequiredError,
    BodyTimeoutError,
    TooLargeError,
    ParameterInvalidError,
    ParameterUnsupportedError,
    RequestTooLargeError,
    ModelForbiddenError,
    UnknownModelError,
    StaysLocalError,
    HiddenTextError,
    HomoglyphsBlockedError,
    PersonalDataBlockedError,
    TooMuchPersonalDataError,
    InjectionBlockedError,
    ContentBlockedError,
    ContextExceededError,
    RateLimitedError,
    BudgetExceededError,
    TokensOverLimitError,
    UpstreamRefusedError,
    UpstreamError,
    NoRouteError,
    NoBackendError,
    ModelsNotReadyError,
    OverloadedError,
    AuditError,
)
_MODEL = Parameter(name="model", about="A model's name.")
_NAME: Mapping[str, Any] = {"type": "string", "pattern": "^[!-~]{1,128}$"}
_STOP: Mapping[str, Any] = {"type": "string", "minLength": 1, "maxLength": 256}


def _ranged(kind: str, low: float, high: float) -> Mapping[str, Any]:
    return {"type": [kind, "null"], "minimum": low, "maximum": high}


_COMMON: Mapping[str, Any] = {
    "model": _NAME,
    "temperature": _ranged("number", 0, 2),
    "top_p": _ranged("number", 0, 1),
    "seed": _ranged("integer", -(2**63), 2**63 - 1),
    "stop": {"anyOf": [_STOP, {"type": "array", "maxItems": 4, "items": _STOP}, {"type": "null"}]},
    "presence_penalty": _ranged("number", -2, 2),
    "frequency_penalty": _ranged("number", -2, 2),
    "max_tokens": _ranged("integer", 1, 1_048_576),
    "max_completion_tokens": _ranged("integer", 1, 1_048_576),
    "stream": {"type": ["boolean", "null"]},
    "user": {"type": ["string", "null"], "maxLength": 256},
    "n": _ranged("integer", 1, 8),
}
_MESSAGE = {
    "type": "object",
    "required": ["role", "content"],
    "properties": {
        "role": {"enum": ["system", "developer", "user", "assistant", "tool"]},
        "content": {"type": "string", "description": "Text, or a list of parts of text."},
    },
}
_CHAT: Schema = {
    "type": "object",
    "required": ["model", "messages"],
    "properties": {
        **_COMMON,
        "messages": {"type": "array", "minItems": 1, "maxItems": 512, "items": _MESSAGE},
        "logprobs": {"type": ["boolean", "null"]},
        "top_logprobs": _ranged("integer", 0, 20),
        "tools": {"type": ["array", "null"], "items": {"type": "object"}},
        "tool_choice": {"type": ["string", "object", "null"]},
        "response_format": {"type": ["object", "null"]},
    },
}
_COMPLETION: Schema = {
    "type": "object",
    "required": ["model", "prompt"],
    "properties": {
        **_COMMON,
        "prompt": {"type": "string"},
        "logprobs": _ranged("integer", 0, 20),
    },
}
_EMBEDDING: Schema = {
    "type": "object",
    "required": ["model", "input"],
    "properties": {
        "model": _NAME,
        "input": {
            "anyOf": [
                {"type": "string", "minLength": 1},
                {
                    "type": "array",
                    "minItems": 1,
                    "maxItems": 256,
                    "items": {"type": "string", "minLength": 1},
                },
            ]
        },
        "encoding_format": {"enum": ["float", "base64", None]},
        "dimensions": _ranged("integer", 1, 65_536),
        "user": {"type": ["string", "null"], "maxLength": 256},
    },
}


def prompts_area() -> Area:
    """The front door of prompts."""
    return Area(
        name="v1",
        about="OpenAI's API. An API key, or a token of the configured issuer.",
        operations=(
            _post("/v1/chat/completions", "Answer a conversation.", _CHAT, "chat.completion"),
            _post("/v1/completions", "Go on with a text.", _COMPLETION, "text_completion"),
            _post("/v1/embeddings", "Vectors of texts.", _EMBEDDING, "list"),
            _look("/v1/models", "The models that the caller may ask.", ModelList),
            _look("/v1/models/{model}", "One of them.", ModelCard, (_MODEL,), (UnknownModelError,)),
        ),
    )


def _post(path: str, summary: str, body: Schema, kind: str) -> Operation:
    content: dict[str, Schema] = {JSON: _whole(kind)}
    if kind != "list":
        about = "With `stream`: in `data` of each event a chunk in JSON; at last `[DONE]`."
        content["text/event-stream"] = {**EVENT, "description": about}
    return _operation("POST", path, summary, content, body=body, errors=_ASKED)


def _look(
    path: str,
    summary: str,
    answer: type,
    parameters: tuple[Parameter, ...] = (),
    errors: tuple[type[HeadwaterError], ...] = (),
) -> Operation:
    more = (*_LET_IN, *errors)
    return _operation("GET", path, summary, {JSON: answer}, parameters=parameters, errors=more)


def _operation(
    method: str,
    path: str,
    summary: str,
    content: Mapping[str, Schema],
    *,
    parameters: tuple[Parameter, ...] = (),
    body: Schema | None = None,
    errors: tuple[type[HeadwaterError], ...],
) -> Operation:
    timing = {"Server-Timing": "Milliseconds of each stage."}
    shape: Callable[..., Any] = openai_shape
    return Operation(
        method=method,
        path=path,
        summary=summary,
        parameters=parameters,
        body=body,
        answers={200: Answer(content=content, headers=timing)},
        errors=errors,
        shape=shape,
        security=("apiKey",),
    )


def _whole(kind: str) -> Mapping[str, Any]:
    named = "data" if kind == "list" else "choices"
    usage = {name: {"type": "integer"} for name in Usage.__struct_fields__}
    return {
        "type": "object",
        "required": ["object", named],
        "properties": {
            "object": {"const": kind},
            named: {"type": "array", "items": {"type": "object"}},
            "usage": {"type": "object", "properties": usage},
        },
    }
