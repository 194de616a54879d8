"""A stream of server-sent events cut into the bytes of its single events, sans-IO.

For stages that hold events back and later release them untouched: no byte is lost or changed,
whatever pieces the network gives. Lines end in LF, CR or CRLF (WHATWG HTML, section 9.2).
"""

from __future__ import annotations

import re
from collections.abc import Iterator

MAX_BLOCK_BYTES = 64 * 1024

# A CR that ends what there is may be half of a CRLF, so it is not yet a line's end.
_LINE_END = rb"(?:\r\n|\n|\r(?=[^\n]))"
_BLANK_LINE = re.compile(_LINE_END + _LINE_END)
_LINES = re.compile(rb"\r\n|\r|\n")
_LOOK_BACK = 4


class EventBlocks:
    """Cuts one stream. ``oversized`` is set when an event has grown over the bound: nothing is cut
    any more, and ``rest`` gives what was not."""

    def __init__(self, *, max_block_bytes: int = MAX_BLOCK_BYTES) -> None:
        self.oversized = False
        self._max_block_bytes = max_block_bytes
        self._tail = bytearray()
        self._searched = 0
        self._lf_only = True

    @property
    def empty(self) -> bool:
        """Whether everything so far has been cut."""
        return not self._tail

    def feed(self, data: bytes) -> Iterator[bytes]:
        """The events that ``data`` completes, each with the blank line that ends it.

        They are cut one by one: where not all are taken, the others are in ``rest``.
        """
        self._tail += data
        self._lf_only = self._lf_only and b"\r" not in data
        return self._cut()

    def _cut(self) -> Iterator[bytes]:
        tail = self._tail
        while not self.oversized:
            end = self._end()
            if (end or len(tail)) > self._max_block_bytes:
                self.oversized = True
            elif not end:
                self._searched = max(0, len(tail) - _LOOK_BACK)
                return
            else:
                block = bytes(tail[:end])
                del tail[:end]
                self._searched = 0
                yield block

    def _end(self) -> int:
        """Where the first event ends; 0: not yet."""
        if self._lf_only:
            at = self._tail.find(b"\n\n", self._searched)
            return at + 2 if at >= 0 else 0
        found = _BLANK_LINE.search(self._tail, self._searched)
        return found.end() if found is not None else 0

    def rest(self) -> bytes:
        """What no blank line has ended; it is the caller's now."""
        rest = bytes(self._tail)
        self._tail.clear()
        self._searched = 0
        return rest


def data_of(block: bytes) -> bytes | None:
    """The data of one event; None where it has none, as a comment."""
    if block.startswith(b"data: ") and block.endswith(b"\n\n") and block.count(b"\n") == 2:
        return block[6:-2]
    lines = [
        line[5:].removeprefix(b" ") for line in _LINES.split(block) if line.startswith(b"data:")
    ]
    return b"\n".join(lines) if lines else None
