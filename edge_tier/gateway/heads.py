"""The head of a request, from its bytes (RFC 9112): parsed by httptools, and held to more rules.

Whatever two readers of a connection could understand differently is refused, because then a second
request could be smuggled past one of them: a transfer coding (our clients know their length), two
lengths, two hosts, folded lines, a bare line feed. The head ends at the first empty line, so a
reader that waits for that never parses half of one.
"""

from __future__ import annotations

from dataclasses import dataclass

import httptools

from wire.errors import HeadwaterError

END = b"\r\n\r\n"
_ONCE = frozenset(
    {"host", "content-length", "content-type", "authorization", "expect", "connection"}
)
_MAX_LENGTH_DIGITS = 15


class HeadInvalidError(HeadwaterError):
    """A request that is no HTTP/1, or that two readers could understand differently."""

    status = 400
    code = "bad_http"


class LengthRequiredError(HeadwaterError):
    """A body whose length is not announced (RFC 9110 section 15.5.12)."""

    status = 411
    code = "length_required"


class HeadTooLargeError(HeadwaterError):
    """More header bytes than are taken (RFC 6585 section 5)."""

    status = 431
    code = "headers_too_large"


@dataclass(slots=True)
class RequestHead:
    """A request without its body. Header names are in lower case."""

    method: str
    path: str
    """Without the query."""
    headers: dict[str, str]
    http11: bool
    keep_alive: bool
    length: int
    """Bytes of the body that follows."""


def parse_head(data: bytes) -> RequestHead:
    """Read a head, which ends in :data:`END`.

    Raises:
        HeadInvalidError: see there.
        LengthRequiredError: a chunked body.
    """
    collector = _Collector()
    parser = httptools.HttpRequestParser(collector)
    try:
        parser.feed_data(data)
    except httptools.HttpParserUpgrade as error:
        raise HeadInvalidError("this connection cannot be upgraded") from error
    except httptools.HttpParserError as error:
        raise HeadInvalidError(f"the request is not valid HTTP: {error}") from error
    if not collector.complete:
        raise HeadInvalidError("the request's head does not end where it should")
    if collector.repeated:
        raise HeadInvalidError(f"header {collector.repeated} stands there twice")
    headers, version = collector.headers, parser.get_http_version()
    if version not in ("1.1", "1.0") or (version == "1.1" and "host" not in headers):
        raise HeadInvalidError("send HTTP/1.1 with one Host header")
    if "transfer-encoding" in headers:
        raise LengthRequiredError("send the body with a Content-Length, not chunked")
    return RequestHead(
        parser.get_method().decode("ascii"),
        collector.url.partition(b"?")[0].decode("latin-1"),
        headers,
        version == "1.1",
        _stays(headers.get("connection"), version),
        _length(headers.get("content-length")),
    )


def _stays(connection: str | None, version: str) -> bool:
    """Whether the client wants its connection kept (RFC 9112 section 9.3)."""
    if connection is None:
        return version == "1.1"
    options = {option.strip() for option in connection.lower().split(",")}
    return "close" not in options and (version == "1.1" or "keep-alive" in options)


def _length(text: str | None) -> int:
    if text is None:
        return 0
    if not (text.isascii() and text.isdigit() and len(text) <= _MAX_LENGTH_DIGITS):
        raise HeadInvalidError("Content-Length is no number")
    return int(text)


class _Collector:
    """What httptools calls."""

    __slots__ = ("complete", "headers", "repeated", "url")

    def __init__(self) -> None:
        self.url = b""
        self.headers: dict[str, str] = {}
        self.repeated = ""
        self.complete = False

    def on_url(self, url: bytes) -> None:
        self.url += url

    def on_header(self, name: bytes, value: bytes) -> None:
        key = name.decode("latin-1").lower()
        headers = self.headers
        if key in headers:
            if key in _ONCE:
                self.repeated = key
            headers[key] = f"{headers[key]}, {value.decode('latin-1')}"
        else:
            headers[key] = value.decode("latin-1")

    def on_headers_complete(self) -> None:
        self.complete = True
