"""wire.http_connection against a server that says exactly what the test wants, byte by byte."""

from __future__ import annotations

import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from wire.errors import NameInvalidError, SourceUnavailableError, TooLargeError
from wire.http_connection import Abandon, Connection, DroppedError, Pace, Response

MIB = 1 << 20


@contextmanager
def server(
    script: Callable[[socket.socket], None], stall_timeout_s: float = 30.0
) -> Iterator[Connection]:
    """A connection to a server whose half of it is ``script``, run in a thread."""
    ours, theirs = socket.socketpair()
    listener = socket.create_server(("127.0.0.1", 0))
    ours.close()
    theirs.close()
    client = socket.create_connection(listener.getsockname())
    peer, _ = listener.accept()
    listener.close()

    def run() -> None:
        with peer:
            script(peer)

    thread = threading.Thread(target=run)
    thread.start()
    connection = Connection(client, "peer", stall_timeout_s=stall_timeout_s, min_bytes_per_s=1000)
    try:
        yield connection
    finally:
        connection.close()
        thread.join()


def saying(*pieces: bytes) -> Callable[[socket.socket], None]:
    def script(peer: socket.socket) -> None:
        request = b""
        while not request.endswith(b"\r\n\r\n"):
            request += peer.recv(65536)
        for piece in pieces:
            peer.sendall(piece)

    return script


def get(
    connection: Connection, *, limit_bytes: int = MIB, into: memoryview | None = None
) -> Response:
    return connection.exchange("GET", "/x", {}, None, limit_bytes=limit_bytes, into=into)


def head(*lines: str, status: str = "200 OK") -> bytes:
    return "\r\n".join((f"HTTP/1.1 {status}", *lines, "", "")).encode()


def test_a_body_goes_straight_into_the_buffer() -> None:
    buffer = memoryview(bytearray(8))
    with server(saying(head("Content-Length: 6", "X-A: b") + b"ab", b"cdef")) as connection:
        answer = get(connection, into=buffer)
    assert isinstance(answer.body, memoryview)
    assert answer.body.obj is buffer.obj
    assert bytes(answer.body) == b"abcdef"
    assert bytes(buffer) == b"abcdef\0\0"
    assert answer.headers["x-a"] == "b"
    assert connection.reusable


@pytest.mark.parametrize("status", ["206 Partial Content", "404 Not Found"])
def test_only_a_whole_answer_goes_there(status: str) -> None:
    buffer = memoryview(bytearray(2))
    with server(saying(head("Content-Length: 2", status=status) + b"no")) as connection:
        answer = get(connection, into=buffer)
    assert bytes(answer.body) == b"no"
    assert bytes(buffer) == bytes(2)


def test_an_answer_that_is_too_large_does_not() -> None:
    buffer = memoryview(bytearray(1))
    with server(saying(head("Content-Length: 2") + b"no")) as connection:
        assert bytes(get(connection, into=buffer).body) == b"no"
    assert bytes(buffer) == bytes(1)


@settings(max_examples=40, deadline=None)
@given(st.lists(st.integers(0, 130), max_size=6), st.sampled_from(["length", "chunked", "close"]))
def test_an_answer_may_come_in_any_pieces(cuts: list[int], framing: str) -> None:
    body = bytes(range(60))
    if framing == "length":
        data = head("Content-Length: 60") + body
    elif framing == "chunked":
        data = head("Transfer-Encoding: chunked") + b"a\r\n" + body[:10] + b"\r\n32\r\n"
        data += body[10:] + b"\r\n0\r\n\r\n"
    else:
        data = head("Connection: close") + body
    edges = [0, *sorted(min(cut, len(data)) for cut in cuts), len(data)]
    pieces = [data[a:b] for a, b in pairwise(edges)]
    with server(saying(*pieces)) as connection:
        answer = get(connection)
    assert bytes(answer.body) == body
    assert connection.reusable is (framing != "close")


@pytest.mark.parametrize("framing", ["Content-Length: 50", "Transfer-Encoding: chunked", "X: y"])
def test_a_body_over_the_limit_is_refused(framing: str) -> None:
    body = b"32\r\n" + bytes(50) + b"\r\n0\r\n\r\n" if "chunked" in framing else bytes(50)
    with server(saying(head(framing) + body)) as connection, pytest.raises(TooLargeError):
        get(connection, limit_bytes=49)


@pytest.mark.parametrize(
    ("said", "why"),
    [
        (b"220 smtp ready\r\n\r\n", "speak HTTP"),
        (head(status="100 Continue"), "interim"),
        (head("Content-Length: 5") + b"abc", "broke off 2 B"),
        (head("Transfer-Encoding: chunked") + b"5\r\nabc", "broke off"),
        (head("Content-Length: 5", "Content-Length: 6") + b"abcde", "speak HTTP"),
        (head("Content-Length: -5"), "speak HTTP"),
        (head("Content-Length: 1") + b"ab", "more than it announced"),
        (head(*(f"X-{n}: {'y' * 1000}" for n in range(70))), "over"),
        (b"HTTP/1.1 200 OK\r\nContent", "closed"),
    ],
)
def test_what_is_no_answer_is_an_error(said: bytes, why: str) -> None:
    with server(saying(said)) as connection:
        with pytest.raises(SourceUnavailableError, match=why) as raised:
            get(connection)
        assert not isinstance(raised.value, DroppedError)
        assert not connection.reusable


def test_a_connection_closed_before_any_answer_is_told_apart() -> None:
    with server(saying()) as connection, pytest.raises(DroppedError):
        get(connection)


def test_silence_in_the_middle_is_a_stall() -> None:
    release = threading.Event()

    def script(peer: socket.socket) -> None:
        saying(head("Content-Length: 5") + b"ab")(peer)
        release.wait()

    with server(script, stall_timeout_s=0.3) as connection:
        try:
            with pytest.raises(SourceUnavailableError, match="stalled"):
                get(connection)
        finally:
            release.set()


def test_a_server_that_dribbles_is_a_stall() -> None:
    """A byte at a time, always in time for any limit of silence."""
    stop = threading.Event()

    def script(peer: socket.socket) -> None:
        saying(head(f"Content-Length: {MIB}"))(peer)
        try:
            while not stop.wait(0.02):
                peer.sendall(b"x")
        except OSError:
            return

    with server(script, stall_timeout_s=0.3) as connection:
        try:
            with pytest.raises(SourceUnavailableError, match="stalled"):
                get(connection)
        finally:
            stop.set()


def test_a_request_cannot_be_split() -> None:
    with server(lambda peer: None) as connection, pytest.raises(NameInvalidError):
        connection.exchange("GET", "/x HTTP/1.1\r\nX: y", {}, None, limit_bytes=1)


def test_another_thread_ends_a_request_at_once() -> None:
    begun, release = threading.Event(), threading.Event()
    abandon = Abandon()
    raised: list[BaseException] = []

    def script(peer: socket.socket) -> None:
        saying(head("Content-Length: 5"))(peer)
        begun.set()
        release.wait()

    with server(script) as connection:

        def receive() -> None:
            try:
                abandon.begin(connection.sock)
                get(connection)
            except SourceUnavailableError as error:
                raised.append(error)

        receiver = threading.Thread(target=receive)
        receiver.start()
        begun.wait()
        assert abandon.abandon()
        receiver.join(30)
        release.set()
    assert len(raised) == 1


def test_a_request_abandoned_before_it_began_never_begins() -> None:
    abandon = Abandon()
    assert not abandon.abandon()
    with socket.socket() as sock, pytest.raises(SourceUnavailableError, match="abandoned"):
        abandon.begin(sock)


def test_one_that_has_ended_is_left_alone() -> None:
    abandon = Abandon()
    one, other = socket.socketpair()
    with one, other:
        abandon.begin(one)
        abandon.end()
        assert not abandon.abandon()
        other.sendall(b"x")
        assert one.recv(1) == b"x"


class TestPace:
    def test_it_judges_whole_windows(self) -> None:
        pace = Pace(100, 2.0, 0.0)
        pace.got(1, 1.9)
        pace.got(199, 2.0)
        pace.got(150, 3.0)
        with pytest.raises(SourceUnavailableError, match=r"stalled: 150 B in 2\.0 s"):
            pace.got(0, 4.0)

    @given(st.lists(st.integers(100, 1000), max_size=50))
    def test_who_keeps_the_pace_is_left_alone(self, counts: list[int]) -> None:
        pace = Pace(100, 3.0, 0.0)
        for second, count in enumerate(counts, start=1):
            pace.got(count, float(second))
