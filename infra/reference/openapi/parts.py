"""Parameters, error bodies and headers that operations of several areas share."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from infra.reference.openapi.model import PROBLEM, Answer, Parameter
from wire.errors import (
    ChunkMismatchError,
    GoneError,
    HeadwaterError,
    NameInvalidError,
    NotFoundError,
    RequestInvalidError,
    SourceUnavailableError,
    TooLargeError,
    TrustError,
    TrustExpiredError,
    UnauthorizedError,
)

NAME_PATTERN = "^(?!.*\\.\\.)[A-Za-z0-9][A-Za-z0-9._-]{0,95}$"
DIGEST_PATTERN = "^[0-9a-f]{64}$"
NAME: Mapping[str, Any] = {"type": "string", "pattern": NAME_PATTERN}
DIGEST: Mapping[str, Any] = {"type": "string", "pattern": DIGEST_PATTERN}
COUNT: Mapping[str, Any] = {"type": "integer", "minimum": 0, "maximum": 999_999_999}
OBJECT: Mapping[str, Any] = {"type": "object"}
EVENT: Mapping[str, Any] = {
    "type": "object",
    "description": "Of each event of the stream: its fields (WHATWG HTML, server-sent events).",
    "required": ["data"],
    "properties": {name: {"type": "string"} for name in ("data", "event", "id")},
}
BYTES: Mapping[str, Any] = {"type": "string", "format": "binary"}

MODEL = Parameter(name="model", about="A model's name.", schema=NAME)
CHANNEL = Parameter(name="channel", about="A channel's name.", schema=NAME)
REVISION = Parameter(name="revision", about="SHA-256 of the manifest.", schema=DIGEST)
CHUNK = Parameter(name="id", about="BLAKE3 of the chunk.", schema=DIGEST)
IF_NONE_MATCH = Parameter(
    name="If-None-Match", where="header", about="`ETag` of what the client has."
)
RANGE = Parameter(
    name="Range",
    where="header",
    about="One range of bytes; any other kind is ignored (RFC 9110 section 14.2).",
)

READ_BODY: tuple[type[HeadwaterError], ...] = (RequestInvalidError, TooLargeError)
ADMIN_READ: tuple[type[HeadwaterError], ...] = (UnauthorizedError,)
ADMIN_WRITE: tuple[type[HeadwaterError], ...] = (*ADMIN_READ, *READ_BODY)
NAMED: tuple[type[HeadwaterError], ...] = (NameInvalidError, NotFoundError)
"""Of a path with a name in it: one that can name nothing, or names nothing here."""
SERVED: tuple[type[HeadwaterError], ...] = (*NAMED, GoneError)
BEHIND: tuple[type[HeadwaterError], ...] = (
    SourceUnavailableError,
    ChunkMismatchError,
    TrustError,
    TrustExpiredError,
)
"""What goes wrong behind an edge, at its upstreams."""
NOT_MODIFIED = Answer(about="What the client has is still right.", headers={"ETag": "As it was."})


def problem_shape(codes: Sequence[str]) -> tuple[str, Mapping[str, Any]]:
    """Problem details (RFC 9457), with a code that stays the same for ever."""
    fields = {
        "status": {"type": "integer"},
        "code": {"type": "string", "enum": list(codes)},
        "detail": {"type": "string"},
    }
    return PROBLEM, _object(fields)


def openai_shape(codes: Sequence[str]) -> tuple[str, Mapping[str, Any]]:
    """OpenAI's envelope."""
    fields = {
        "message": {"type": "string"},
        "type": {"type": "string"},
        "param": {"type": ["string", "null"]},
        "code": {"type": ["string", "null"], "enum": list(codes)},
    }
    return "application/json", _object({"error": _object(fields)})


def hub_shape(codes: Sequence[str]) -> tuple[str, Mapping[str, Any]]:
    """As the Hub's clients read errors."""
    fields = {"error": {"type": "string"}, "code": {"type": "string", "enum": list(codes)}}
    return "application/json", _object(fields)


def registry_shape(codes: Sequence[str]) -> tuple[str, Mapping[str, Any]]:
    """As registries say errors; ours is the ``detail``."""
    fields = {
        "code": {"type": "string"},
        "message": {"type": "string"},
        "detail": {"type": "string", "enum": list(codes)},
    }
    errors = {"type": "array", "minItems": 1, "items": _object(fields)}
    return "application/json", _object({"errors": errors})


def bearer(about: str) -> Mapping[str, Any]:
    """A security scheme: a secret in the ``Authorization`` header."""
    return {"type": "http", "scheme": "bearer", "description": about}


def _object(properties: Mapping[str, Any]) -> Mapping[str, Any]:
    return {"type": "object", "required": list(properties), "properties": properties}
