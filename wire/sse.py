"""Server-sent events, sans-IO: bytes to events and back (WHATWG HTML, section 9.2).

The decoder takes whatever pieces the network gives. Lines end in LF, CR or CRLF, also where a
piece ends between CR and LF. Nearly all streams we read are ``data: ...`` and a blank line per
event; such pieces take a path without per-line work.
"""

from __future__ import annotations

import re

import msgspec

from wire.errors import NameInvalidError, SourceUnavailableError

MAX_EVENT_BYTES = 1024 * 1024
"""Default bound on one event, so a peer that never ends a line cannot fill our memory."""

_BOM = b"\xef\xbb\xbf"
_LINE_END = re.compile(rb"\r\n|\r|\n")
_MAX_RETRY_DIGITS = 9


class EventTooLargeError(SourceUnavailableError):
    """The peer sent an event, or a line of one, beyond the configured size."""

    code = "event_too_large"


class Event(msgspec.Struct, frozen=True):
    """One dispatched event. ``id`` is the last event id the stream has named so far."""

    data: str
    event: str = "message"
    id: str = ""


class SSEDecoder:
    """Turns the bytes of one stream into events.

    ``last_event_id`` is what a reconnect sends as ``Last-Event-ID``; ``retry_ms`` is the
    reconnection time the server asked for. An event that the stream's end cuts off is dropped, as
    the specification demands.
    """

    def __init__(self, *, max_event_bytes: int = MAX_EVENT_BYTES) -> None:
        self.last_event_id = ""
        self.retry_ms: int | None = None
        self._max_event_bytes = max_event_bytes
        self._tail = bytearray()
        self._started = False
        self._after_cr = False
        self._data: list[bytes] = []
        self._data_bytes = 0
        self._type = ""
        self._id = ""

    def feed(self, data: bytes) -> list[Event]:
        """The events that ``data`` completes.

        Raises:
            EventTooLargeError: a line, or the data of one event, is longer than
                ``max_event_bytes``. The stream is of no use after that.
        """
        if not self._started and not (data := self._without_bom(data)):
            return []
        if self._after_cr and data:
            self._after_cr = False
            if data[0] == 0x0A:
                data = data[1:]
        if not (self._tail or self._data or self._type):
            events = self._plain_blocks(data)
            if events is not None:
                return events
        return self._lines(self._complete_lines(data))

    def _without_bom(self, data: bytes) -> bytes:
        """Hold back the first bytes until it is clear whether they are a byte order mark."""
        self._tail += data
        if len(self._tail) < len(_BOM) and _BOM.startswith(bytes(self._tail)):
            return b""
        data = bytes(self._tail)
        self._tail.clear()
        self._started = True
        return data.removeprefix(_BOM)

    def _plain_blocks(self, data: bytes) -> list[Event] | None:
        """The usual case, without per-line work: whole events of one ``data: `` line each.

        None where the piece holds anything else.
        """
        if data[-2:] != b"\n\n" or b"\r" in data or len(data) > self._max_event_bytes:
            return None
        events = []
        for block in data[:-2].decode("utf-8", "replace").split("\n\n"):
            if "\n" in block or not block.startswith("data: "):
                return None
            events.append(Event(block[6:], "message", self._id))
        self.last_event_id = self._id
        return events

    def _complete_lines(self, data: bytes) -> list[bytes]:
        """The lines that ``data`` ends; the rest waits in ``_tail``, bounded."""
        if b"\n" not in data and b"\r" not in data:
            self._tail += data
            if len(self._tail) > self._max_event_bytes:
                raise self._too_large()
            return []
        # bytes.splitlines cuts at exactly LF, CR and CRLF.
        lines = (bytes(self._tail) + data).splitlines()
        self._tail.clear()
        self._after_cr = data[-1] == 0x0D
        if data[-1] not in b"\r\n":
            self._tail += lines.pop()
            if len(self._tail) > self._max_event_bytes:
                raise self._too_large()
        return lines

    def _lines(self, lines: list[bytes]) -> list[Event]:
        events = []
        for line in lines:
            if line:
                self._field(line)
            elif (event := self._dispatch()) is not None:
                events.append(event)
        return events

    def _field(self, line: bytes) -> None:
        if len(line) > self._max_event_bytes:
            raise self._too_large()
        # A comment (":" first) is a field with an empty name, which is ignored like any unknown.
        name, _, value = line.partition(b":")
        value = value.removeprefix(b" ")
        if name == b"data":
            self._data.append(value)
            self._data_bytes += len(value) + 1
            if self._data_bytes > self._max_event_bytes:
                raise self._too_large()
        elif name == b"event":
            self._type = value.decode("utf-8", "replace")
        elif name == b"id":
            if b"\0" not in value:
                self._id = value.decode("utf-8", "replace")
        elif name == b"retry" and value.isdigit() and len(value) <= _MAX_RETRY_DIGITS:
            self.retry_ms = int(value)

    def _dispatch(self) -> Event | None:
        self.last_event_id = self._id
        kind, self._type = self._type, ""
        if not self._data:
            return None
        data = b"\n".join(self._data).decode("utf-8", "replace")
        self._data = []
        self._data_bytes = 0
        return Event(data, kind or "message", self._id)

    def _too_large(self) -> EventTooLargeError:
        return EventTooLargeError(
            f"an event of the stream is larger than {self._max_event_bytes} B"
        )


def encode(
    data: str | bytes,
    event: str | None = None,
    id: str | None = None,  # noqa: A002 - the field
) -> bytes:
    """One event on the wire. Line ends inside ``data`` become further ``data`` lines.

    Raises:
        NameInvalidError: ``event`` or ``id`` holds a line end, or ``id`` a NUL.
    """
    raw = data.encode() if isinstance(data, str) else data
    if b"\n" in raw or b"\r" in raw:
        raw = b"\ndata: ".join(_LINE_END.split(raw))
    head = b""
    if event is not None:
        head += b"event: " + _one_line(event, "event") + b"\n"
    if id is not None:
        head += b"id: " + _one_line(id, "id") + b"\n"
    return head + b"data: " + raw + b"\n\n"


def comment(text: str = "") -> bytes:
    """A comment, which carries no event and keeps the connection alive."""
    return b"".join(b": " + line + b"\n" for line in _LINE_END.split(text.encode())) + b"\n"


def _one_line(text: str, field: str) -> bytes:
    raw = text.encode()
    if b"\n" in raw or b"\r" in raw or b"\0" in raw:
        raise NameInvalidError(f"the {field} of a server-sent event holds no line end and no NUL")
    return raw
