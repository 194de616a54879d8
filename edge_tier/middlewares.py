"""What an edge does with every request, whatever its path."""

from __future__ import annotations

import time

from aiohttp import web
from aiohttp.typedefs import Handler, Middleware

from wire.errors import HeadwaterError
from wire.http_errors import ErrorBody, error_response

TIMING = "Server-Timing"


class LengthRequiredError(HeadwaterError):
    """A body whose length is not announced (RFC 9110 section 15.5.12).

    Chunked framing lets a client send any number of bytes that are no body (extensions, trailers:
    RFC 9112 section 7.1), which no limit on the body bounds. Every client of these routes knows its
    length beforehand.
    """

    status = 411
    code = "length_required"


def require_length(body: ErrorBody) -> Middleware:
    """Refuse chunked request bodies and close the connection unread.

    Args:
        body: shapes the error.
    """

    @web.middleware
    async def middleware(request: web.Request, handler: Handler) -> web.StreamResponse:
        if "Transfer-Encoding" not in request.headers:
            return await handler(request)
        response = error_response(
            LengthRequiredError("send the body with a Content-Length, not chunked"), body
        )
        response.force_close()
        return response

    return middleware


@web.middleware
async def timed(request: web.Request, handler: Handler) -> web.StreamResponse:
    """Every answer says how long it took; those of the pipeline say it by stage themselves."""
    started = time.perf_counter()
    response = await handler(request)
    if not response.prepared and TIMING not in response.headers:
        spent_ms = (time.perf_counter() - started) * 1e3
        response.headers[TIMING] = f"total;dur={spent_ms:.3f}"
    return response
