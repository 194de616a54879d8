from __future__ import annotations

import asyncio
from collections.abc import Callable
from itertools import pairwise

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from edge_tier.gateway.relay import (
    RelayConfig,
    Splice,
    StreamScan,
    answer_usage,
    broken_event,
    charged_tokens,
)
from wire.chat import DONE, ChunkEncoder, Usage
from wire.errors import SourceUnavailableError

ENCODER = ChunkEncoder("chatcmpl-1", "m", 1)
PLAIN = [
    ENCODER.role(),
    ENCODER.delta("Hello"),
    ENCODER.delta(' "usage": x'),
    ENCODER.finish("stop"),
]
USAGE = ENCODER.usage(7, 5)
STREAM = b"".join([*PLAIN, USAGE, DONE])


def pieces(data: bytes, cuts: list[int]) -> list[bytes]:
    edges = sorted({0, len(data), *(cut % (len(data) + 1) for cut in cuts)})
    return [data[a:b] for a, b in pairwise(edges)]


@given(st.lists(st.integers(0, 5000), max_size=12))
def test_a_stream_passes_untouched_however_it_is_cut(cuts: list[int]) -> None:
    scan = StreamScan(keep_usage=True)
    assert b"".join(map(scan.feed, pieces(STREAM, cuts))) == STREAM
    assert scan.done
    assert not scan.failed
    assert scan.usage == Usage(7, 5, 12)
    assert scan.events == len(PLAIN)


@given(st.lists(st.integers(0, 5000), max_size=12))
def test_usage_the_client_did_not_ask_for_is_kept_back(cuts: list[int]) -> None:
    scan = StreamScan(keep_usage=False)
    assert b"".join(map(scan.feed, pieces(STREAM, cuts))) == b"".join([*PLAIN, DONE])
    assert scan.usage == Usage(7, 5, 12)


@given(st.lists(st.integers(0, 5000), max_size=12), st.sampled_from([b"\r\n", b"\r"]))
def test_other_line_ends_are_written_anew(cuts: list[int], end: bytes) -> None:
    scan = StreamScan(keep_usage=False)
    foreign = STREAM.replace(b"\n", end)
    assert b"".join(map(scan.feed, pieces(foreign, cuts))) == b"".join([*PLAIN, DONE])
    assert scan.done


def test_usage_null_in_every_event_as_openai_sends_it() -> None:
    event = b'data: {"choices":[{"delta":{"content":"a"}}],"usage":null}\n\n'
    usage = b'{"prompt_tokens":1,"completion_tokens":2,"total_tokens":3}'
    last = b'data: {"choices":[],"usage":' + usage + b"}\n\n"
    scan = StreamScan(keep_usage=False)
    assert scan.feed(event + event + last) == event + event
    assert (scan.events, scan.usage) == (2, Usage(1, 2, 3))


def test_comments_pass_and_are_no_tokens() -> None:
    scan = StreamScan(keep_usage=True)
    assert scan.feed(b": ping\n\n") == b": ping\n\n"
    assert scan.events == 0


def test_an_error_of_the_backend_is_seen_and_passes() -> None:
    event = b'data: {"error":{"message":"engine died"}}\n\n'
    scan = StreamScan(keep_usage=True)
    assert scan.feed(event) == event
    assert scan.failed
    assert not scan.done


def test_text_that_talks_about_errors_is_no_error() -> None:
    scan = StreamScan(keep_usage=True)
    scan.feed(ENCODER.delta('{"error": "usage"} [DONE]'))
    assert not scan.failed
    assert not scan.done
    assert scan.events == 1


def test_an_event_without_end_is_bounded() -> None:
    scan = StreamScan(keep_usage=True, max_event_bytes=1000)
    assert scan.feed(b"data: " + b"x" * 900) == b""
    with pytest.raises(SourceUnavailableError):
        scan.feed(b"x" * 100)


def test_a_broken_stream_ends_in_an_error_event_and_no_done() -> None:
    event = broken_event(SourceUnavailableError("worker died"))
    assert event.startswith(b"data: ")
    assert event.endswith(b"\n\n")
    assert b"[DONE]" not in event
    body = msgspec.json.decode(event[6:])
    assert body["error"]["message"] == "worker died"
    assert body["error"]["code"] == "source_unavailable"


def test_what_is_charged() -> None:
    assert charged_tokens(10, Usage(10, 5, 15), 4) == 15
    assert charged_tokens(10, None, 4) == 14
    assert charged_tokens(10, Usage(), 4) == 14
    assert answer_usage(b'{"usage":{"total_tokens":3}}') == Usage(total_tokens=3)
    assert answer_usage(b"{}") is None
    assert answer_usage(b"<html>") is None


class Transport(asyncio.WriteTransport):
    """Remembers what was written; pretends that ``unsent`` bytes wait."""

    def __init__(self) -> None:
        super().__init__()
        self.written = b""
        self.unsent = 0
        self.closing = False
        self.aborted = False

    def write(self, data: bytes | bytearray | memoryview) -> None:
        self.written += bytes(data)

    def get_write_buffer_size(self) -> int:
        return self.unsent

    def is_closing(self) -> bool:
        return self.closing

    def abort(self) -> None:
        self.aborted = self.closing = True


class Upstream:
    """Gives its pieces one after the other; told to pause, it waits."""

    def __init__(self, parts: list[bytes]) -> None:
        self._parts = parts
        self.flowing = asyncio.Event()
        self.flowing.set()
        self.pauses = 0

    async def pump(self, sink: Callable[[bytes], None]) -> None:
        for part in self._parts:
            await self.flowing.wait()
            sink(part)
            await asyncio.sleep(0)

    def pause(self) -> None:
        self.pauses += 1
        self.flowing.clear()

    def resume(self) -> None:
        self.flowing.set()


async def test_pieces_are_framed_for_http_1_1() -> None:
    transport = Transport()
    splice = Splice(transport, chunked=True, config=RelayConfig())
    await splice.relay(Upstream([PLAIN[0]]), StreamScan(keep_usage=True))
    size = b"%x" % len(PLAIN[0])
    assert transport.written == size + b"\r\n" + PLAIN[0] + b"\r\n"


async def test_an_empty_piece_never_ends_the_body_early() -> None:
    transport = Transport()
    splice = Splice(transport, chunked=True, config=RelayConfig())
    await splice.relay(Upstream([USAGE]), StreamScan(keep_usage=False))
    assert transport.written == b""


async def test_http_1_0_gets_plain_bytes() -> None:
    transport = Transport()
    splice = Splice(transport, chunked=False, config=RelayConfig())
    await splice.relay(Upstream(PLAIN), StreamScan(keep_usage=True))
    assert transport.written == b"".join(PLAIN)


async def test_a_slow_client_makes_the_backend_wait() -> None:
    transport, upstream = Transport(), Upstream(PLAIN)
    transport.unsent = 1000
    config = RelayConfig(high_water_bytes=100, poll_s=0.001)
    splice = Splice(transport, chunked=False, config=config)
    task = asyncio.create_task(splice.relay(upstream, StreamScan(keep_usage=True)))
    while not upstream.pauses:  # noqa: ASYNC110
        await asyncio.sleep(0)
    transport.unsent = 0
    await asyncio.wait_for(task, 5)
    assert transport.written == b"".join(PLAIN)
    assert not transport.aborted


async def test_a_client_that_takes_nothing_is_cut() -> None:
    transport, upstream = Transport(), Upstream(PLAIN)
    transport.unsent = 1000
    config = RelayConfig(high_water_bytes=100, poll_s=0.001, slow_reader_s=0.01)
    splice = Splice(transport, chunked=False, config=config)
    await asyncio.wait_for(splice.relay(upstream, StreamScan(keep_usage=True)), 5)
    assert transport.aborted
