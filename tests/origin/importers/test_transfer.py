"""A download without a network: what is asked, and what is made of each answer."""

from __future__ import annotations

import hashlib

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from origin.errors import ImportRefusedError
from origin.importers.transfer import FetchLimits, Partial, Transfer
from wire.errors import (
    NotFoundError,
    SourceUnavailableError,
    TooLargeError,
    UnauthorizedError,
)

URL = "https://example.org/model.gguf"
LIMITS = FetchLimits(max_bytes=1_000, max_redirects=3, max_failures=3)


def transfer(size: int = 0, etag: str = "", limits: FetchLimits = LIMITS) -> Transfer:
    return Transfer(URL, limits, Partial(size, etag))


def test_a_whole_answer_is_written_from_the_start() -> None:
    one = transfer()
    assert "Range" not in one.ask().headers
    assert one.ask().headers["Accept-Encoding"] == "identity"
    body = one.answered(200, {"content-length": "10", "etag": '"x"'})
    assert body is not None
    assert body.offset == 0
    one.got(4)
    one.got(6)
    one.ended()
    assert one.done
    assert one.received == 10


def test_an_interrupted_download_goes_on_under_its_tag() -> None:
    one = transfer()
    one.answered(200, {"content-length": "10", "etag": '"x"'})
    one.got(4)
    with pytest.raises(SourceUnavailableError, match="broke off at 4 of 10"):
        one.ended()
    assert one.failed(SourceUnavailableError("x")) > 0
    assert one.ask().headers["Range"] == "bytes=4-"
    assert one.ask().headers["If-Range"] == '"x"'
    body = one.answered(206, {"content-range": "bytes 4-9/10", "etag": '"x"'})
    assert body is not None
    assert body.offset == 4


@pytest.mark.parametrize("etag", ["", 'W/"x"', '"a"b"', "x", '"' + "y" * 300 + '"', '"\x01"'])
def test_without_a_strong_tag_it_starts_again(etag: str) -> None:
    one = transfer()
    one.answered(200, {"content-length": "10", "etag": etag})
    one.got(4)
    one.failed(SourceUnavailableError("x"))
    assert "Range" not in one.ask().headers
    assert transfer(4, "").ask().headers.get("Range") is None


def test_a_file_that_changed_is_taken_from_the_start() -> None:
    one = transfer(4, '"x"')
    body = one.answered(200, {"content-length": "9", "etag": '"y"'})
    assert body is not None
    assert (body.offset, one.partial) == (0, Partial(0, '"y"'))
    other = transfer(4, '"x"')
    assert other.answered(416, {}) is None
    assert "Range" not in other.ask().headers
    with pytest.raises(ImportRefusedError):
        other.answered(416, {})


@pytest.mark.parametrize(
    "headers",
    [
        {},
        {"content-range": "bytes 3-9/10"},
        {"content-range": "bytes 5-9/10"},
        {"content-range": "bytes 4-8/10"},
        {"content-range": "bytes 4-9/*"},
        {"content-range": "bytes 4-9/10", "etag": '"y"'},
        {"content-range": "bytes=4-9/10"},
        {"content-range": "bytes 4-9/" + "9" * 30},
    ],
)
def test_another_range_than_the_one_asked_for_is_refused(headers: dict[str, str]) -> None:
    with pytest.raises(ImportRefusedError):
        transfer(4, '"x"').answered(206, headers)


def test_a_part_that_was_not_asked_for_is_refused() -> None:
    with pytest.raises(ImportRefusedError, match="not asked"):
        transfer().answered(206, {"content-range": "bytes 0-9/10"})


@pytest.mark.parametrize(
    "headers",
    [
        {"content-length": "-1"},
        {"content-length": "1_0"},
        {"content-length": "10", "transfer-encoding": "chunked"},
        {"transfer-encoding": "gzip, chunked"},
    ],
)
def test_a_body_without_one_true_length_is_refused(headers: dict[str, str]) -> None:
    with pytest.raises(ImportRefusedError, match="in two ways"):
        transfer().answered(200, headers)


def test_a_head_without_a_length_may_have_broken_off() -> None:
    with pytest.raises(SourceUnavailableError, match="how long"):
        transfer().answered(200, {})


def test_a_chunked_body_ends_where_it_says() -> None:
    one = transfer()
    assert one.answered(200, {"transfer-encoding": "Chunked"}) is not None
    one.got(1_000)
    one.ended()
    assert one.done
    with pytest.raises(TooLargeError):
        one.got(1)


def test_sizes_are_bounded() -> None:
    with pytest.raises(TooLargeError, match="limit is 1000 B"):
        transfer().answered(200, {"content-length": "1001"})
    with pytest.raises(TooLargeError):
        transfer(4, '"x"').answered(206, {"content-range": "bytes 4-1000/1001"})
    one = transfer()
    one.answered(200, {"content-length": "10"})
    with pytest.raises(TooLargeError, match="more than it may"):
        one.got(11)


def test_an_encoded_body_is_refused() -> None:
    with pytest.raises(ImportRefusedError, match="encoding"):
        transfer().answered(200, {"content-length": "10", "content-encoding": "gzip"})


def test_redirects_are_followed_checked_and_counted() -> None:
    one = transfer()
    assert one.answered(302, {"location": "https://cdn.example.net/a"}) is None
    assert one.ask().target.host == "cdn.example.net"
    assert one.answered(307, {"location": "/b"}) is None
    assert one.ask().target.url == "https://cdn.example.net/b"
    assert one.answered(308, {"location": "/c"}) is None
    with pytest.raises(ImportRefusedError, match="more than 3 redirects"):
        one.answered(301, {"location": "/d"})
    for location in ("", "http://example.org/", "https://a@b/", "https://x.org:22/"):
        with pytest.raises(ImportRefusedError):
            transfer().answered(302, {"location": location})


@pytest.mark.parametrize(
    ("status", "error"),
    [
        (401, UnauthorizedError), (403, UnauthorizedError), (404, NotFoundError),
        (410, NotFoundError), (500, SourceUnavailableError), (503, SourceUnavailableError),
        (429, SourceUnavailableError), (204, ImportRefusedError), (304, ImportRefusedError),
        (400, ImportRefusedError), (101, ImportRefusedError), (416, ImportRefusedError),
    ],
)  # fmt: skip
def test_other_answers_end_it_or_count_as_failures(status: int, error: type[Exception]) -> None:
    with pytest.raises(error) as found:
        transfer().answered(status, {})
    assert "?" not in str(found.value)


def test_failures_in_a_row_are_counted_and_a_byte_forgives_them() -> None:
    one, broken = transfer(), SourceUnavailableError("x")
    one.failed(broken)
    one.failed(broken)
    one.answered(200, {"content-length": "10", "etag": '"x"'})
    one.got(1)
    one.failed(broken)
    one.failed(broken)
    with pytest.raises(SourceUnavailableError):
        one.failed(broken)


class Downloading(RuleBasedStateMachine):
    """A server whose file changes and whose connections break; what is written is one version."""

    @initialize(size=st.integers(0, 60))
    def begin(self, size: int) -> None:
        self.transfer = Transfer(URL, FetchLimits(max_bytes=100, max_failures=10**6))
        self.version = 0
        self.size = size
        self.disk = b""
        self.sending: bytes | None = None

    def content(self) -> bytes:
        return hashlib.shake_128(str(self.version).encode()).digest(self.size)

    @precondition(lambda self: not self.transfer.done and self.sending is None)
    @rule(strong=st.booleans())
    def answer(self, strong: bool) -> None:
        headers, content = self.transfer.ask().headers, self.content()
        etag = f'"{self.version}"' if strong else f'W/"{self.version}"'
        start = int(headers["Range"][6:-1]) if "Range" in headers else 0
        if start and headers["If-Range"] == etag and start < self.size:
            fields = {"content-range": f"bytes {start}-{self.size - 1}/{self.size}", "etag": etag}
            body = self.transfer.answered(206, fields)
        elif start and headers["If-Range"] == etag:
            assert self.transfer.answered(416, {}) is None
            return
        else:
            fields = {"content-length": str(self.size), "etag": etag}
            body = self.transfer.answered(200, fields)
        assert body is not None
        self.disk = self.disk[: body.offset]
        self.sending = content[body.offset :]

    @precondition(lambda self: self.sending)
    @rule(count=st.integers(1, 20))
    def send(self, count: int) -> None:
        assert self.sending is not None
        part, self.sending = self.sending[:count], self.sending[count:]
        self.transfer.got(len(part))
        self.disk += part

    @precondition(lambda self: self.sending is not None)
    @rule()
    def end(self) -> None:
        left, self.sending = self.sending, None
        try:
            self.transfer.ended()
        except SourceUnavailableError as error:
            assert left
            self.transfer.failed(error)
        else:
            assert not left

    @precondition(lambda self: self.sending is None and not self.transfer.done)
    @rule(size=st.integers(0, 60))
    def change(self, size: int) -> None:
        self.version += 1
        self.size = size

    @precondition(lambda self: self.sending is None and not self.transfer.done)
    @rule()
    def restart(self) -> None:
        kept = Partial(len(self.disk), self.transfer.partial.etag)
        self.transfer = Transfer(URL, self.transfer.limits, kept)

    @precondition(lambda self: self.transfer.done)
    @rule()
    def again(self) -> None:
        self.transfer = Transfer(URL, self.transfer.limits)
        self.disk = b""

    @invariant()
    def whole_is_one_version(self) -> None:
        if self.transfer.done:
            assert self.disk == self.content()
            assert self.transfer.received == len(self.disk)


TestDownloading = Downloading.TestCase
TestDownloading.settings = settings(deadline=None, max_examples=80)
