"""How one request goes at a worker: its times are counted, and become spans where there is a trace.

The spans are made when the request is over; while it runs, only times are noted.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping

from gpu_worker.engine import Engine, Finish
from gpu_worker.metrics import WorkerMetrics
from wire.telemetry.spans import Begun, Span, Traces, Value

_OPERATIONS: Mapping[str, str] = {
    "chat": "chat",
    "completion": "text_completion",
    "embedding": "embeddings",
}


class Tracing:
    """The trace of one request.

    Args:
        kind: ``chat``, ``completion`` or ``embedding``.
    """

    __slots__ = ("_began_s", "_begun", "_first_s", "_operation", "_queued_s", "_traces", "engine")

    def __init__(self, traces: Traces, begun: Begun, kind: str) -> None:
        self.engine: Engine | None = None
        self._traces = traces
        self._begun = begun
        self._operation = _OPERATIONS[kind]
        self._began_s = time.perf_counter()
        self._queued_s = self._first_s = 0.0

    @property
    def trace_id(self) -> str:
        """For the log."""
        return self._begun.context.trace_id

    def queued(self, engine: Engine) -> None:
        """A slot is there."""
        self.engine, self._queued_s = engine, time.perf_counter()

    def first_token(self) -> None:
        """The prompt is read."""
        self._first_s = time.perf_counter()

    def over(self, outcome: str, finish: Finish | None = None) -> None:
        """The request is over: ``done``, ``client_gone``, or an error's code."""
        if not self._begun.context.sampled:
            return
        now_s = time.perf_counter()
        marks = [("queue", self._began_s, self._queued_s or now_s)]
        if self._queued_s:
            marks.append(("prefill", self._queued_s, self._first_s or now_s))
        if self._first_s:
            marks.append(("decode", self._first_s, now_s))
        context, parent_id, link = self._begun
        offset_s = self._traces.clock_offset_s()

        def unix_ns(at_s: float) -> int:
            return int((at_s + offset_s) * 1e9)

        model = self.engine.model if self.engine is not None else ""
        error = "" if outcome in {"done", "client_gone"} else outcome
        spans = [
            Span(
                name=f"{self._operation} {model}".rstrip(),
                kind="server",
                context=context,
                parent_id=parent_id,
                start_ns=unix_ns(self._began_s),
                end_ns=unix_ns(now_s),
                attributes=self._attributes(model, outcome, error, finish),
                link=link,
                error=error,
            )
        ]
        spans += [
            Span(
                name=name,
                kind="internal",
                context=context.child(),
                parent_id=context.span_id,
                start_ns=unix_ns(begins_s),
                end_ns=unix_ns(ends_s),
            )
            for name, begins_s, ends_s in marks
        ]
        self._traces.emit(spans)

    def _attributes(
        self, model: str, outcome: str, error: str, finish: Finish | None
    ) -> dict[str, Value]:
        found: dict[str, Value] = {
            "gen_ai.operation.name": self._operation,
            "gen_ai.provider.name": "headwater",
            "headwater.outcome": outcome,
        }
        if self.engine is not None:
            found["gen_ai.response.model"] = model
            found["headwater.revision"] = self.engine.revision
        if finish is not None:
            found["gen_ai.usage.input_tokens"] = finish.prompt_tokens
            found["gen_ai.usage.output_tokens"] = finish.completion_tokens
            found["headwater.cached_tokens"] = finish.cached_tokens
            found["gen_ai.response.finish_reasons"] = [finish.reason]
        if error:
            found["error.type"] = error
        return found


class Progress:
    """Of one request, from the moment that it is made.

    Args:
        clock: monotonic seconds.
        trace: None where there is none.
    """

    __slots__ = ("_began", "_clock", "_metrics", "trace")

    def __init__(
        self, metrics: WorkerMetrics, clock: Callable[[], float], trace: Tracing | None
    ) -> None:
        self.trace = trace
        self._metrics = metrics
        self._clock = clock
        self._began = clock()

    def queued(self, engine: Engine) -> None:
        """It has a slot."""
        self._metrics.queued(self._clock() - self._began)
        if self.trace is not None:
            self.trace.queued(engine)

    def first_token(self) -> None:
        """Its first token is there."""
        self._metrics.first_token(self._clock() - self._began)
        if self.trace is not None:
            self.trace.first_token()

    def done(self, finish: Finish) -> None:
        """It was answered whole."""
        self._metrics.done(finish, self._clock() - self._began)
        if self.trace is not None:
            self.trace.over("done", finish)

    def embedded(self) -> None:
        """Its vectors are there."""
        if self.trace is not None:
            self.trace.over("done")

    def failed(self, outcome: str) -> None:
        """It was not, and why: an error's code, or ``client_gone``."""
        self._metrics.failed(outcome)
        if self.trace is not None:
            self.trace.over(outcome)
