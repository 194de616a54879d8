"""Spans that stay in memory, and what must hold for those of any trace."""

from __future__ import annotations

from collections.abc import Sequence

from wire.telemetry.spans import Span, Traces


class MemorySink:
    """Remembers spans (``wire.telemetry.spans.SpanSink``)."""

    def __init__(self) -> None:
        self.spans: list[Span] = []

    def emit(self, spans: Sequence[Span]) -> None:
        self.spans.extend(spans)

    def named(self, name: str) -> Span:
        """The one span of that name."""
        found = [span for span in self.spans if span.name == name]
        assert len(found) == 1, [span.name for span in self.spans]
        return found[0]

    def texts(self) -> str:
        """Everything that they say."""
        return repr(self.spans)


def traces(sink: MemorySink, *, ratio: float = 1.0, trust: bool = False) -> Traces:
    """Traces into a sink."""
    return Traces(sink, ratio=ratio, trust=trust)


def assert_one_trace(spans: Sequence[Span]) -> Span:
    """All belong together below one root, within its time; the root."""
    assert len({span.context.trace_id for span in spans}) == 1
    ids = {span.context.span_id for span in spans}
    assert len(ids) == len(spans)
    roots = [span for span in spans if span.parent_id not in ids]
    assert len(roots) == 1, [span.name for span in roots]
    root = roots[0]
    for span in spans:
        assert root.start_ns <= span.start_ns <= span.end_ns <= root.end_ns, span.name
    return root
