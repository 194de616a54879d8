from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from wire.http_range import RangeNotSatisfiableError, applies, etag_matches, parse_range


@pytest.mark.parametrize(
    ("header", "expected"),
    [
        (None, None),
        ("", None),
        ("bytes=0-0", (0, 1)),
        ("bytes=2-5", (2, 6)),
        ("bytes=2-", (2, 10)),
        ("bytes=-3", (7, 10)),
        ("bytes=-99", (0, 10)),
        ("bytes=5-99", (5, 10)),
        ("bytes=5-4", None),
        ("bytes=-", None),
        ("bytes=0-1,3-4", None),
        ("items=0-1", None),
        ("bytes=a-b", None),
    ],
)
def test_ranges_of_ten_bytes(header: str | None, expected: tuple[int, int] | None) -> None:
    assert parse_range(header, 10) == expected


@pytest.mark.parametrize("header", ["bytes=10-", "bytes=10-12", "bytes=-0"])
def test_a_range_outside_is_not_satisfiable(header: str) -> None:
    with pytest.raises(RangeNotSatisfiableError) as caught:
        parse_range(header, 10)
    assert caught.value.headers == {"Content-Range": "bytes */10"}


@given(st.text(max_size=40), st.integers(0, 1000))
def test_no_header_gives_bytes_that_are_not_there(header: str, size: int) -> None:
    try:
        span = parse_range(header, size)
    except RangeNotSatisfiableError:
        return
    assert span is None or 0 <= span[0] < span[1] <= size


def test_conditions() -> None:
    assert etag_matches('W/"a", "b"', '"b"')
    assert etag_matches("*", '"x"')
    assert not etag_matches('"a"', '"b"')
    assert not etag_matches(None, '"b"')
    assert applies(None, '"a"')
    assert applies('"a"', '"a"')
    assert not applies('"b"', '"a"')
