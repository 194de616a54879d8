"""The files of a spool: how segments are named, and what is in one after a crash."""

from __future__ import annotations

import fcntl
import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from wire.telemetry.frames import HEADER_BYTES, Header, decode_header

_SUFFIX = ".segment"


@dataclass(slots=True)
class Segment:
    """A file of whole frames, as its spool knows it."""

    number: int
    path: Path
    size: int
    """Bytes of whole frames."""
    samples: int
    """In all of them."""
    first_ms: int = 0
    last_ms: int = 0
    done: int = 0
    """Samples of it that are acknowledged, or were damaged."""
    closed: bool = False
    """Nothing more may be put behind what is in it."""


def segment_path(folder: Path, number: int) -> Path:
    """Where a segment is; names sort as numbers do."""
    return folder / f"{number:016d}{_SUFFIX}"


def numbered(folder: Path) -> list[tuple[int, Path]]:
    """The segments in a folder, oldest first; other files are none of ours."""
    stems = [(path.stem, path) for path in sorted(folder.glob(f"*{_SUFFIX}"))]
    return [(int(stem), path) for stem, path in stems if stem.isascii() and stem.isdigit()]


def repaired(number: int, path: Path, *, done_bytes: int) -> tuple[Segment, int]:
    """A segment without what a crash or a fault left at its end, and how many bytes that was.

    Args:
        done_bytes: its beginning that was acknowledged.

    Raises:
        OSError: it cannot be read or cut.
    """
    one = Segment(number, path, 0, 0)
    with path.open("r+b") as stream:
        for header in _headers(stream):
            if one.size < done_bytes:
                one.done += header.samples
            one.first_ms = one.first_ms or header.time_ms
            one.last_ms = header.time_ms
            one.size += header.frame_bytes
            one.samples += header.samples
        cut_bytes = stream.seek(0, os.SEEK_END) - one.size
        if cut_bytes:
            stream.truncate(one.size)
    return one, cut_bytes


def locked(path: Path) -> BinaryIO:
    """Hold a lock file as long as it is open. Raises ``BlockingIOError``: another process does."""
    stream = path.open("ab")
    try:
        fcntl.flock(stream, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BaseException:
        stream.close()
        raise
    return stream


def _headers(stream: BinaryIO) -> Iterator[Header]:
    """The frames of a segment that are whole, without their payloads."""
    end = stream.seek(0, os.SEEK_END)
    offset = 0
    while True:
        stream.seek(offset)
        header = decode_header(stream.read(HEADER_BYTES))
        if header is None or offset + header.frame_bytes > end:
            return
        yield header
        offset += header.frame_bytes
