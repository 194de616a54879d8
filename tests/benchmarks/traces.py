"""``bench traces``: what a request's trace costs an edge, its spans' encoding for OTLP included.

The calls that an edge makes for a request (its place in a trace, one attempt with its header, the
spans at the end) are made many times, and the CPU time of the whole process is taken: the thread
that encodes is part of the price.
"""

from __future__ import annotations

import time
from collections.abc import Sequence

from opentelemetry.exporter.otlp.proto.common.trace_encoder import encode_spans
from opentelemetry.sdk.trace import ReadableSpan
from opentelemetry.sdk.trace.export import SpanExporter, SpanExportResult

from edge_tier.gateway.tracing import RequestTrace
from tests.benchmarks.results import Machine, Row, report
from wire.telemetry.config import TracesConfig
from wire.telemetry.otel import OtelSink
from wire.telemetry.spans import Traces, Value

STAGES = [
    (name, 0.1)
    for name in (
        *("auth", "read", "parse", "sanitize", "screen", "tokenize", "classify", "route"),
        *("reserve", "backend"),
    )
]
ATTRIBUTES: dict[str, Value] = {
    "gen_ai.operation.name": "chat",
    "gen_ai.provider.name": "headwater",
    "gen_ai.request.model": "chat-small",
    "gen_ai.response.model": "chat-small",
    "gen_ai.request.max_tokens": 512,
    "gen_ai.usage.input_tokens": 1_000,
    "gen_ai.usage.output_tokens": 300,
    "http.request.method": "POST",
    "http.route": "/v1/chat/completions",
    "headwater.request": "req-0123456700000001",
    "headwater.tenant": "tenant",
    "headwater.target": "worker",
    "headwater.outcome": "whole",
    "headwater.reasons": ["named by the request"],
}


class Encoding(SpanExporter):
    """Encodes for OTLP and throws it away."""

    def export(self, spans: Sequence[ReadableSpan]) -> SpanExportResult:
        encode_spans(spans).SerializeToString()
        return SpanExportResult.SUCCESS


def cost_us(ratio: float | None, requests: int) -> float:
    """CPU time of one request's trace; of none at all, where ``ratio`` is None."""
    config = TracesConfig(endpoint="unused", queue_spans=1_000_000)
    sink = OtelSink(config, {"service.name": "headwater-edge"}, Encoding())
    traces = Traces(sink, ratio=ratio, trust=False) if ratio is not None else None
    began = time.process_time()
    for _ in range(requests):
        trace = RequestTrace(traces, None) if traces is not None else None
        if trace is not None:
            attempt = trace.attempt("worker", "chat-small", "gpu-7")
            attempt.header()
            attempt.end()
            if trace.sampled:
                trace.finish("chat chat-small", ATTRIBUTES, STAGES)
    sink.close()
    return (time.process_time() - began) / requests * 1e6


def main(*, quick: bool = False) -> None:
    """Measure and report."""
    machine, started = Machine(), time.monotonic()
    rounds, requests = (1, 500) if quick else (5, 4_000)
    rows = []
    for name, ratio, target in (("off", None, 0.5), ("1 %", 0.01, 20.0), ("all", 1.0, None)):
        runs = [cost_us(ratio, requests) for _ in range(rounds)]
        rows.append(
            Row(
                name=f"CPU of a request's trace at the edge, sampled: {name}",
                unit="µs",
                runs=runs,
                target=target,
                higher_is_better=False,
            )
        )
    print(f"{report('traces', rows, machine)}, {time.monotonic() - started:.0f} s")
