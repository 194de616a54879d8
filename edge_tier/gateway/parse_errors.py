"""What can be wrong with a request's body, and in which field (OpenAI's ``param``).

msgspec names the path of a value of the wrong type, but only the byte offset of malformed JSON.
From the offset we name the last known field before it. No message quotes what the client sent.
"""

from __future__ import annotations

import re
from typing import TypeVar

import msgspec

from wire.errors import RequestInvalidError

_PATH = re.compile(r"(?P<what>.*?)(?: - at `\$\.?(?P<path>[^`]*)`)?", re.DOTALL)
_MISSING = re.compile(r"Object missing required field `(\w+)`")
_OFFSET = re.compile(r"\(byte (\d+)\)")
_KEY = re.compile(rb'"([a-z_]{1,32})"\s*:')
_TOKEN = re.compile(rb'"[^"\\]*(?:\\.[^"\\]*)*"|[\[\]{}]', re.DOTALL)
_LONE_SURROGATE = re.compile(rb"\\u[dD][89abAB][0-9a-fA-F]{2}(?!\\u[dD][c-fC-F])")
_KEY_WINDOW_BYTES = 4_096
_DEEP = 32
_MAX_TOKENS_SCANNED = 5_000

T = TypeVar("T")


class ParameterInvalidError(RequestInvalidError):
    """A field of the wrong type, out of range or missing; ``param`` names it where known."""

    code = "invalid_value"

    def __init__(self, message: str, param: str | None = None) -> None:
        super().__init__(message)
        self.param = param


class ParameterUnsupportedError(ParameterInvalidError):
    """A field of the OpenAI API that this version cannot honour."""

    code = "unsupported_parameter"


class RequestTooLargeError(ParameterInvalidError):
    """A body, text or list beyond the configured bound."""

    status = 413
    code = "request_too_large"


def decode(decoder: msgspec.json.Decoder[T], raw: bytes | msgspec.Raw | str, at: str = "") -> T:
    """Decode JSON; ``at`` is the path of ``raw`` in the body, for the error's ``param``.

    Raises:
        ParameterInvalidError: see :func:`translated`.
    """
    try:
        return decoder.decode(raw)
    except (msgspec.DecodeError, UnicodeError, RecursionError) as error:
        body = raw.encode(errors="replace") if isinstance(raw, str) else bytes(raw)
        raise translated(error, body, at) from error


def translated(error: Exception, body: bytes, at: str) -> ParameterInvalidError:
    """The error of decoding ``body``, which stands at the path ``at`` of the request."""
    if isinstance(error, msgspec.ValidationError):
        return _wrong_shape(str(error), at)
    if isinstance(error, RecursionError):
        return _malformed("is nested too deeply", _join(at, _field_before(body, _deep_at(body))))
    if isinstance(error, UnicodeDecodeError):
        return _malformed("is not UTF-8", _join(at, _field_before(body, _bad_utf8_at(body))))
    if "trailing characters" in str(error):
        return _malformed("goes on after its JSON value", at)
    # A lone surrogate near the end reads as a truncated body to msgspec, without an offset.
    found = _OFFSET.search(str(error))
    lone = None if found else _LONE_SURROGATE.search(body)
    offset = int(found[1]) if found else lone.start() if lone else len(body)
    return _malformed("is not valid JSON", _join(at, _field_before(body, offset)))


def _wrong_shape(text: str, at: str) -> ParameterInvalidError:
    match = _PATH.fullmatch(text)
    what, path = (match["what"], match["path"]) if match else (text, "")
    path = (path or "").replace("[...]", "")
    if missing := _MISSING.fullmatch(what):
        param = _join(_join(at, path), missing[1])
        return ParameterInvalidError(f"{param} is required", param)
    if what.startswith("Invalid enum value"):
        what = "not one of the allowed values"
    param = _join(at, path)
    return ParameterInvalidError(f"{param or 'the body'}: {what}", param or None)


def _malformed(what: str, param: str) -> ParameterInvalidError:
    where = f", at or after {param}" if param else ""
    return ParameterInvalidError(f"the body {what}{where}", param or None)


def _join(at: str, path: str) -> str:
    if not at or not path:
        return at or path
    return f"{at}{path}" if path.startswith("[") else f"{at}.{path}"


def _field_before(body: bytes, offset: int) -> str:
    """The last key before ``offset``, looking back a bounded way."""
    keys = _KEY.findall(body[max(0, offset - _KEY_WINDOW_BYTES) : offset])
    return keys[-1].decode() if keys else ""


def _bad_utf8_at(body: bytes) -> int:
    try:
        body.decode()
    except UnicodeDecodeError as error:
        return error.start
    return 0


def _deep_at(body: bytes) -> int:
    """Where the value that goes ``_DEEP`` levels down begins; 0 where that is not found soon."""
    depth = start = 0
    for count, match in enumerate(_TOKEN.finditer(body)):
        if count >= _MAX_TOKENS_SCANNED:
            break
        token = match[0]
        if token in b"[{":
            depth += 1
            if depth == 2:
                start = match.start()
            if depth > _DEEP:
                return start
        elif token in b"]}":
            depth -= 1
    return 0
