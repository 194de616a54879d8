"""Clients that leave, read slowly or come all at once: nobody else pays for them."""

from __future__ import annotations

import asyncio
import json
import socket
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from infra.ask import CHAT_PATH
from infra.local_config import LOCAL_MODEL
from tests.fakes.fleet import Fleet
from tests.fakes.processes import cpu_seconds
from tests.fakes.tiny_gguf import write_tiny_gguf
from tests.fakes.waiting import until_async
from wire.chunk import Chunk
from wire.paths import chunk_path
from wire.sse import Event, SSEDecoder

RECITE = [{"role": "user", "content": "Count from one to one hundred."}]
ASK = [{"role": "user", "content": "What is the capital of France?"}]
MOST_OF_A_WHOLE = 0.5
"""The share of an answer that is worked for somebody who left at its beginning."""
TRIES = 10
CROWD = 200


class RawStream:
    """A streamed chat on a socket of its own, which can be left at any moment."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader = reader
        self._writer = writer
        self._decoder = SSEDecoder()
        self.events: list[Event] = []

    async def read(self, count: int) -> None:
        """Read until there are so many events."""
        while len(self.events) < count:
            size = int(await self._reader.readline(), 16)
            self.events += self._decoder.feed(await self._reader.readexactly(size))
            await self._reader.readexactly(2)
            if size == 0:
                return

    def leave(self) -> None:
        """Close the connection at once."""
        self._writer.transport.abort()


@asynccontextmanager
async def raw_stream(
    fleet: Fleet, *, receive_bytes: int = 0, **fields: Any
) -> AsyncIterator[RawStream]:
    """Begin a chat; ``receive_bytes`` bounds what the kernel takes for a client that does not."""
    host, _, port = fleet.urls.edge.removeprefix("http://").partition(":")
    sock = socket.socket()
    if receive_bytes:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_bytes)
    sock.setblocking(False)
    await asyncio.get_running_loop().sock_connect(sock, (host, int(port)))
    reader, writer = await asyncio.open_connection(sock=sock, limit=2**16)
    body = json.dumps({"model": LOCAL_MODEL, "messages": RECITE, "stream": True, **fields})
    head = (
        f"POST {CHAT_PATH} HTTP/1.1\r\nHost: {host}:{port}\r\n"
        f"Authorization: Bearer {fleet.local.api_key}\r\nContent-Length: {len(body)}\r\n\r\n"
    )
    writer.write(head.encode() + body.encode())
    try:
        assert b" 200 " in await reader.readline()
        while (await reader.readline()).strip():
            continue
        yield RawStream(reader, writer)
    finally:
        writer.transport.abort()


def busy(fleet: Fleet) -> int:
    """Slots in use on the worker."""
    return int(fleet.metric("worker", "headwater_worker_busy"))


async def idle(fleet: Fleet) -> None:
    """Until no slot is in use."""

    async def is_idle() -> bool:
        return not await asyncio.to_thread(busy, fleet)

    await until_async(is_idle, deadline_s=30)


async def work_for(fleet: Fleet, ask: Callable[[], Awaitable[None]]) -> float:
    """Seconds of processor that the engine works for a request, until its slot is free."""
    engine = fleet.engine_pid()
    before = cpu_seconds(engine)
    await ask()
    await idle(fleet)
    return cpu_seconds(engine) - before


async def is_noticed(fleet: Fleet, leave: Callable[[], Awaitable[None]]) -> None:
    """The engine stops soon after somebody left. Judged by its work: a busy machine takes its time,
    and where we stood still meanwhile, the answer may have been over before we left it."""

    async def stay() -> None:
        async with raw_stream(fleet, **fleet.endless()) as stream:
            await stream.read(1 << 30)

    whole = await work_for(fleet, stay)
    shares = []
    for _ in range(TRIES):
        shares.append(await work_for(fleet, leave) / whole)
        if shares[-1] < MOST_OF_A_WHOLE:
            return
    raise AssertionError(f"of the work for a whole answer, these shares were done: {shares}")


@pytest.mark.parametrize("read", [1, 20])
async def test_a_slot_is_free_at_once_after_its_client_left(fleet: Fleet, read: int) -> None:
    async def leave() -> None:
        async with raw_stream(fleet, **fleet.endless()) as stream:
            await stream.read(read)
            stream.leave()

    await is_noticed(fleet, leave)


async def test_a_slot_is_free_at_once_when_a_whole_answer_is_no_longer_awaited(
    fleet: Fleet,
) -> None:
    body = {"model": LOCAL_MODEL, "messages": RECITE, **fleet.endless()}
    headers = {"Authorization": f"Bearer {fleet.local.api_key}"}

    async def leave() -> None:
        async with aiohttp.ClientSession(headers=headers) as session:
            request = asyncio.create_task(session.post(fleet.urls.edge + CHAT_PATH, json=body))
            while not request.done() and not await asyncio.to_thread(busy, fleet):
                continue
            request.cancel()
            await asyncio.gather(request, return_exceptions=True)

    await is_noticed(fleet, leave)


async def test_only_what_was_emitted_is_charged_to_a_client_that_left(fleet: Fleet) -> None:
    async with fleet.asker() as asker:
        before = await asyncio.to_thread(tokens_charged, fleet)
        prompt = (await asker.ask(RECITE, model=LOCAL_MODEL, max_tokens=1)).usage["prompt_tokens"]
        assert await charged_beyond(fleet, before) == prompt + 1
    for _ in range(TRIES):  # the answer may be over before a busy machine lets us leave it
        before = await asyncio.to_thread(tokens_charged, fleet)
        async with raw_stream(fleet, **fleet.endless(1_500)) as stream:
            await stream.read(10)
            stream.leave()
            read = len(stream.events)
        charged = await charged_beyond(fleet, before)
        await idle(fleet)
        assert prompt + read - 1 <= charged
        if charged < prompt + 1_000:
            return
    raise AssertionError("what was asked for is charged, and not about what was sent")


async def charged_beyond(fleet: Fleet, before: float) -> float:
    """The tokens that are charged for the next request: the edge may count after its last byte."""
    charged = 0.0

    async def is_charged() -> bool:
        nonlocal charged
        charged = await asyncio.to_thread(tokens_charged, fleet) - before
        return charged > 0

    await until_async(is_charged, deadline_s=30)
    return charged


def tokens_charged(fleet: Fleet) -> float:
    return fleet.metric("edge", "headwater_gateway_tokens_total", target="worker")


async def test_a_slow_reader_holds_up_nobody_and_still_gets_everything(fleet: Fleet) -> None:
    fields = {**fleet.endless(400), "logprobs": True, "top_logprobs": 20}  # some KB for each token
    async with raw_stream(fleet, receive_bytes=4_096, **fields) as slow:
        await slow.read(1)
        async with fleet.asker() as asker:
            answers = [await asker.ask(ASK, model=LOCAL_MODEL, max_tokens=16) for _ in range(5)]
        assert all(answer.whole for answer in answers)
        async with asyncio.timeout(60):
            await slow.read(1 << 30)
    last = [json.loads(event.data) for event in slow.events[:-1]][-1]
    assert slow.events[-1].data == "[DONE]"
    assert last["choices"][0]["finish_reason"] == "length"


async def test_two_hundred_misses_of_one_chunk_are_one_fetch(fleet: Fleet, tmp_path: Path) -> None:
    file = write_tiny_gguf(tmp_path / "crowded.gguf", seed=time.time_ns() % 2**31)
    revision = (await asyncio.to_thread(fleet.publish, file, "crowded")).revision
    chunk = max(fleet.manifest(revision).chunk_refs().values(), key=lambda ref: ref.size).id
    names = {
        ("origin", "headwater_origin_served_total"): 1,
        ("edge", "headwater_edge_cache_fetched_total"): 1,
        ("edge", "headwater_edge_cache_failures_total"): 0,
    }
    before = {name: fleet.metric(*name) for name in names}  # type: ignore[arg-type]
    connector = aiohttp.TCPConnector(limit=0)
    async with aiohttp.ClientSession(fleet.urls.edge, connector=connector) as session:

        async def get() -> str:
            async with session.get(chunk_path(chunk)) as answer:
                assert answer.status == 200
                Chunk(chunk, await answer.read())
                return answer.headers["Cache-Status"]

        statuses = await asyncio.gather(*(get() for _ in range(CROWD)))
    after = {name: fleet.metric(*name) for name in names}  # type: ignore[arg-type]
    assert {name: after[name] - before[name] for name in names} == names
    assert sum("collapsed" in status or "; hit" in status for status in statuses) == CROWD - 1
