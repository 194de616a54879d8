"""Who a request belongs to in a trace: W3C Trace Context (https://www.w3.org/TR/trace-context/).

Pure. What comes from outside is believed only in the one form that the recommendation gives; all
else counts as none. ``tracestate`` is not read: we have nothing to put there.
"""

from __future__ import annotations

import re
import secrets
from typing import NamedTuple

_TRACEPARENT = re.compile(r"([0-9a-f]{2})-([0-9a-f]{32})-([0-9a-f]{16})-([0-9a-f]{2})(-.*)?")
_MAX_CHARS = 512
HEADER = "traceparent"


class TraceContext(NamedTuple):
    """A place in a trace. Ids are lower-case hex digits, 32 and 16 of them."""

    trace_id: str
    span_id: str
    sampled: bool

    def header(self) -> str:
        """The value of ``traceparent``."""
        return f"00-{self.trace_id}-{self.span_id}-0{int(self.sampled)}"

    def child(self) -> TraceContext:
        """Another place in the same trace."""
        return TraceContext(self.trace_id, new_span_id(), self.sampled)


def parse_traceparent(value: str | None) -> TraceContext | None:
    """The place that a header names; None where it is missing or names none."""
    if not value or len(value) > _MAX_CHARS:
        return None
    found = _TRACEPARENT.fullmatch(value.strip(" \t"))
    if found is None:
        return None
    version, trace_id, span_id, flags, more = found.groups()
    if version == "ff" or (version == "00" and more is not None):
        return None
    if not (trace_id.strip("0") and span_id.strip("0")):
        return None
    return TraceContext(trace_id, span_id, bool(int(flags, 16) & 1))


def new_span_id() -> str:
    """Random; all zeros, which is none, has never been drawn."""
    return secrets.token_hex(8)


def begin_trace(ratio: float) -> TraceContext:
    """A new trace. Whether it is sampled follows from its id alone, as by OpenTelemetry's
    ``TraceIdRatioBased``: whoever decides again by the same ratio decides alike."""
    digits = secrets.token_hex(24)
    trace_id = digits[:32]
    return TraceContext(trace_id, digits[32:], int(trace_id[16:], 16) < ratio * 2**64)
