"""A load generator in a process of its own: ``MODE URL KEY CONNECTIONS SECONDS`` → JSON on stdout.

``answers`` counts whole answers and their latencies; ``streams`` opens that many streams at once
and counts their token events. Bare sockets and httptools: it must cost little.
"""

from __future__ import annotations

import asyncio
import json
import sys
import time
from typing import cast
from urllib.parse import urlsplit

import httptools
import uvloop

BODY = {
    "model": "edge-small",
    "messages": [{"role": "user", "content": "What is the capital of France?"}],
    "max_tokens": 64,
}


class Client(asyncio.Protocol):
    """One connection; ``on_answer`` is called after each whole answer."""

    def __init__(self, request: bytes, deadline: float) -> None:
        self._request = request
        self._deadline = deadline
        self._parser = httptools.HttpResponseParser(self)
        self.done = asyncio.get_running_loop().create_future()
        self.latencies: list[float] = []
        self.events = 0
        self.failures = 0

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)
        self._send()

    def data_received(self, data: bytes) -> None:
        self._parser.feed_data(data)

    def on_body(self, body: bytes) -> None:
        self.events += body.count(b"data: {")

    def on_message_complete(self) -> None:
        self.latencies.append(time.perf_counter() - self._sent)
        self.failures += self._parser.get_status_code() != 200
        if time.perf_counter() < self._deadline:
            self._send()
        else:
            self._transport.close()

    def connection_lost(self, exc: Exception | None) -> None:
        if not self.done.done():
            self.done.set_result(None)

    def _send(self) -> None:
        self._sent = time.perf_counter()
        self._transport.write(self._request)


async def main(mode: str, url: str, key: str, connections: int, seconds: float) -> None:
    where = urlsplit(url)
    host, port = where.hostname or "", where.port or 80
    body = json.dumps(BODY | {"stream": mode == "streams"}, separators=(",", ":")).encode()
    head = (
        f"POST /v1/chat/completions HTTP/1.1\r\nHost: {where.netloc}\r\n"
        f"Authorization: Bearer {key}\r\nContent-Type: application/json\r\n"
        f"Content-Length: {len(body)}\r\n\r\n"
    )
    request, start = head.encode() + body, time.perf_counter()
    loop = asyncio.get_running_loop()
    clients = []
    for _ in range(connections):
        _, client = await loop.create_connection(
            lambda: Client(request, start + seconds), host, port
        )
        clients.append(client)
    await asyncio.gather(*(client.done for client in clients))
    took = time.perf_counter() - start
    latencies = sorted(latency for client in clients for latency in client.latencies)
    result = {
        "answers": len(latencies),
        "events": sum(client.events for client in clients),
        "failures": sum(client.failures for client in clients),
        "seconds": took,
        "p50_ms": latencies[len(latencies) // 2] * 1e3,
        "p99_ms": latencies[int(len(latencies) * 0.99)] * 1e3,
    }
    print(json.dumps(result))


if __name__ == "__main__":
    uvloop.run(main(sys.argv[1], sys.argv[2], sys.argv[3], int(sys.argv[4]), float(sys.argv[5])))
