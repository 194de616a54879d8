"""The relay stage: a backend's token events to the client, with as little work as can be.

:class:`StreamScan` is sans-IO: it is fed the backend's bytes and gives what may go on to the
client, whole events only. Nearly every piece is one plain token event and passes untouched; only
those that could be usage, an error or the end are looked into. :class:`Passthrough` does the same
with bytes that are still in the chunked coding, so that they need not be framed anew.

Of an answer that can go on at another worker (``resume``) both take out the ids of its tokens,
which are for the journal and not for the client, and hold back the worker's own error event.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass, field

import msgspec

from edge_tier.gateway.chunked import Dechunker, frame
from edge_tier.gateway.journal import Journal, split
from edge_tier.gateway.reply import SlowReaders
from wire.chat import DONE_DATA, Usage, error_event
from wire.errors import HeadwaterError, SourceUnavailableError
from wire.journal import ID_FIELD
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


class _Fault(msgspec.Struct, frozen=True):
    code: str | None = None


_probe = msgspec.json.Decoder(_Probe)
_FINISH = re.compile(rb'"finish_reason"\s*:\s*"')
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
        """Pieces that ``Passthrough`` looked into, also those without an event."""
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
        if line is not None:
            journal.take(line, data)
        elif data is not None and not self.done and not journal.finished:
            journal.lose("the worker does not tell its tokens")
        if data is not None and _FINISH.search(data) is not None:
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
        except (msgspec.DecodeError, RecursionError):
            return True
        if bytes(probe.error) != b"null":
            self.failed = True
            if self.journal is not None:
                self.events -= 1
                self.withheld, self.fault = encode(data), _code(bytes(probe.error))
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


def broken_event(error: HeadwaterError) -> bytes:
    """The event that ends a stream which broke: OpenAI's envelope, and no ``[DONE]`` after it."""
    return error_event(error.message, "server_error", error.code)


_SIZES = {b"%x" % size: size for size in range(1, 16_384)}
"""Size lines as servers write them; another one is read the long way."""
_SIZE_LINES = [b"%x\r\n" % size for size in range(16_384)]


class Passthrough:
    """A stream that nobody changes, in the chunked coding on both sides.

    A piece that is one whole chunk of plain token events goes on as the very bytes that came, which
    is nearly every piece; all others are taken out of their chunks, scanned, and put into new ones.
    """

    def __init__(self, scan: StreamScan) -> None:
        self.ended = False
        """The backend's last chunk has come."""
        self._scan = scan
        self._dechunker = Dechunker()

    def sink(
        self,
        write: Callable[[bytes], None],
        ended: Callable[[], None],
        failed: Callable[[HeadwaterError], None],
    ) -> Callable[[bytes], None]:
        """What takes the backend's bytes as they come.

        One function with all that it needs in its own variables: it runs for every token of every
        stream. Most events of a stream differ only in the text of their ``content``. Once one was
        looked through, the next that begins and ends in the same bytes, with no quote between, is
        known to be plain without a look at its inside.

        Args:
            write: gets the chunks for the client; never the last one.
            ended: told when the backend's last chunk has come.
            failed: told of what is no chunked coding, or of an event that is over the bound.
        """
        scan, size_of = self._scan, _SIZES.get
        whole = self._dechunker.at_boundary and scan.at_boundary
        head, tail, head_bytes, tail_bytes = b"", b"", 0, 0

        def take(data: bytes) -> None:
            nonlocal whole, head, tail, head_bytes, tail_bytes
            size, at = len(data), data.find(b"\r\n", 1, 6)
            if whole and size == size_of(data[:at], -5) + at + 4:
                if (
                    head_bytes
                    and data.endswith(tail)
                    and data.startswith(head, at + 2)
                    and data.find(b'"', at + 2 + head_bytes) == size - tail_bytes
                    and data.count(b"\n") == _NEWLINES
                ):
                    scan.events += 1
                    write(data)
                    return
                if _is_plain_chunk(data, at):
                    scan.pieces += 1
                    scan.events += data.count(b"\ndata:")
                    opens = data.find(_CONTENT, at) + len(_CONTENT)
                    closes = data.find(b'"', opens)
                    head, tail = data[at + 2 : opens], data[closes:]
                    known = opens > at + 2 + len(_CONTENT) and data.count(b"\n") == _NEWLINES
                    head_bytes, tail_bytes = (len(head), len(tail)) if known else (0, 0)
                    write(data)
                    return
            try:
                framed = self._long_way(data)
            except HeadwaterError as error:
                failed(error)
                return
            whole = self._dechunker.at_boundary and scan.at_boundary
            if framed:
                write(framed)
            if self.ended:
                ended()

        return take

    def journaled_sink(
        self,
        journal: Journal,
        write: Callable[[bytes], None],
        ended: Callable[[], None],
        failed: Callable[[HeadwaterError], None],
    ) -> Callable[[bytes], None]:
        """As :meth:`sink`, for a stream whose events begin with the ids of their tokens.

        The ids go to the journal as they are, and what is left of the chunk gets a new size. All
        but the known events go the long way, where also their end is noticed.
        """
        scan, size_of, size_lines = self._scan, _SIZES.get, _SIZE_LINES
        ids, remember, most = journal.lines, journal.lines.extend, journal.max_bytes
        whole = self._dechunker.at_boundary and scan.at_boundary
        head, tail, head_bytes, tail_bytes = b"", b"", 0, 0

        def take(data: bytes) -> None:
            nonlocal whole, head, tail, head_bytes, tail_bytes
            size, at = len(data), data.find(b"\r\n", 1, 6)
            one = whole and size == size_of(data[:at], -5) + at + 4
            if one and head_bytes:
                opens = data.find(b"\n", at + 6, at + 18) + 1
                if (
                    data.endswith(tail)
                    and data.startswith(head, opens)
                    and (
                        data.find(b'"', opens + head_bytes) == size - tail_bytes
                        or _says_no_more(data, at)
                    )
                    and data.count(b"\n") == _NEWLINES + 1
                    and data.startswith(ID_FIELD, at + 2)
                    and data[at + 6] != _MINUS
                    and len(ids) < most
                ):
                    scan.events += 1
                    remember(data[at + 6 : opens])
                    write(size_lines[size - 2 - opens] + data[opens:])
                    return
            try:
                framed = self._long_way(data)
            except HeadwaterError as error:
                failed(error)
                return
            whole = self._dechunker.at_boundary and scan.at_boundary
            if framed:
                write(framed)
            if self.ended:
                ended()
            elif one and not journal.finished and (shape := _shape(data, at)) is not None:
                head, tail = shape
                head_bytes, tail_bytes = len(head), len(tail)

        return take

    def _long_way(self, data: bytes) -> bytes:
        """The chunks for the client.

        Raises:
            SourceUnavailableError: no chunked coding, or an event that is over the bound.
        """
        self._scan.pieces += 1
        passed = self._scan.feed(self._dechunker.feed(data))
        self.ended = self._dechunker.ended
        return frame(passed)


_CONTENT = b'"content":"'
_NEWLINES = 4
"""Of a chunk with one event: its size line's, the event's two, and its own end's."""


_MINUS = ord("-")
_TEXT = re.compile(rb'"(?:content|text)":"')


def _shape(data: bytes, at: int) -> tuple[bytes, bytes] | None:
    """What is before and after the text of a journaled event; None where it is no usual one."""
    found = _TEXT.search(data, at)
    if found is None or data.count(b"\n") != _NEWLINES + 1 or not _says_no_more(data, at):
        return None
    begins, closes = data.find(b"data:", at), data.find(b'"', found.end())
    if begins != data.find(b"\n", at + 2) + 1 or data[closes - 1 : closes] == b"\\":
        return None
    return data[begins : found.end()], data[closes:]


def _says_no_more(data: bytes, at: int) -> bool:
    """Whether an event has text and nothing that the scan must know."""
    return _is_plain_chunk(data, at) and _FINISH.search(data) is None


def _is_plain_chunk(data: bytes, at: int) -> bool:
    """Whether a chunk whose size line ends at ``at`` holds whole token events and nothing else."""
    return (
        data[-4:] == b"\n\n\r\n"
        and b'"usage"' not in data
        and b"[DONE]" not in data
        and b'"error"' not in data
        and data.find(b"\r", at + 2) == len(data) - 2
    )


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
