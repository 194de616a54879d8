"""A load generator in a process of its own; JSON in (an argument), JSON out (stdout).

``answers`` counts whole answers and their latencies; ``streams`` opens so many streams at once and
counts their token events. Each request is another of a pool of prompts. Bare sockets and httptools:
it must cost little.
"""

from __future__ import annotations

import asyncio
import itertools
import sys
import time
from collections.abc import Iterator
from typing import Literal, cast
from urllib.parse import urlsplit

import httptools
import msgspec
import uvloop

from tests.benchmarks.prompt_plane.corpus import Prose

_CONNECTING_AT_ONCE = 200


class Job(msgspec.Struct, frozen=True, kw_only=True):
    """What to ask whom."""

    url: str = ""
    headers: dict[str, str] = {}
    mode: Literal["answers", "streams"] = "answers"
    connections: int = 16
    seconds: float = 5.0
    """No request begins later; those begun are finished."""
    pool: int = 3_000
    """Different prompts."""
    prompt_chars: int = 120
    model: str = "edge-small"
    extra: str = ""
    """Ends every prompt."""
    seed: int = 1


class Seen(msgspec.Struct, frozen=True, kw_only=True):
    """What came back."""

    answers: int
    events: int
    failures: int
    fewest_events: int
    """Of any one connection."""
    most_events: int
    seconds: float
    p50_ms: float
    p99_ms: float


class Client(asyncio.Protocol):
    """One connection; the next request goes out when the last is answered."""

    def __init__(self, requests: Iterator[bytes], deadline: float) -> None:
        self._requests = requests
        self._deadline = deadline
        self._parser = httptools.HttpResponseParser(self)
        self.done = asyncio.get_running_loop().create_future()
        self.latencies: list[float] = []
        self.events = 0
        self.failures = 0
        self._whole = True

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)
        self._send()

    def data_received(self, data: bytes) -> None:
        self._parser.feed_data(data)

    def on_body(self, body: bytes) -> None:
        self.events += body.count(b"data: {")

    def on_message_complete(self) -> None:
        self._whole = True
        self.latencies.append(time.perf_counter() - self._sent)
        self.failures += self._parser.get_status_code() != 200
        if time.perf_counter() < self._deadline:
            self._send()
        else:
            self._transport.close()

    def connection_lost(self, exc: Exception | None) -> None:
        self.failures += not self._whole
        if not self.done.done():
            self.done.set_result(None)

    def _send(self) -> None:
        self._whole = False
        self._sent = time.perf_counter()
        self._transport.write(next(self._requests))


def requests_of(job: Job) -> list[bytes]:
    """The whole requests, each with another prompt."""
    lines = "".join(f"{name}: {value}\r\n" for name, value in job.headers.items())
    head = (
        f"POST /v1/chat/completions HTTP/1.1\r\nHost: {urlsplit(job.url).netloc}\r\n{lines}"
        "Content-Type: application/json\r\nContent-Length: "
    ).encode()
    stream = job.mode == "streams"
    bodies = Prose(job.seed).bodies(
        job.pool, job.prompt_chars, stream=stream, extra=job.extra, model=job.model
    )
    return [b"%b%d\r\n\r\n%b" % (head, len(body), body) for body in bodies]


async def run(job: Job) -> Seen:
    """Ask until the time is over."""
    where = urlsplit(job.url)
    host, port = where.hostname or "", where.port or 80
    requests = itertools.cycle(requests_of(job))
    loop, start = asyncio.get_running_loop(), time.perf_counter()
    clients: list[Client] = []
    for first in range(0, job.connections, _CONNECTING_AT_ONCE):
        count = min(_CONNECTING_AT_ONCE, job.connections - first)
        opened = await asyncio.gather(
            *(
                loop.create_connection(lambda: Client(requests, start + job.seconds), host, port)
                for _ in range(count)
            )
        )
        clients += [client for _, client in opened]
    await asyncio.gather(*(client.done for client in clients))
    latencies = sorted(latency for client in clients for latency in client.latencies) or [0.0]
    events = [client.events for client in clients]
    return Seen(
        answers=sum(len(client.latencies) for client in clients),
        events=sum(events),
        failures=sum(client.failures for client in clients),
        fewest_events=min(events),
        most_events=max(events),
        seconds=time.perf_counter() - start,
        p50_ms=latencies[len(latencies) // 2] * 1e3,
        p99_ms=latencies[int(len(latencies) * 0.99)] * 1e3,
    )


if __name__ == "__main__":
    print(msgspec.json.encode(uvloop.run(run(msgspec.json.decode(sys.argv[1], type=Job)))).decode())
