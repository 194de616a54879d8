"""Our errors in OpenAI's envelope, which stock clients read on ``/v1``."""

from __future__ import annotations

from wire.chat import error_body, error_event
from wire.errors import HeadwaterError

_TYPES = {401: "authentication_error", 403: "permission_error", 429: "rate_limit_error"}


def openai_error(error: HeadwaterError) -> tuple[bytes, str]:
    """Body and content type (``wire.http_errors.ErrorBody``)."""
    return error_body(error.message, _type(error), error.code), "application/json"


def openai_error_event(error: HeadwaterError) -> bytes:
    """The end of a stream that broke."""
    return error_event(error.message, _type(error), error.code)


def _type(error: HeadwaterError) -> str:
    if error.status >= 500:
        return "server_error"
    return _TYPES.get(error.status, "invalid_request_error")
