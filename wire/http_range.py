"""Byte ranges of HTTP (RFC 9110 section 14). Pure."""

from __future__ import annotations

import re

from wire.errors import HeadwaterError

_BYTES = re.compile(r"bytes=(\d{0,20})-(\d{0,20})")


class RangeNotSatisfiableError(HeadwaterError):
    """The range lies outside of the content (RFC 9110 section 15.5.17)."""

    status = 416
    code = "range_not_satisfiable"

    def __init__(self, size: int) -> None:
        super().__init__(
            f"the range is outside of the {size} B", headers={"Content-Range": f"bytes */{size}"}
        )


def parse_range(header: str | None, size: int) -> tuple[int, int] | None:
    """The one range asked for, as (start, end) with ``end`` exclusive; None: send everything.

    Several ranges at once and units other than bytes are ignored, as section 14.2 allows: the
    answer is then the whole content.

    Raises:
        RangeNotSatisfiableError: the range starts past the end.
    """
    match = _BYTES.fullmatch(header.strip()) if header else None
    if match is None:
        return None
    first, last = match.groups()
    if first:
        start, end = int(first), min(int(last) + 1, size) if last else size
        if last and int(last) < start:
            return None
    elif last:
        start, end = max(size - int(last), 0), size
    else:
        return None
    if start >= size or start >= end:
        raise RangeNotSatisfiableError(size)
    return start, end


def applies(if_range: str | None, etag: str) -> bool:
    """Whether a range may be used under ``If-Range`` (RFC 9110 section 13.1.5), strong match."""
    return if_range is None or if_range.strip() == etag


def etag_matches(if_none_match: str | None, etag: str) -> bool:
    """Weak comparison of ``If-None-Match`` (RFC 9110 section 13.1.2)."""
    if if_none_match is None:
        return False
    if if_none_match.strip() == "*":
        return True
    return any(tag.strip().removeprefix("W/") == etag for tag in if_none_match.split(","))
