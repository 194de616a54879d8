"""A stream that nobody changes, from socket to socket in the chunked coding on both sides.

Its pieces need not be framed anew: nearly every one is one whole chunk with one plain token event,
and goes on as the very bytes that came, or but for the ids that stand before it. All that is
anything else is taken out of its chunks, scanned (``relay``), and put into new ones.
"""

from __future__ import annotations

import re
from collections.abc import Callable

from edge_tier.gateway.chunked import Dechunker, frame
from edge_tier.gateway.journal import Journal
from edge_tier.gateway.relay import FINISH, StreamScan
from wire.errors import HeadwaterError
from wire.journal import ID_FIELD

_SIZES = {b"%x" % size: size for size in range(1, 16_384)}
"""Size lines as servers write them; another one is read the long way."""
_SIZE_LINES = [b"%x\r\n" % size for size in range(16_384)]


class Passthrough:
    """One stream."""

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
            elif scan.withheld:
                head_bytes = 0  # nothing more of this worker is for the client
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
    return _is_plain_chunk(data, at) and FINISH.search(data) is None


def _is_plain_chunk(data: bytes, at: int) -> bool:
    """Whether a chunk whose size line ends at ``at`` holds whole token events and nothing else."""
    return (
        data[-4:] == b"\n\n\r\n"
        and b'"usage"' not in data
        and b"[DONE]" not in data
        and b'"error"' not in data
        and data.find(b"\r", at + 2) == len(data) - 2
    )
