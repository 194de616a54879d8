"""The relay stage: a backend's token events to the client, with as little work as can be.

:class:`StreamScan` is sans-IO: it is fed the backend's bytes and gives what may go on to the
client, whole events only. Nearly every piece is one plain token event and passes untouched; only
those that could be usage, an error or the end are looked into. ``passthrough`` does the same with
bytes that are still in the chunked coding.

Of an answer that can go on at another worker (``resume``) the ids of its tokens are taken out,
which are for the journal and not for the client, and the worker's own error event is held back.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field

import msgspec

from edge_tier.gateway.journal import Journal, split
from edge_tier.gateway.reply import SlowReaders
from wire.chat import DONE_DATA, Usage, error_event
from wire.errors import HeadwaterError, SourceUnavailableError
from wire.sse import SSEDecoder, encode


@dataclass(frozen=True, slots=True, kw_only=True)
class RelayConfig:
    """Bounds of a relayed stream."""

    max_event_bytes: int = 1024 * 1024
    """Of one event of a backend; a longer one ends the stream with an error."""
    keep_alive_s: float = 5.0
    """How often a client that waits for the first event gets a comment."""
    slow_readers: SlowReaders = field(default_factory=SlowReaders)


class _Probe(msgspec.Struct, frozen=True):
    """The fields of a stream event that the relay must know."""

    usage: Usage | None = None
    choices: list[msgspec.Raw] = []
    error: msgspec.Raw = msgspec.Raw(b"null")


class _Fault(msgspec.Struct, frozen=True):
    code: str | None = None


_probe = msgspec.json.Decoder(_Probe)
FINISH = re.compile(rb'"finish_reason"\s*:\s*"')
# Inside a JSON string a quote is escaped, so this finds keys only.


class StreamScan:
    """Follows one stream: what to forward, how many events, usage, and how it ended.

    Args:
        keep_usage: forward the usage event (the client asked for it).
        max_event_bytes: a longer event ends the stream with an error.
        journal: remembers the tokens of the answer, where the worker tells them.
    """

    def __init__(
        self,
        *,
        keep_usage: bool,
        max_event_bytes: int = 1024 * 1024,
        journal: Journal | None = None,
    ) -> None:
        self.events = 0
        """Token events so far; what is charged where the backend never told its usage."""
        self.pieces = 0
        """Pieces that ``passthrough`` looked into, also those without an event."""
        self.usage: Usage | None = None
        self.done = False
        """``[DONE]`` was seen: the answer is whole."""
        self.failed = False
        """The backend itself reported an error in the stream."""
        self.withheld = b""
        """Its event, where there is a journal: perhaps another worker goes on."""
        self.fault = ""
        """Its code."""
        self.journal = journal
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
        journal = self.journal
        if journal is None and not self._tail and self._normalizer is None and _is_plain(data):
            # Not what a text says: JSON has no raw line feed in its strings.
            self.events += data.count(b"\ndata:") + data.startswith(b"data:")
            return data
        if b"\r" in data or self._normalizer is not None:
            return self._normalized(data)
        whole, separator, self._tail = (self._tail + data).rpartition(b"\n\n")
        if len(self._tail) > self._max_event_bytes:
            raise SourceUnavailableError(f"stream event is over {self._max_event_bytes} B")
        if not separator:
            return b""
        if journal is not None:
            return b"".join([self._journaled(b, journal) for b in whole.split(b"\n\n")])
        return b"".join(
            block + b"\n\n" for block in whole.split(b"\n\n") if self._passes(_data_of(block))
        )

    def restart(self) -> None:
        """The backend broke off; what follows are the events of another one. Half an event of the
        first is nobody's."""
        self._tail, self._normalizer = b"", None
        self.failed, self.withheld, self.fault = False, b"", ""

    def _journaled(self, block: bytes, journal: Journal) -> bytes:
        """One event, without the ids of its tokens."""
        line, event = split(block)
        data = _data_of(event)
        if not self._passes(data):
            return b""
        if b"\n" in event or data is None:
            event = _plain(event, data)
            if data is not None:
                journal.lose("the worker's events hold more than tokens and data")
        if not event:
            return b""
        if line is not None:
            journal.take(line, data)
        elif data is not None and not self.done and not journal.finished:
            journal.lose("the worker does not tell its tokens")
        if data is not None and FINISH.search(data) is not None:
            journal.finished = True
        return event + b"\n\n"

    def _normalized(self, data: bytes) -> bytes:
        """A backend that ends lines in CR or CRLF: decode, and write again in the plain form."""
        if self.journal is not None:
            self.journal.lose("the worker ends its lines in another way")
        if self._normalizer is None:
            self._normalizer = SSEDecoder(max_event_bytes=self._max_event_bytes)
            data, self._tail = self._tail + data, b""
        events = self._normalizer.feed(data)
        return b"".join(encode(e.data) for e in events if self._passes(e.data.encode()))

    def _passes(self, data: bytes | None) -> bool:
        """Look into one event; whether the client gets it. ``None`` is a comment."""
        if self.withheld or data is None:
            return not self.withheld  # after its error a worker has no more to say
        if data == DONE_DATA.encode():
            self.done = True
            return True
        self.events += 1
        if b'"usage"' not in data and b'"error"' not in data:
            return True
        try:
            probe = _probe.decode(data)
        except (msgspec.DecodeError, RecursionError):
            return True
        if bytes(probe.error) != b"null":
            self.failed, self.fault = True, _code(bytes(probe.error))
            if self.journal is not None:
                self.events -= 1
                self.withheld = encode(data)
                return False
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


def _code(error: bytes) -> str:
    try:
        return msgspec.json.decode(error, type=_Fault).code or ""
    except (msgspec.DecodeError, RecursionError, UnicodeError):
        return ""


def _data_of(block: bytes) -> bytes | None:
    """The data of an event in plain form; None where it has none."""
    lines = [line[5:].removeprefix(b" ") for line in block.split(b"\n") if line[:5] == b"data:"]
    return b"\n".join(lines) if lines else None


def _plain(block: bytes, data: bytes | None) -> bytes:
    """An event of nothing but its data, or the comments of one without; no blank line after it."""
    if data is not None:
        return encode(data)[:-2]
    return b"\n".join([line for line in block.split(b"\n") if line[:1] == b":"])


def broken_event(error: HeadwaterError) -> bytes:
    """The event that ends a stream which broke: OpenAI's envelope, and no ``[DONE]`` after it."""
    return error_event(error.message, "server_error", error.code)


class _Answer(msgspec.Struct, frozen=True):
    usage: Usage | None = None


def answer_usage(body: bytes) -> Usage | None:
    """The usage in a whole (not streamed) answer; None where the backend gave none.

    Raises:
        SourceUnavailableError: this is no JSON, so it is no answer.
    """
    try:
        return msgspec.json.decode(body, type=_Answer).usage
    except msgspec.ValidationError:
        return None
    except (msgspec.DecodeError, RecursionError) as error:
        raise SourceUnavailableError("the backend's answer is not JSON") from error


def used_tokens(prompt_tokens: int, usage: Usage | None, events: int) -> tuple[int, int]:
    """Tokens of prompt and answer: the backend's own count, else ours and every event it sent."""
    if usage is None or usage.total_tokens <= 0:
        return prompt_tokens, events
    if min(usage.prompt_tokens, usage.completion_tokens) < 0:
        return prompt_tokens, max(0, usage.total_tokens - prompt_tokens)
    if usage.prompt_tokens + usage.completion_tokens == usage.total_tokens:
        return usage.prompt_tokens, usage.completion_tokens
    return prompt_tokens, max(0, usage.total_tokens - prompt_tokens)
