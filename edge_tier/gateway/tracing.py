"""The trace of one request at the edge: ids at its beginning, spans at its end.

While a request runs only ids and times are noted; :func:`spans_of` makes the spans when the access
log's line is written, from what was measured for that. Attributes follow OpenTelemetry's semantic
conventions for generative AI; no text of a prompt or an answer is among them.
"""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from typing import Literal

from wire.telemetry.spans import Begun, Span, Traces, Value
from wire.telemetry.trace_context import HEADER, TraceContext

Target = Literal["worker", "cloud"]
OPERATIONS: Mapping[str, str] = {
    "chat": "chat",
    "completion": "text_completion",
    "embedding": "embeddings",
}
"""The kinds of prompts by the names that the conventions give (``gen_ai.operation.name``)."""
_MAX_ATTEMPTS = 32


class Attempt:
    """One backend that was asked. It is over once, whoever says so first."""

    __slots__ = ("began_s", "context", "ended_s", "error", "model", "revision", "target", "worker")

    def __init__(self, context: TraceContext, target: Target, model: str, worker: str) -> None:
        self.context = context
        self.target = target
        self.model = model
        self.worker = worker
        self.revision = ""
        self.began_s = time.perf_counter()
        self.ended_s = 0.0
        self.error = ""

    def header(self) -> bytes:
        """The line that tells the backend; none for who is not ours."""
        if self.target != "worker":
            return b""
        return f"{HEADER}: {self.context.header()}\r\n".encode("ascii")

    def end(self, error: str = "") -> None:
        """It answered to its end, was not needed any more, or failed."""
        if not self.ended_s:
            self.ended_s, self.error = time.perf_counter(), error


def in_log(trace: RequestTrace | None) -> dict[str, str]:
    """What a line of the log says of the trace; nothing where there is none."""
    return {"trace_id": trace.trace_id} if trace is not None else {}


class RequestTrace:
    """One request's."""

    __slots__ = ("_begun", "_traces", "attempts", "began_s")

    def __init__(self, traces: Traces, traceparent: str | None) -> None:
        self._traces = traces
        self._begun: Begun = traces.begin(traceparent)
        self.began_s = time.perf_counter()
        self.attempts: list[Attempt] = []

    @property
    def trace_id(self) -> str:
        """For the log."""
        return self._begun.context.trace_id

    @property
    def sampled(self) -> bool:
        """Whether its spans are wanted."""
        return self._begun.context.sampled

    def attempt(self, target: Target, model: str, worker: str = "") -> Attempt:
        """A backend is asked now."""
        context = self._begun.context
        attempt = Attempt(context.child() if context.sampled else context, target, model, worker)
        if context.sampled and len(self.attempts) < _MAX_ATTEMPTS:
            self.attempts.append(attempt)
        return attempt

    def finish(
        self,
        name: str,
        attributes: Mapping[str, Value],
        stages: Sequence[tuple[str, float]],
        error: str = "",
    ) -> None:
        """The request is over.

        Args:
            stages: names and milliseconds, one after the other from the beginning.
            error: what went wrong by our fault or a backend's, by its code.
        """
        if self.sampled:
            self._traces.emit(self._spans(name, attributes, stages, error))

    def _spans(
        self,
        name: str,
        attributes: Mapping[str, Value],
        stages: Sequence[tuple[str, float]],
        error: str,
    ) -> list[Span]:
        context, parent_id, link = self._begun
        offset_s, now_s = self._traces.clock_offset_s(), time.perf_counter()

        def unix_ns(at_s: float) -> int:
            return int((at_s + offset_s) * 1e9)

        spans = [
            Span(
                name=name,
                kind="server",
                context=context,
                parent_id=parent_id,
                start_ns=unix_ns(self.began_s),
                end_ns=unix_ns(now_s),
                attributes=attributes,
                link=link,
                error=error,
            )
        ]
        at_s = self.began_s
        for stage, ms in stages:
            # What was timed before the trace began takes no time after its end.
            begins_s, at_s = at_s, min(at_s + ms / 1e3, now_s)
            if stage != "backend":  # that is what the attempts tell
                spans.append(
                    Span(
                        name=stage,
                        kind="internal",
                        context=context.child(),
                        parent_id=context.span_id,
                        start_ns=unix_ns(begins_s),
                        end_ns=unix_ns(at_s),
                    )
                )
        for number, attempt in enumerate(self.attempts):
            spans.append(
                Span(
                    name=f"ask {attempt.target}",
                    kind="client",
                    context=attempt.context,
                    parent_id=context.span_id,
                    start_ns=unix_ns(attempt.began_s),
                    end_ns=unix_ns(attempt.ended_s or now_s),
                    attributes=_attributes(attempt, number),
                    error=attempt.error,
                )
            )
        return spans


def _attributes(attempt: Attempt, number: int) -> dict[str, Value]:
    """Of one attempt."""
    found: dict[str, Value] = {
        "gen_ai.request.model": attempt.model,
        "headwater.attempt": number,
    }
    if attempt.worker:
        found["headwater.worker"] = attempt.worker
    if attempt.revision:
        found["headwater.revision"] = attempt.revision
    if attempt.error:
        found["error.type"] = attempt.error
    return found
