"""edge_tier.gateway.streaming: the streams of an answer, one after the other."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any, cast

import pytest

from edge_tier.gateway.errors import UpstreamError
from edge_tier.gateway.hybrid import Begun
from edge_tier.gateway.opened import Opened
from edge_tier.gateway.relay import StreamScan
from edge_tier.gateway.request import Step
from edge_tier.gateway.streaming import flow
from edge_tier.gateway.upstream_response import UpstreamResponse
from tests.fakes.gateway import MODEL, gateway_in
from tests.fakes.going_on import TEXT, two_workers
from wire.chat import DONE, ChunkEncoder
from wire.errors import HeadwaterError, SourceUnavailableError
from wire.sse import SSEDecoder

ENCODER = ChunkEncoder("chatcmpl-1", "m", 1)
EVENTS = [ENCODER.delta("a"), ENCODER.delta("b"), ENCODER.finish("stop"), DONE]


class Response:
    """A backend that gives its pieces until it is cut, and breaks off at their end if it has to."""

    def __init__(self, pieces: list[bytes], error: HeadwaterError | None = None) -> None:
        self.pieces = pieces
        self.error = error
        self.is_cut = False

    async def pump(self, sink: Callable[[bytes], None]) -> None:
        for piece in self.pieces:
            if self.is_cut:
                return
            sink(piece)
        if self.error is not None:
            raise self.error

    def cut(self) -> None:
        self.is_cut = True


def begun(response: Response, **more: Any) -> Begun:
    step = Step(target="worker", model="m")
    opened = Opened(step, cast(UpstreamResponse, response), None, "", "w", 0.0)
    return Begun(opened, stream=True, **more)


async def test_all_events_flow_also_the_first_and_the_last() -> None:
    got: list[bytes] = []
    one = begun(Response(EVENTS[1:3]), first=EVENTS[0], end=lambda: DONE)
    await flow(one, StreamScan(keep_usage=True), got.append)
    assert b"".join(got) == b"".join(EVENTS)


async def test_what_is_fed_through_another_hand_flows_as_that_gives_it() -> None:
    got: list[bytes] = []
    one = begun(Response(EVENTS), feed=lambda data: data.replace(b'"a"', b'"x"'))
    await flow(one, StreamScan(keep_usage=True), got.append, first=False)
    assert b'"x"' in b"".join(got)


async def test_a_backend_of_which_no_more_is_needed_is_cut() -> None:
    got: list[bytes] = []
    response = Response(EVENTS)
    await flow(
        begun(response, enough=lambda: len(got) > 1), StreamScan(keep_usage=True), got.append
    )
    assert response.is_cut
    assert len(got) == 2


async def test_a_failure_of_whoever_takes_ends_it() -> None:
    response = Response(EVENTS)

    def take(_data: bytes) -> None:
        raise SourceUnavailableError("no")

    with pytest.raises(SourceUnavailableError):
        await flow(begun(response), StreamScan(keep_usage=True), take, first=False)
    assert response.is_cut


@pytest.mark.parametrize(("events", "whole"), [(EVENTS, True), (EVENTS[:2], False)])
async def test_a_break_counts_only_before_the_end(events: list[bytes], whole: bool) -> None:
    got: list[bytes] = []
    one = begun(Response(events, UpstreamError("reset")))
    running = flow(one, StreamScan(keep_usage=True), got.append, first=False)
    if whole:
        await running
    else:
        with pytest.raises(UpstreamError):
            await running
    assert got == events


async def test_an_old_client_reads_one_answer_of_two_workers_too(tmp_path: Path) -> None:
    """HTTP/1.0 has no chunks, so nothing is spliced."""
    async with gateway_in(tmp_path) as gateway, two_workers(gateway) as (first, _):
        first.cuts = [800]
        asked = {"model": MODEL, "messages": [{"role": "user", "content": "x"}], "stream": True}
        body = json.dumps(asked | {"temperature": 0, "max_tokens": 100}).encode()
        url = gateway.client.make_url("/")
        reader, writer = await asyncio.open_connection(url.host, url.port)
        writer.write(
            b"POST /v1/chat/completions HTTP/1.0\r\nAuthorization: Bearer %b\r\n"
            b"Content-Length: %d\r\n\r\n%b" % (gateway.key.encode(), len(body), body)
        )
        answer = (await reader.read()).partition(b"\r\n\r\n")[2]
        writer.close()
        await writer.wait_closed()
    assert answer.endswith(DONE)
    data = [json.loads(e.data) for e in SSEDecoder().feed(answer) if e.data != "[DONE]"]
    texts = [c["delta"].get("content") or "" for chunk in data for c in chunk["choices"]]
    assert "".join(texts) == TEXT
