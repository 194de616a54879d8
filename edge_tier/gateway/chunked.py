"""HTTP/1.1's chunked transfer coding, sans-IO (RFC 9112 section 7.1)."""

from __future__ import annotations

import re

from wire.errors import SourceUnavailableError

LAST = b"0\r\n\r\n"
"""The last chunk, without trailers."""
_SIZE = re.compile(rb"([0-9A-Fa-f]{1,7})[ \t]*(?:;[^\r\n]{0,128})?")
_MAX_LINE_BYTES = 256
_MAX_TRAILER_BYTES = 4_096


def frame(data: bytes) -> bytes:
    """``data`` as one chunk; nothing for nothing, because an empty chunk ends a body."""
    return b"%x\r\n%b\r\n" % (len(data), data) if data else b""


class Dechunker:
    """Takes a body's bytes as they are on the wire and gives what they carry.

    The pieces may be cut anywhere. ``ended`` is set after the last chunk; what follows it is
    refused, because no request asked for it.
    """

    __slots__ = ("_closing", "_last", "_left", "_rest", "ended")

    def __init__(self) -> None:
        self.ended = False
        self._rest = b""
        self._left = 0
        self._closing = False
        """The bytes of a chunk are there, and its CRLF is not."""
        self._last = False

    @property
    def at_boundary(self) -> bool:
        """Whether the next byte begins a chunk."""
        return not (self._rest or self._left or self._closing or self._last or self.ended)

    def feed(self, data: bytes) -> bytes:
        """What the bytes carry.

        Raises:
            SourceUnavailableError: this is no chunked coding.
        """
        if self._rest:
            data, self._rest = self._rest + data, b""
        carried: list[bytes] = []
        at = 0
        while at < len(data) and not self.ended:
            if self._left:
                piece = data[at : at + self._left]
                carried.append(piece)
                self._left -= len(piece)
                at += len(piece)
                self._closing = not self._left
                continue
            end = data.find(b"\r\n", at)
            if end < 0:
                self._rest = self._held(data[at:])
                return b"".join(carried)
            self._line(data[at:end])
            at = end + 2
        if self.ended and at < len(data):
            raise SourceUnavailableError("the backend sent more than its answer")
        return b"".join(carried)

    def _held(self, rest: bytes) -> bytes:
        if len(rest) > (_MAX_TRAILER_BYTES if self._last else _MAX_LINE_BYTES):
            raise SourceUnavailableError("the backend sent a chunk without a size")
        return rest

    def _line(self, line: bytes) -> None:
        if self._closing:
            if line:
                raise SourceUnavailableError("the backend sent a chunk that is not of its size")
            self._closing = False
        elif self._last:
            # Trailers are dropped: nothing in them is for the client.
            self.ended = not line
        else:
            size = _SIZE.fullmatch(line)
            if size is None:
                raise SourceUnavailableError("the backend sent a chunk without a size")
            self._left = int(size[1], 16)
            self._last = not self._left
