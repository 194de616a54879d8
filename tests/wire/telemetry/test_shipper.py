from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from wire.telemetry.shipper import Shipper, retry_after_s


def shipper(draw: float = 1.0) -> Shipper:
    return Shipper(1.0, 60.0, draw=lambda: draw)


@pytest.mark.parametrize("status", [200, 204, 299])
def test_what_is_taken_is_sent(status: int) -> None:
    one = shipper()
    assert one.answered(status, 10.0) == "sent"
    assert (one.pause_s(10.0), one.last_success_s) == (0.0, 10.0)


@pytest.mark.parametrize("status", [400, 401, 404, 413, 422])
def test_what_is_refused_is_not_sent_again(status: int) -> None:
    one = shipper()
    assert one.answered(status, 10.0) == "rejected"
    assert one.pause_s(10.0) == 0.0


@pytest.mark.parametrize("status", [301, 308, 429, 500, 502, 503, 599])
def test_the_rest_is_tried_again_after_a_pause(status: int) -> None:
    one = shipper()
    assert one.answered(status, 10.0) == "again"
    assert one.pause_s(10.0) == 1.0
    assert one.pause_s(10.4) == pytest.approx(0.6)
    assert one.pause_s(12.0) == 0.0


def test_the_pause_doubles_to_a_bound_and_a_success_forgets_it() -> None:
    one, pauses = shipper(), []
    for _ in range(9):
        one.failed(0.0)
        pauses.append(one.pause_s(0.0))
    assert pauses == [1, 2, 4, 8, 16, 32, 60, 60, 60]
    assert one.answered(200, 0.0) == "sent"
    one.failed(0.0)
    assert one.pause_s(0.0) == 1.0


@given(st.integers(0, 10_000), st.floats(0, 1))
@settings(deadline=None)
def test_the_pause_is_never_none_and_never_over_the_bound(failures: int, draw: float) -> None:
    one = shipper(draw)
    one.failures = failures
    one.failed(0.0)
    assert 0.5 <= one.pause_s(0.0) <= 60.0


def test_retry_after_is_heeded_within_the_bound() -> None:
    one = shipper()
    one.answered(429, 0.0, retry_after_s=30.0)
    assert one.pause_s(0.0) == 30.0
    one.answered(503, 0.0, retry_after_s=1e9)
    assert one.pause_s(0.0) == 60.0


@pytest.mark.parametrize(
    ("value", "seconds"),
    [
        (None, 0.0),
        ("", 0.0),
        ("7", 7.0),
        (" 7 ", 7.0),
        ("-7", 0.0),
        ("soon", 0.0),
        ("9" * 400, 0.0),
        ("Thu, 01 Jan 1970 00:01:00 GMT", 50.0),
        ("Thu, 01 Jan 1970 00:00:01 GMT", 0.0),
    ],
)
def test_both_forms_of_retry_after_are_read(value: str | None, seconds: float) -> None:
    assert retry_after_s(value, 10.0) == seconds


@given(st.text(max_size=50))
@settings(deadline=None)
def test_no_retry_after_breaks_us(value: str) -> None:
    assert retry_after_s(value, 10.0) >= 0.0
