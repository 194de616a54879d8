from __future__ import annotations

import time

from tests.fakes.spans import MemorySink, traces
from wire.telemetry.trace_context import TraceContext

ASKER = TraceContext("4bf92f3577b34da6a3ce929d0e0e4736", "00f067aa0ba902b7", sampled=False)


def test_who_is_trusted_is_gone_on_from_sampled_or_not() -> None:
    begun = traces(MemorySink(), trust=True).begin(ASKER.header())
    assert begun.context.trace_id == ASKER.trace_id
    assert begun.context.span_id != ASKER.span_id
    assert (begun.context.sampled, begun.parent_id, begun.link) == (False, ASKER.span_id, None)


def test_who_is_not_trusted_is_linked_to() -> None:
    begun = traces(MemorySink()).begin(ASKER.header())
    assert begun.context.trace_id != ASKER.trace_id
    assert (begun.context.sampled, begun.parent_id, begun.link) == (True, "", ASKER)


def test_without_a_header_a_trace_begins() -> None:
    for header in (None, "", "nonsense"):
        begun = traces(MemorySink(), trust=True).begin(header)
        assert (begun.context.sampled, begun.parent_id, begun.link) == (True, "", None)


def test_times_become_unix_times() -> None:
    offset_s = traces(MemorySink()).clock_offset_s()
    before = time.time()
    now = time.perf_counter() + offset_s
    assert before - 0.1 < now < time.time() + 0.1
