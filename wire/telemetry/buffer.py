"""Where batches wait: in the spool, or in memory while the disk takes nothing.

Nothing here raises for a disk that is full or broken: metrics are lost then, counted, and the tier
goes on. What is in memory is always newer than what is in the spool, and goes there first as soon
as the disk takes something again. Thread-safe; all but :meth:`Buffer.figures` may wait for a disk.
"""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

import msgspec
import structlog

from wire.telemetry.spool import Batch, Spool, SpoolState

_log = structlog.get_logger("telemetry")
_MEMORY = 0
"""In place of a segment's number."""


@dataclass(frozen=True, slots=True, kw_only=True)
class BufferFigures:
    """Samples and bytes."""

    counts: SpoolState
    pending: int
    disk_bytes: int
    memory_bytes: int
    oldest_ms: int
    """When the oldest batch that waits was made; 0: none waits."""
    problem: str
    """What is wrong with the disk; empty while all is well."""


class Buffer:
    """Args:
    open_spool: opens the spool. Raises ``OSError``; it is tried again later.
    memory_bytes: the most that waits in memory.
    clock: monotonic seconds.
    """

    def __init__(
        self,
        open_spool: Callable[[], Spool],
        memory_bytes: int,
        *,
        retry_s: float = 30.0,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._open_spool = open_spool
        self._most = memory_bytes
        self._retry_s = retry_s
        self._clock = clock
        self._mutex = threading.Lock()
        self._spool: Spool | None = None
        self._memory: deque[Batch] = deque()
        self._used = 0
        self._number = 0
        self._extra = SpoolState()
        """Counts that the spool was not told yet."""
        self._problem = ""
        self._try_at = 0.0
        with self._mutex:
            self._opened()
            self._figures = self._count()

    def append(self, payload: bytes, samples: int, time_ms: int) -> None:
        """Keep a batch; on disk, or else in memory."""
        with self._mutex:
            if not (self._flushed() and self._stored(Batch(payload, samples, time_ms))):
                self._number += 1
                self._memory.append(Batch(payload, samples, time_ms, _MEMORY, self._number))
                self._used += len(payload)
                while self._used > self._most:
                    self._extra = _plus(self._extra, dropped=self._forget().samples)
            self._figures = self._count()

    def peek(self) -> Batch | None:
        """The oldest batch."""
        with self._mutex:
            batch = self._first_on_disk()
            self._figures = self._count()
            return batch or (self._memory[0] if self._memory else None)

    def acknowledge(self, batch: Batch, outcome: Literal["sent", "rejected"]) -> None:
        """The receiver has said its word on the batch from :meth:`peek`."""
        with self._mutex:
            if batch.segment != _MEMORY:
                if self._spool is not None:
                    self._spool.acknowledge(batch, outcome)
            elif self._memory and self._memory[0].offset == batch.offset:
                self._forget()
                self._extra = _plus(self._extra, **{outcome: batch.samples})
            self._figures = self._count()

    def note_dropped(self, samples: int) -> None:
        """Count samples that could not be kept."""
        with self._mutex:
            self._extra = _plus(self._extra, dropped=samples)
            self._figures = self._count()

    @property
    def newest_ms(self) -> int:
        """When the newest batch was made that earlier processes left."""
        with self._mutex:
            return self._spool.newest_ms if self._spool is not None else 0

    def figures(self) -> BufferFigures:
        """How it stood after the last call of any other method; never waits for the disk."""
        return self._figures

    def close(self) -> None:
        """Put what can be put on disk, and let go of it."""
        with self._mutex:
            self._try_at = 0.0
            self._flushed()
            if self._spool is not None:
                self._spool.close()

    def _count(self) -> BufferFigures:
        spool, extra = self._spool, self._extra
        state = spool.state if spool is not None else SpoolState()
        first_ms = self._memory[0].time_ms if self._memory else 0
        return BufferFigures(
            counts=_plus(state, sent=extra.sent, rejected=extra.rejected, dropped=extra.dropped),
            pending=(spool.pending if spool is not None else 0)
            + sum(batch.samples for batch in self._memory),
            disk_bytes=spool.used_bytes if spool is not None else 0,
            memory_bytes=self._used,
            oldest_ms=(spool.oldest_ms if spool is not None else 0) or first_ms,
            problem=self._problem,
        )

    def _first_on_disk(self) -> Batch | None:
        """The oldest batch in the spool; a segment that cannot be read is dropped."""
        spool = self._spool
        if spool is None:
            return None
        for _ in range(2):
            try:
                return spool.peek()
            except OSError as error:
                self._failed("read", error)
                spool.give_up()
        return None

    def _opened(self) -> Spool | None:
        """The spool, opened again where it is time to try."""
        if self._spool is None and self._clock() >= self._try_at:
            try:
                self._spool = self._open_spool()
            except OSError as error:
                self._failed("open", error)
            else:
                if self._spool.cut_bytes:
                    _log.warning("spool repaired", cut_bytes=self._spool.cut_bytes)
        return self._spool

    def _flushed(self) -> bool:
        """Whether nothing waits in memory: what did is on disk now."""
        if self._opened() is None or self._clock() < self._try_at:
            return False
        while self._memory:
            if not self._stored(self._memory[0]):
                return False
            self._forget()
        return True

    def _stored(self, batch: Batch) -> bool:
        assert self._spool is not None
        try:
            self._spool.append(batch.payload, batch.samples, batch.time_ms)
        except OSError as error:
            self._failed("write", error)
            return False
        if self._problem:
            _log.info("spool works again")
        self._problem, extra, self._extra = "", self._extra, SpoolState()
        self._spool.count(sent=extra.sent, rejected=extra.rejected, dropped=extra.dropped)
        return True

    def _forget(self) -> Batch:
        batch = self._memory.popleft()
        self._used -= len(batch.payload)
        return batch

    def _failed(self, what: str, error: OSError) -> None:
        problem = f"cannot {what} the spool: {error.strerror or error}"
        if problem != self._problem:
            _log.error("metrics wait in memory", error=problem, folder=error.filename)
        self._problem, self._try_at = problem, self._clock() + self._retry_s


def _plus(state: SpoolState, *, sent: int = 0, rejected: int = 0, dropped: int = 0) -> SpoolState:
    return msgspec.structs.replace(
        state,
        sent=state.sent + sent,
        rejected=state.rejected + rejected,
        dropped=state.dropped + dropped,
    )
