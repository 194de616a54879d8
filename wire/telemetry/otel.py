"""Gives spans to OpenTelemetry's SDK, which sends them by OTLP over HTTP from a thread of its own.

Needs the extra ``otel``; imported only where traces are configured. The SDK's queue is bounded, and
a collector that is away costs spans, nothing else. Headers and certificates of the collector come
from the SDK's own variables (``OTEL_EXPORTER_OTLP_HEADERS``, ``OTEL_EXPORTER_OTLP_CERTIFICATE``).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import ReadableSpan
from opentelemetry.sdk.trace.export import BatchSpanProcessor, SpanExporter
from opentelemetry.sdk.util.instrumentation import InstrumentationScope
from opentelemetry.trace import Link, SpanContext, SpanKind, Status, StatusCode, TraceFlags

from wire.telemetry.config import TracesConfig
from wire.telemetry.spans import Span
from wire.telemetry.trace_context import TraceContext

_KINDS = {
    "server": SpanKind.SERVER,
    "client": SpanKind.CLIENT,
    "internal": SpanKind.INTERNAL,
}
_FINE = Status(StatusCode.UNSET)
_SCOPE = InstrumentationScope("headwater")


class OtelSink:
    """A :class:`wire.telemetry.spans.SpanSink` over the SDK.

    Args:
        exporter: in place of OTLP over HTTP.
    """

    def __init__(
        self,
        config: TracesConfig,
        resource: Mapping[str, str],
        exporter: SpanExporter | None = None,
    ) -> None:
        self._resource = Resource.create(dict(resource))
        if exporter is None:
            exporter = OTLPSpanExporter(endpoint=config.endpoint, timeout=config.timeout_s)
        self._processor = BatchSpanProcessor(
            exporter,
            max_queue_size=config.queue_spans,
            schedule_delay_millis=config.delay_s * 1e3,
            max_export_batch_size=config.batch_spans,
            export_timeout_millis=config.timeout_s * 1e3,
        )

    def emit(self, spans: Sequence[Span]) -> None:
        """Put spans in the queue; they are over, so the SDK's own making of spans is not used."""
        for span in spans:
            self._processor.on_end(self._readable(span))

    def close(self) -> None:
        """Send what waits, within the SDK's time limit. Blocks."""
        self._processor.shutdown()  # type: ignore[no-untyped-call]

    def _readable(self, span: Span) -> ReadableSpan:
        context = span.context
        parent = None
        if span.parent_id:
            parent = _context(context._replace(span_id=span.parent_id))
        return ReadableSpan(
            name=span.name,
            context=_context(context),
            parent=parent,
            resource=self._resource,
            attributes=dict(span.attributes),
            links=(Link(_context(span.link)),) if span.link is not None else (),
            kind=_KINDS[span.kind],
            status=Status(StatusCode.ERROR, span.error) if span.error else _FINE,
            start_time=span.start_ns,
            end_time=max(span.end_ns, span.start_ns),
            instrumentation_scope=_SCOPE,
        )


def _context(place: TraceContext) -> SpanContext:
    return SpanContext(
        int(place.trace_id, 16),
        int(place.span_id, 16),
        is_remote=False,
        trace_flags=TraceFlags(int(place.sampled)),
    )
