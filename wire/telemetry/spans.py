"""Spans as values, made after the fact from times that were measured anyway."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal, NamedTuple, Protocol

from wire.telemetry.trace_context import TraceContext, begin_trace, parse_traceparent

SpanKind = Literal["server", "client", "internal"]
Value = str | bool | int | float | Sequence[str]
_NOTHING: Mapping[str, Value] = {}


@dataclass(frozen=True, slots=True, kw_only=True)
class Span:
    """A piece of work that is over. Times are Unix nanoseconds.

    ``attributes`` hold no text of a prompt or an answer, and no secret.
    """

    name: str
    kind: SpanKind
    context: TraceContext
    parent_id: str
    """Empty: it has none."""
    start_ns: int
    end_ns: int
    attributes: Mapping[str, Value] = field(default_factory=lambda: _NOTHING)
    link: TraceContext | None = None
    error: str = ""
    """What went wrong, by its code; empty: nothing."""


class SpanSink(Protocol):
    """Takes spans, at once and without blocking; what it has no room for is lost."""

    def emit(self, spans: Sequence[Span]) -> None: ...


class Begun(NamedTuple):
    """A request's place in a trace."""

    context: TraceContext
    parent_id: str
    """Of whoever asked us; empty: nobody that we go on from."""
    link: TraceContext | None
    """Whoever asked us, where we do not go on from them."""


class Traces:
    """Where a tier's traces begin, and where their spans go.

    Args:
        ratio: of the traces that begin here, the share that is recorded.
        trust: go on with the trace of whoever asks.
        offset_s: from ``time.perf_counter`` to Unix time.
    """

    def __init__(
        self, sink: SpanSink, *, ratio: float, trust: bool, offset_s: float | None = None
    ) -> None:
        self._sink = sink
        self._ratio = ratio
        self._trust = trust
        self._offset_s = offset_s

    def begin(self, traceparent: str | None) -> Begun:
        """The place of a request that came with this header."""
        asker = parse_traceparent(traceparent) if traceparent else None
        if asker is None:
            return Begun(begin_trace(self._ratio), "", None)
        if self._trust:
            return Begun(asker.child(), asker.span_id, None)
        return Begun(begin_trace(self._ratio), "", asker)

    def emit(self, spans: Sequence[Span]) -> None:
        """Hand over spans of a trace that is sampled."""
        self._sink.emit(spans)

    def clock_offset_s(self) -> float:
        """From ``time.perf_counter`` to Unix time, as of now: the wall clock may be set."""
        if self._offset_s is not None:
            return self._offset_s
        return time.time() - time.perf_counter()
