from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edge_tier.gateway.heads import HeadInvalidError, LengthRequiredError, parse_head
from wire.errors import HeadwaterError


def head(*lines: str, start: str = "POST /v1/chat/completions HTTP/1.1") -> bytes:
    return "\r\n".join((start, *lines, "", "")).encode("latin-1")


def test_what_a_head_says() -> None:
    parsed = parse_head(
        head(
            "Host: a", "Content-Length: 12", "X-Two: 1", "x-two: 2", start="POST /v1/x?y=1 HTTP/1.1"
        )
    )
    assert (parsed.method, parsed.path, parsed.length) == ("POST", "/v1/x", 12)
    assert parsed.headers == {"host": "a", "content-length": "12", "x-two": "1, 2"}
    assert parsed.http11
    assert parsed.keep_alive


@pytest.mark.parametrize(
    ("lines", "start", "http11", "keep_alive"),
    [
        (("Host: a", "Connection: close"), "GET / HTTP/1.1", True, False),
        ((), "GET / HTTP/1.0", False, False),
        (("Connection: keep-alive",), "GET / HTTP/1.0", False, True),
    ],
)
def test_whether_the_connection_stays(
    lines: tuple[str, ...], start: str, http11: bool, keep_alive: bool
) -> None:
    parsed = parse_head(head(*lines, start=start))
    assert (parsed.http11, parsed.keep_alive) == (http11, keep_alive)


@pytest.mark.parametrize(
    "data",
    [
        head(),
        head("Host: a", "Host: b"),
        head("Host: a", "Content-Length: 1", "Content-Length: 1"),
        head("Host: a", "Authorization: x", "Authorization: y"),
        head("Host: a", "Content-Length: +1"),
        head("Host: a", "Content-Length: 1_0"),
        head("Host: a", "Content-Length: " + "9" * 30),
        head("Host: a", "Content-Length: ٣".encode().decode("latin-1")),
        head("Host: a", "X: a\x00b"),
        head("Host: a", "X: a\rb"),
        head("Host: a", "X : b"),
        head("Host: a", "X: a", " folded"),
        head("Host: a", start="POST / HTTP/9.9"),
        head("Host: a", start="POST / HTTP/2.0"),
        head("Host: a").replace(b"\r\n", b"\n"),
        head("Host: a", "Connection: upgrade", "Upgrade: websocket"),
        b"\x16\x03\x01\r\n\r\n",
        b"\r\n\r\n",
    ],
)
def test_what_two_readers_could_understand_differently_is_refused(data: bytes) -> None:
    with pytest.raises(HeadInvalidError):
        parse_head(data)


@pytest.mark.parametrize("coding", ["chunked", "chunked, chunked", "identity", "xchunked"])
def test_a_body_without_a_length_is_refused(coding: str) -> None:
    with pytest.raises((LengthRequiredError, HeadInvalidError)):
        parse_head(head("Host: a", f"Transfer-Encoding: {coding}"))


@given(st.binary(max_size=200))
def test_no_bytes_break_it(noise: bytes) -> None:
    for data in (noise + b"\r\n\r\n", head("Host: a")[:-2] + noise + b"\r\n\r\n"):
        try:
            parsed = parse_head(data)
        except HeadwaterError:
            continue
        assert parsed.length >= 0
        assert "transfer-encoding" not in parsed.headers


@given(
    st.dictionaries(
        st.from_regex(r"X-[A-Za-z0-9]{1,12}", fullmatch=True),
        st.from_regex(r"[!-~]([ -~]{0,30}[!-~])?", fullmatch=True),
        max_size=8,
    )
)
def test_headers_come_out_as_they_went_in(headers: dict[str, str]) -> None:
    lowered = {name.lower(): value for name, value in headers.items()}
    lines = [f"{name}: {value}" for name, value in lowered.items()]
    assert parse_head(head("Host: a", *lines)).headers == {"host": "a", **lowered}
