"""The relay stage: a backend's token events to the client, with as little work as can be.

:class:`StreamScan` is sans-IO: it is fed the backend's bytes and gives what may go on to the
client, whole events only. Nearly every piece is one plain token event and passes untouched; only
those that could be usage, an error or the end are looked into. :class:`Splice` writes straight into
the client's transport with the chunked framing of HTTP/1.1 (RFC 9112 section 7.1), so an event
costs no task switch.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

import msgspec

from wire.chat import DONE_DATA, Usage, error_event
from wire.errors import HeadwaterError, SourceUnavailableError
from wire.sse import SSEDecoder, encode


@dataclass(frozen=True, slots=True, kw_only=True)
class RelayConfig:
    """Bounds of a relayed stream."""

    max_event_bytes: int = 1024 * 1024
    high_water_bytes: int = 256 * 1024
    """Unsent bytes towards a slow client at which its backend is told to wait."""
    slow_reader_s: float = 30.0
    """A client that takes nothing for so long is cut off."""
    poll_s: float = 0.02
    """How often a slow client is looked at."""


class _Probe(msgspec.Struct, frozen=True):
    """The fields of a stream event that the relay must know."""

    usage: Usage | None = None
    choices: list[msgspec.Raw] = []
    error: msgspec.Raw = msgspec.Raw(b"null")


_probe = msgspec.json.Decoder(_Probe)


class StreamScan:
    """Follows one stream: what to forward, how many events, usage, and how it ended.

    Args:
        keep_usage: forward the usage event (the client asked for it).
        max_event_bytes: a longer event ends the stream with an error.
    """

    def __init__(self, *, keep_usage: bool, max_event_bytes: int = 1024 * 1024) -> None:
        self.events = 0
        """Token events so far; what is charged where the backend never told its usage."""
        self.usage: Usage | None = None
        self.done = False
        """``[DONE]`` was seen: the answer is whole."""
        self.failed = False
        """The backend itself reported an error in the stream."""
        self._keep_usage = keep_usage
        self._max_event_bytes = max_event_bytes
        self._tail = b""
        self._normalizer: SSEDecoder | None = None

    def feed(self, data: bytes) -> bytes:
        """The bytes that may go on.

        Raises:
            SourceUnavailableError: an event is over the bound.
        """
        if not self._tail and self._normalizer is None and _is_plain(data):
            self.events += data.count(b"data: ")
            return data
        if b"\r" in data or self._normalizer is not None:
            return self._normalized(data)
        whole, separator, self._tail = (self._tail + data).rpartition(b"\n\n")
        if len(self._tail) > self._max_event_bytes:
            raise SourceUnavailableError(f"stream event is over {self._max_event_bytes} B")
        if not separator:
            return b""
        return b"".join(
            block + b"\n\n" for block in whole.split(b"\n\n") if self._passes(_data_of(block))
        )

    def _normalized(self, data: bytes) -> bytes:
        """A backend that ends lines in CR or CRLF: decode, and write again in the plain form."""
        if self._normalizer is None:
            self._normalizer = SSEDecoder(max_event_bytes=self._max_event_bytes)
            data, self._tail = self._tail + data, b""
        events = self._normalizer.feed(data)
        return b"".join(encode(e.data) for e in events if self._passes(e.data.encode()))

    def _passes(self, data: bytes | None) -> bool:
        """Look into one event; whether the client gets it. ``None`` is a comment."""
        if data is None:
            return True
        if data == DONE_DATA.encode():
            self.done = True
            return True
        self.events += 1
        if b'"usage"' not in data and b'"error"' not in data:
            return True
        try:
            probe = _probe.decode(data)
        except msgspec.DecodeError:
            return True
        if bytes(probe.error) != b"null":
            self.failed = True
        if probe.usage is None:
            return True
        self.usage = probe.usage
        if not probe.choices:
            self.events -= 1
            return self._keep_usage
        return True


def _is_plain(data: bytes) -> bool:
    return (
        data.endswith(b"\n\n")
        and b'"usage"' not in data
        and b"[DONE]" not in data
        and b'"error"' not in data
        and b"\r" not in data
    )


def _data_of(block: bytes) -> bytes | None:
    """The data of an event in plain form; None where it has none."""
    lines = [line[5:].removeprefix(b" ") for line in block.split(b"\n") if line[:5] == b"data:"]
    return b"\n".join(lines) if lines else None


def broken_event(error: HeadwaterError) -> bytes:
    """The event that ends a stream which broke: OpenAI's envelope, and no ``[DONE]`` after it."""
    return error_event(error.message, "server_error", error.code)


class Upstream(Protocol):
    """What the relay needs of a backend's answer."""

    async def pump(self, sink: Callable[[bytes], None]) -> None: ...

    def pause(self) -> None: ...

    def resume(self) -> None: ...


class Splice:
    """Writes body bytes straight into a client's transport.

    Args:
        chunked: frame for HTTP/1.1; False towards an HTTP/1.0 client, which reads to the end.
    """

    def __init__(
        self, transport: asyncio.WriteTransport, *, chunked: bool, config: RelayConfig
    ) -> None:
        self._transport = transport
        self._chunked = chunked
        self._config = config
        self._waiting: asyncio.Task[None] | None = None

    def write(self, data: bytes) -> None:
        """Send one piece now; nothing waits."""
        if not data or self._transport.is_closing():
            return
        if self._chunked:
            data = b"%x\r\n%b\r\n" % (len(data), data)
        self._transport.write(data)

    async def relay(self, upstream: Upstream, scan: StreamScan) -> None:
        """Pump the backend's stream to the client until it ends.

        Raises:
            HeadwaterError: the backend broke off, or sent what cannot be relayed.
        """
        failure: HeadwaterError | None = None
        feed, write, buffered = scan.feed, self.write, self._transport.get_write_buffer_size
        high_water = self._config.high_water_bytes

        def sink(data: bytes) -> None:
            nonlocal failure
            if failure is not None:
                return
            try:
                write(feed(data))
            except HeadwaterError as error:
                failure = error
            if buffered() > high_water and self._waiting is None:
                upstream.pause()
                self._waiting = asyncio.create_task(self._drain(upstream), name="relay-drain")

        try:
            await upstream.pump(sink)
        finally:
            if self._waiting is not None:
                self._waiting.cancel()
        if failure is not None:
            raise failure

    async def _drain(self, upstream: Upstream) -> None:
        """Let a slow client catch up, or cut it off when it takes nothing at all."""
        loop = asyncio.get_running_loop()
        size, since = self._transport.get_write_buffer_size(), loop.time()
        while size > self._config.high_water_bytes // 2 and not self._transport.is_closing():
            await asyncio.sleep(self._config.poll_s)
            now = self._transport.get_write_buffer_size()
            if now < size:
                since = loop.time()
            elif loop.time() - since > self._config.slow_reader_s:
                self._transport.abort()
            size = now
        self._waiting = None
        upstream.resume()


class _Answer(msgspec.Struct, frozen=True):
    usage: Usage | None = None


def answer_usage(body: bytes) -> Usage | None:
    """The usage in a whole (not streamed) answer; None where the backend gave none."""
    try:
        return msgspec.json.decode(body, type=_Answer).usage
    except msgspec.DecodeError:
        return None


def charged_tokens(prompt_tokens: int, usage: Usage | None, events: int) -> int:
    """What a request used: the backend's own count, else the prompt and every event it sent."""
    if usage is not None and usage.total_tokens:
        return usage.total_tokens
    return prompt_tokens + events
