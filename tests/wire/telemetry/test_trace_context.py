from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from opentelemetry.sdk.trace.sampling import Decision, TraceIdRatioBased

from wire.telemetry.trace_context import TraceContext, begin_trace, parse_traceparent

TRACE, SPAN = "4bf92f3577b34da6a3ce929d0e0e4736", "00f067aa0ba902b7"


@pytest.mark.parametrize(
    ("value", "sampled"),
    [
        (f"00-{TRACE}-{SPAN}-01", True),
        (f"00-{TRACE}-{SPAN}-00", False),
        (f"00-{TRACE}-{SPAN}-ff", True),
        (f" 00-{TRACE}-{SPAN}-01\t", True),
        (f"cc-{TRACE}-{SPAN}-01", True),
        (f"cc-{TRACE}-{SPAN}-01-what-the-future-will-be-like", True),
    ],
)
def test_a_place_is_read(value: str, sampled: bool) -> None:
    assert parse_traceparent(value) == TraceContext(TRACE, SPAN, sampled)


@pytest.mark.parametrize(
    "value",
    [
        None,
        "",
        "00",
        f"00-{TRACE}-{SPAN}",
        f"00-{TRACE}-{SPAN}-01-more",
        f"00-{TRACE}-{SPAN}-01-",
        f"cc-{TRACE}-{SPAN}-01.more",
        f"ff-{TRACE}-{SPAN}-01",
        f"00-{TRACE.upper()}-{SPAN}-01",
        f"00-{'0' * 32}-{SPAN}-01",
        f"00-{TRACE}-{'0' * 16}-01",
        f"00-{TRACE}-{SPAN}-01, 00-{TRACE}-{SPAN}-01",
        f"00-{TRACE}-{SPAN}-1",
        f"00_{TRACE}_{SPAN}_01",
        f"cc-{TRACE}-{SPAN}-01-" + "x" * 600,
    ],
)
def test_anything_else_is_none(value: str | None) -> None:
    assert parse_traceparent(value) is None


@given(st.text(max_size=100) | st.text("0123456789abcdef-", min_size=50, max_size=60))
@settings(deadline=None)
def test_no_header_breaks_us(value: str) -> None:
    found = parse_traceparent(value)
    assert found is None or parse_traceparent(found.header()) == found


@pytest.mark.parametrize("ratio", [0.0, 1.0])
def test_all_are_sampled_or_none(ratio: float) -> None:
    assert {begin_trace(ratio).sampled for _ in range(50)} == {ratio == 1.0}


def test_a_share_is_sampled_and_ids_differ() -> None:
    begun = [begin_trace(0.5) for _ in range(2_000)]
    assert 800 < sum(one.sampled for one in begun) < 1_200
    assert len({one.trace_id for one in begun}) == 2_000
    for one in begun[:50]:
        assert parse_traceparent(one.header()) == one
        assert one.child().trace_id == one.trace_id
        assert one.child().span_id != one.span_id


def test_the_share_is_what_opentelemetry_would_take() -> None:
    sampler = TraceIdRatioBased(0.25)
    for _ in range(200):
        ours = begin_trace(0.25)
        theirs = sampler.should_sample(None, int(ours.trace_id, 16), "name")
        assert (theirs.decision is Decision.RECORD_AND_SAMPLE) == ours.sampled
