"""A stream of server-sent events cut into the bytes of its single events, sans-IO.

For stages that hold events back and later release them untouched: no byte is lost or changed,
whatever pieces the network gives. Lines end in LF, CR or CRLF (WHATWG HTML, section 9.2).
"""

from __future__ import annotations

import re

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

    @property
    def empty(self) -> bool:
        """Whether everything so far has been cut."""
        return not self._tail

    def feed(self, data: bytes) -> list[bytes]:
        """The events that ``data`` completes, each with the blank line that ends it."""
        tail = self._tail
        tail += data
        blocks: list[bytes] = []
        start, search = 0, self._searched
        while not self.oversized:
            found = _BLANK_LINE.search(tail, search)
            end = found.end() if found is not None else len(tail)
            if end - start > self._max_block_bytes:
                self.oversized = True
            elif found is None:
                break
            else:
                blocks.append(bytes(tail[start:end]))
                start = search = end
        del tail[:start]
        self._searched = max(0, len(tail) - _LOOK_BACK)
        return blocks

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
