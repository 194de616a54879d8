"""Turns our errors into HTTP answers, in one place (RFC 9457 problem details)."""

from __future__ import annotations

from collections.abc import Callable

import msgspec
import structlog
from aiohttp import web
from aiohttp.typedefs import Handler, Middleware

from wire.chunk import Buffer
from wire.errors import HeadwaterError
from wire.paths import READYZ

MAX_DETAIL_CHARS = 500
"""Characters of a foreign reason that are passed on."""

ErrorBody = Callable[[HeadwaterError], tuple[bytes, str]]
"""Body and content type of an error's answer."""

_log = structlog.get_logger("http")


def problem(error: HeadwaterError) -> tuple[bytes, str]:
    """Problem details: ``status``, ``code`` (ours, stable) and ``detail``."""
    body = {"status": error.status, "code": error.code, "detail": error.message}
    return msgspec.json.encode(body), "application/problem+json"


class _Detail(msgspec.Struct, frozen=True):
    detail: str = ""


def refusal(body: Buffer) -> str:
    """The reason in the body of an answer that refuses, made harmless for a log: problem details'
    ``detail``; empty where there is none."""
    try:
        found = msgspec.json.decode(body, type=_Detail).detail
    except (msgspec.DecodeError, RecursionError):
        return ""
    return "".join(c for c in found[:MAX_DETAIL_CHARS] if c.isprintable())


def error_response(error: HeadwaterError, body: ErrorBody = problem) -> web.Response:
    """The answer that says ``error``. Never cached."""
    content, content_type = body(error)
    headers = {"Cache-Control": "no-store", **error.headers}
    return web.Response(
        body=content, status=error.status, content_type=content_type, headers=headers
    )


def error_middleware(
    bodies: dict[str, ErrorBody] | None = None,
) -> Middleware:
    """Middleware that answers every ``HeadwaterError``.

    Args:
        bodies: by path prefix, who shapes the body there (``/v1`` speaks OpenAI's envelope);
            elsewhere problem details.
    """
    shapes = bodies or {}

    @web.middleware
    async def middleware(request: web.Request, handler: Handler) -> web.StreamResponse:
        try:
            return await handler(request)
        except HeadwaterError as error:
            if error.status >= 500 and request.path != READYZ:
                _log.warning("failed", path=request.path, code=error.code, detail=error.message)
            return error_response(error, _shape(request.path))
        except web.HTTPException as error:
            if error.status < 400:
                raise
            return error_response(_from_aiohttp(error), _shape(request.path))

    def _shape(path: str) -> ErrorBody:
        for prefix, body in shapes.items():
            if path.startswith(prefix):
                return body
        return problem

    return middleware


class _HttpError(HeadwaterError):
    """What the HTTP library refused by itself: no such route, wrong method, body too large."""

    def __init__(self, status: int, code: str, message: str, headers: dict[str, str]) -> None:
        super().__init__(message, headers=headers)
        self._status, self._code = status, code

    @property
    def status(self) -> int:  # type: ignore[override]
        return self._status

    @property
    def code(self) -> str:  # type: ignore[override]
        return self._code


def _from_aiohttp(error: web.HTTPException) -> HeadwaterError:
    codes = {404: "not_found", 405: "method_not_allowed", 413: "too_large"}
    allow = {"Allow": error.headers["Allow"]} if "Allow" in error.headers else {}
    return _HttpError(error.status, codes.get(error.status, "http_error"), error.reason, allow)
