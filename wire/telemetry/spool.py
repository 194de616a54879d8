"""A bounded write-ahead log of batches on disk: appended at one end, read and acknowledged at the
other, by one process.

A folder holds numbered segments of frames (``frames``), and ``state``: the read cursor and the
counts, replaced whole. A batch counts as spooled once :meth:`Spool.append` has returned. What a
crash left half written at a segment's end is cut off when the spool is opened. Over the cap the
oldest segment goes, and what in it was not acknowledged is counted as dropped: first in ``state``,
then the file is removed, so no crash in between counts twice or not at all.

At all times: appended = sent + rejected + dropped + pending, in samples, over all processes.
"""

from __future__ import annotations

import errno
import os
from collections import deque
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, BinaryIO, Literal

import msgspec

from wire.files import sync_folder, write_atomically
from wire.telemetry.config import Fsync
from wire.telemetry.frames import (
    HEADER_BYTES,
    MAX_PAYLOAD_BYTES,
    Header,
    decode_header,
    encode_frame,
    is_sound,
)
from wire.telemetry.segments import Segment, locked, numbered, repaired, segment_path

_MAX_SLOTS = 64
_STATE = "state"
_LOCK = "lock"
_Count = Annotated[int, msgspec.Meta(ge=0, le=2**62)]
"""A place or a number of samples: what is no such thing on disk is damage, and not sought for."""


class SpoolState(msgspec.Struct, frozen=True, kw_only=True):
    """What outlives a process besides the segments."""

    segment: _Count = 0
    offset: _Count = 0
    """Where the oldest batch begins that is not acknowledged."""
    sent: _Count = 0
    rejected: _Count = 0
    dropped: _Count = 0
    """Samples, by what became of them."""
    last_ms: _Count = 0
    """The time of the newest batch that was acknowledged."""


@dataclass(frozen=True, slots=True)
class Batch:
    """A batch as it was appended, and where it stands."""

    payload: bytes
    samples: int
    time_ms: int
    segment: int = 0
    offset: int = 0


class Spool:
    """One folder. Not thread-safe; closed by :meth:`close`.

    Args:
        most_bytes: the most that its segments take together.
        segment_bytes: a segment that has so many is not appended to.

    Raises:
        OSError: the folder cannot be used, or another process uses it (``BlockingIOError``).
    """

    def __init__(
        self, folder: Path, *, most_bytes: int, segment_bytes: int, fsync: Fsync = "always"
    ) -> None:
        self._folder = folder
        self._most_bytes = most_bytes
        self._segment_bytes = max(1, min(segment_bytes, most_bytes // 4))
        self._fsync = fsync
        self._writing: BinaryIO | None = None
        self._reading: tuple[int, BinaryIO] | None = None
        self.cut_bytes = 0
        """What a crash, or a fault, had left at the ends of segments."""
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        self._lock = locked(folder / _LOCK)
        try:
            self._state = self._read_state()
            self._segments = deque(self._found())
            self._settle_cursor()
            self._shrink(0)
        except BaseException:
            self.close()
            raise

    @property
    def state(self) -> SpoolState:
        """The cursor and the counts."""
        return self._state

    @property
    def pending(self) -> int:
        """Samples that wait."""
        return sum(one.samples - one.done for one in self._segments)

    @property
    def used_bytes(self) -> int:
        """What the segments take on disk."""
        return sum(one.size for one in self._segments)

    @property
    def oldest_ms(self) -> int:
        """About when the oldest batch that waits was made; 0 where none does."""
        for one in self._segments:
            if one.done < one.samples:
                return one.first_ms
        return 0

    @property
    def newest_ms(self) -> int:
        """When the newest batch was made that was ever spooled."""
        return max(self._state.last_ms, *(one.last_ms for one in self._segments), 0)

    def append(self, payload: bytes, samples: int, time_ms: int) -> bool:
        """Spool a batch, dropping the oldest where there is no room.

        Returns:
            Whether it is spooled; one that is larger than a frame or the whole spool is dropped.

        Raises:
            OSError: it is not, for the disk takes nothing.
        """
        if len(payload) > min(MAX_PAYLOAD_BYTES, self._most_bytes - HEADER_BYTES):
            self._note(dropped=samples)
            return False
        frame = encode_frame(payload, samples, time_ms)
        self._shrink(len(frame))
        last = self._segments[-1] if self._segments else None
        if last is None or self._writing is None or last.size >= self._segment_bytes:
            last = self._begin_segment(last)
        stream = self._writing
        assert stream is not None
        try:
            if stream.write(frame) != len(frame):
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
            if self._fsync == "always":
                os.fsync(stream.fileno())
        except OSError:
            self._take_back(stream, last)
            raise
        last.first_ms = last.first_ms or time_ms
        last.last_ms = time_ms
        last.size += len(frame)
        last.samples += samples
        return True

    def peek(self) -> Batch | None:
        """The oldest batch that is not acknowledged; damaged ones are passed over and counted.

        Raises:
            OSError: it cannot be read; :meth:`give_up` drops it.
        """
        while self._segments:
            one, offset = self._segments[0], self._state.offset
            if offset >= one.size:
                if len(self._segments) == 1:
                    return None
                self._drop_first(dropped=0)
                continue
            stream = self._stream(one)
            stream.seek(offset)
            header = decode_header(stream.read(HEADER_BYTES))
            if header is None:
                self.give_up()
                continue
            payload = stream.read(header.payload_bytes)
            if is_sound(header, payload):
                return Batch(payload, header.samples, header.time_ms, one.number, offset)
            self._advance(one, header, "dropped")
        return None

    def acknowledge(self, batch: Batch, outcome: Literal["sent", "rejected"]) -> bool:
        """The batch from :meth:`peek` need not be kept any more.

        Returns:
            Whether it was still there: it may have been dropped, and counted so, while it was under
            way.
        """
        here = (self._state.segment, self._state.offset)
        if not self._segments or here != (batch.segment, batch.offset):
            return False
        header = Header(len(batch.payload), batch.samples, batch.time_ms, 0)
        self._advance(self._segments[0], header, outcome)
        return True

    def give_up(self) -> None:
        """Drop the oldest segment, which cannot be read."""
        if self._segments:
            self._drop_first(dropped=self._segments[0].samples - self._segments[0].done)

    def count(self, *, sent: int = 0, rejected: int = 0, dropped: int = 0) -> None:
        """Count samples that never came here."""
        if sent or rejected or dropped:
            self._note(sent=sent, rejected=rejected, dropped=dropped)

    def close(self) -> None:
        """Let go of the files and of the folder. May be called twice."""
        for stream in (self._writing, self._reading[1] if self._reading else None, self._lock):
            if stream is not None:
                with suppress(OSError):
                    stream.close()
        self._writing = self._reading = None

    # Opening

    def _read_state(self) -> SpoolState:
        try:
            return msgspec.json.decode((self._folder / _STATE).read_bytes(), type=SpoolState)
        except (FileNotFoundError, msgspec.DecodeError, UnicodeDecodeError):
            return SpoolState()

    def _found(self) -> Iterator[Segment]:
        """The segments on disk; those before the cursor are read to their end, or dropped."""
        state = self._state
        for number, path in numbered(self._folder):
            if number < state.segment:
                path.unlink(missing_ok=True)
                continue
            done = state.offset if number == state.segment else 0
            one, cut_bytes = repaired(number, path, done_bytes=done)
            self.cut_bytes += cut_bytes
            yield one

    def _settle_cursor(self) -> None:
        """Have the cursor stand in the oldest segment."""
        if not self._segments:
            return
        first = self._segments[0]
        if first.number != self._state.segment:
            self._state = msgspec.structs.replace(self._state, segment=first.number, offset=0)
        elif self._state.offset > first.size:
            self._state = msgspec.structs.replace(self._state, offset=first.size)

    # Writing

    def _begin_segment(self, last: Segment | None) -> Segment:
        """Raises ``OSError``, and then all is as before."""
        room = last is not None and not last.closed and last.size < self._segment_bytes
        if last is not None and room and self._writing is None:
            self._writing = last.path.open("ab", buffering=0)
            return last
        number = max(last.number if last is not None else 0, self._state.segment) + 1
        path = segment_path(self._folder, number)
        stream = path.open("ab", buffering=0)
        before, self._writing = self._writing, stream
        if before is not None:
            with suppress(OSError):
                if self._fsync == "segment":
                    os.fsync(before.fileno())
            before.close()
        if self._fsync != "never":
            sync_folder(self._folder)
        one = Segment(number, path, 0, 0)
        if not self._segments:
            self._state = msgspec.structs.replace(self._state, segment=number, offset=0)
        self._segments.append(one)
        return one

    def _take_back(self, stream: BinaryIO, last: Segment) -> None:
        """A frame was written in part. What cannot be cut off now is cut off when the spool is next
        opened; until then nothing goes behind it."""
        try:
            stream.truncate(last.size)
        except OSError:
            with suppress(OSError):
                stream.close()
            self._writing, last.closed = None, True

    def _shrink(self, more: int) -> None:
        """Drop the oldest segments until ``more`` bytes have room."""
        while self._segments and self.used_bytes + more > self._most_bytes:
            first = self._segments[0]
            self._drop_first(dropped=first.samples - first.done)

    def _drop_first(self, *, dropped: int) -> None:
        first = self._segments[0]
        following = self._segments[1].number if len(self._segments) > 1 else first.number + 1
        self._note(segment=following, offset=0, dropped=dropped, last_ms=first.last_ms)
        self._segments.popleft()
        if self._reading is not None and self._reading[0] == first.number:
            self._reading[1].close()
            self._reading = None
        if not self._segments and self._writing is not None:
            self._writing.close()
            self._writing = None
        with suppress(OSError):  # else it goes when the spool is next opened
            first.path.unlink(missing_ok=True)

    # Reading

    def _stream(self, one: Segment) -> BinaryIO:
        if self._reading is None or self._reading[0] != one.number:
            if self._reading is not None:
                self._reading[1].close()
            self._reading = (one.number, one.path.open("rb", buffering=0))
        return self._reading[1]

    def _advance(
        self, one: Segment, header: Header, outcome: Literal["sent", "rejected", "dropped"]
    ) -> None:
        self._note(
            segment=one.number,
            offset=self._state.offset + header.frame_bytes,
            last_ms=header.time_ms,
            **{outcome: header.samples},
        )
        one.done += header.samples

    def _note(
        self,
        *,
        segment: int | None = None,
        offset: int | None = None,
        last_ms: int = 0,
        sent: int = 0,
        rejected: int = 0,
        dropped: int = 0,
    ) -> None:
        """Move the cursor and count; kept on disk where that takes it. Where it does not, a restart
        sends some batches again, which a receiver knows already."""
        was = self._state
        self._state = SpoolState(
            segment=was.segment if segment is None else segment,
            offset=was.offset if offset is None else offset,
            sent=was.sent + sent,
            rejected=was.rejected + rejected,
            dropped=was.dropped + dropped,
            last_ms=max(was.last_ms, last_ms),
        )
        with suppress(OSError):
            self._keep_state()

    def _keep_state(self) -> None:
        body, path = msgspec.json.encode(self._state), self._folder / _STATE
        if self._fsync != "never":
            write_atomically(path, body)
            return
        beside = path.with_suffix(".new")
        beside.write_bytes(body)
        beside.replace(path)


def open_slot(
    folder: Path,
    *,
    most_bytes: int,
    segment_bytes: int,
    fsync: Fsync,
    slots: int = _MAX_SLOTS,
) -> tuple[int, Spool]:
    """The first spool below ``folder`` that no other process has, and its number.

    A process that takes over another's number takes over what that one did not get rid of.

    Raises:
        OSError: the folder cannot be used, or has no free number.
    """
    for number in range(slots):
        try:
            spool = Spool(
                folder / str(number),
                most_bytes=most_bytes,
                segment_bytes=segment_bytes,
                fsync=fsync,
            )
        except BlockingIOError:
            continue
        return number, spool
    raise OSError(errno.EBUSY, f"{slots} processes use it already", str(folder))
