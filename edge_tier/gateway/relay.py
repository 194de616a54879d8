"""The relay stage: a backend's token events to the client, with as little work as can be.

:class:`StreamScan` is sans-IO: it is fed the backend's bytes and gives what may go on to the
client, whole events only. Nearly every piece is one plain token event and passes untouched; only
those that could be usage, an error or the end are looked into. :class:`Passthrough` does the same
with bytes that are still in the chunked coding, so that they need not be framed anew.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import msgspec

from edge_tier.gateway.chunked import Dechunker, frame
from edge_tier.gateway.reply import SlowReaders
from wire.chat import DONE_DATA, Usage, error_event
from wire.errors import HeadwaterError, SourceUnavailableError
from wire.sse import SSEDecoder, encode


@dataclass(frozen=True, slots=True, kw_only=True)
class RelayConfig:
    """Bounds of a relayed stream."""

    max_event_bytes: int = 1024 * 1024
    keep_alive_s: float = 5.0
    """How often a client that waits for the first event gets a comment."""
    slow_readers: SlowReaders = field(default_factory=SlowReaders)


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

    @property
    def at_boundary(self) -> bool:
        """Whether the next byte begins an event."""
        return not self._tail and self._normalizer is None

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


_SIZES = {b"%x" % size: size for size in range(1, 16_384)}
"""Size lines as servers write them; another one is read the long way."""


class Passthrough:
    """A stream that nobody changes, in the chunked coding on both sides.

    A piece that is one whole chunk of plain token events goes on as the very bytes that came, which
    is nearly every piece; all others are taken out of their chunks, scanned, and put into new ones.
    """

    __slots__ = ("_dechunker", "_scan", "ended")

    def __init__(self, scan: StreamScan) -> None:
        self.ended = False
        """The backend's last chunk has come."""
        self._scan = scan
        self._dechunker = Dechunker()

    def feed(self, data: bytes) -> bytes:
        """The chunks for the client; never the last one.

        Raises:
            SourceUnavailableError: no chunked coding, or an event that is over the bound.
        """
        at = data.find(b"\r\n", 1, 6)
        if (
            len(data) == _SIZES.get(data[:at], -5) + at + 4
            and data[-4:] == b"\n\n\r\n"
            and b'"usage"' not in data
            and b"[DONE]" not in data
            and b'"error"' not in data
            and data.find(b"\r", at + 2) == len(data) - 2
            and self._dechunker.at_boundary
            and self._scan.at_boundary
        ):
            self._scan.events += data.count(b"\ndata: ")
            return data
        passed = self._scan.feed(self._dechunker.feed(data))
        self.ended = self._dechunker.ended
        return frame(passed)


class _Answer(msgspec.Struct, frozen=True):
    usage: Usage | None = None


def answer_usage(body: bytes) -> Usage | None:
    """The usage in a whole (not streamed) answer; None where the backend gave none."""
    try:
        return msgspec.json.decode(body, type=_Answer).usage
    except msgspec.DecodeError:
        return None


def used_tokens(prompt_tokens: int, usage: Usage | None, events: int) -> tuple[int, int]:
    """Tokens of prompt and answer: the backend's own count, else ours and every event it sent."""
    if usage is None or not usage.total_tokens:
        return prompt_tokens, events
    if usage.prompt_tokens + usage.completion_tokens == usage.total_tokens:
        return usage.prompt_tokens, usage.completion_tokens
    return prompt_tokens, max(0, usage.total_tokens - prompt_tokens)
