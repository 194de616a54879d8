"""Bodies of administrative requests: bounded before they are believed."""

from __future__ import annotations

from typing import TypeVar

import msgspec
from aiohttp import web

from wire.errors import RequestInvalidError, TooLargeError

T = TypeVar("T")


async def read_body(request: web.Request, limit_bytes: int) -> bytes:
    """The whole body. Raises ``TooLargeError``."""
    if (request.content_length or 0) > limit_bytes:
        raise TooLargeError(f"body is over {limit_bytes} B")
    parts, size = [], 0
    async for part in request.content.iter_any():
        size += len(part)
        if size > limit_bytes:
            raise TooLargeError(f"body is over {limit_bytes} B")
        parts.append(part)
    return b"".join(parts)


async def read_json(request: web.Request, kind: type[T], limit_bytes: int) -> T:
    """The body as a value of ``kind``. Raises ``RequestInvalidError``, ``TooLargeError``."""
    body = await read_body(request, limit_bytes)
    try:
        return msgspec.json.decode(body, type=kind)
    except (msgspec.DecodeError, RecursionError, UnicodeDecodeError) as error:
        raise RequestInvalidError(f"request body: {error}") from error
