"""A canned model server: answers at once, or streams at a steady pace. ``PORT`` is its argument.

Bare protocol and prebuilt bytes, so that it is never what a benchmark measures. A request whose
body asks to stream gets ``EVENTS`` token events, ``RATE`` a second, from one timer for all streams;
the first ``FIRST`` with log-probabilities if the body asks for any, and all with the ids of their
tokens if it asks for a journal, as a worker sends them.
"""

from __future__ import annotations

import asyncio
import sys
from typing import ClassVar, cast

import httptools
import uvloop

ANSWER = (
    b'{"id":"chatcmpl-1","object":"chat.completion","created":1,"model":"edge-small","choices":'
    b'[{"index":0,"message":{"role":"assistant","content":"The capital of France is Paris."},'
    b'"finish_reason":"stop"}],"usage":{"prompt_tokens":12,"completion_tokens":8,'
    b'"total_tokens":20}}'
)
WHOLE = (
    b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nx-model-digest: canned\r\n"
    b"Content-Length: %d\r\n\r\n%b" % (len(ANSWER), ANSWER)
)
HEAD = (
    b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nx-model-digest: canned\r\n"
    b"Transfer-Encoding: chunked\r\n\r\n"
)
EVENT = (
    b'data: {"id":"chatcmpl-1","object":"chat.completion.chunk","created":1,"model":"edge-small",'
    b'"choices":[{"index":0,"delta":{"content":" token"},"finish_reason":null}]}\n\n'
)
SURE = EVENT.replace(
    b'"finish_reason"',
    b'"logprobs":{"content":[{"token":" token","logprob":-0.01}]},"finish_reason"',
)
FIRST = 8
DONE = b"data: [DONE]\n\n"


def framed(data: bytes) -> bytes:
    return b"%x\r\n%b\r\n" % (len(data), data)


FRAME, SURE_FRAME, END = framed(EVENT), framed(SURE), framed(DONE) + b"0\r\n\r\n"
NAMED = [framed(b"id: %d\n%b" % (number * 397, EVENT)) for number in range(64)]
NAMED_SURE = framed(b"id: 7\n" + SURE)


class Canned(asyncio.Protocol):
    """One connection."""

    streams: ClassVar[set[Canned]] = set()

    def __init__(self, events: int) -> None:
        self._events = events
        self._left = 0
        self._sure = 0
        self._journaled = False
        self._parser = httptools.HttpRequestParser(self)
        self._body = b""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)

    def connection_lost(self, exc: Exception | None) -> None:
        self.streams.discard(self)

    def data_received(self, data: bytes) -> None:
        self._parser.feed_data(data)

    def on_message_begin(self) -> None:
        self._body = b""

    def on_body(self, data: bytes) -> None:
        self._body += data

    def on_message_complete(self) -> None:
        if b'"stream":true' not in self._body.replace(b" ", b""):
            self._transport.write(WHOLE)
            return
        self._left = self._events
        self._sure = FIRST if b'"logprobs_first"' in self._body else 0
        self._journaled = b'"journal"' in self._body
        self._transport.write(HEAD + self._frame())
        self.streams.add(self)

    def tick(self) -> None:
        self._left -= 1
        if self._left > 0:
            self._transport.write(self._frame())
        else:
            self.streams.discard(self)
            self._transport.write(END)

    def _frame(self) -> bytes:
        if not self._sure:
            return NAMED[self._left % len(NAMED)] if self._journaled else FRAME
        self._sure -= 1
        return NAMED_SURE if self._journaled else SURE_FRAME


async def main(port: int, events: int, rate: float) -> None:
    loop = asyncio.get_running_loop()
    await loop.create_server(lambda: Canned(events), "127.0.0.1", port)
    start, count = loop.time(), 0
    while True:
        count += 1
        await asyncio.sleep(max(0.0, start + count / rate - loop.time()))
        for stream in list(Canned.streams):
            stream.tick()


if __name__ == "__main__":
    uvloop.run(main(int(sys.argv[1]), int(sys.argv[2]), float(sys.argv[3])))
