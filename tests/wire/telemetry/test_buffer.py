from __future__ import annotations

import errno
import tempfile
from pathlib import Path

from hypothesis import given, settings
from hypothesis import strategies as st

from tests.fakes.clock import ManualClock
from wire.telemetry.buffer import Buffer
from wire.telemetry.spool import Batch, Spool

MEMORY = 1_000


class Disk:
    """Opens a spool that takes nothing while the disk is bad."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.bad = False
        self.opened = 0

    def __call__(self) -> Spool:
        self.opened += 1
        self.check()
        return _OnDisk(self)

    def check(self) -> None:
        if self.bad:
            raise OSError(errno.ENOSPC, "No space left on device", str(self.folder))


class _OnDisk(Spool):
    def __init__(self, disk: Disk) -> None:
        self._disk = disk
        super().__init__(disk.folder, most_bytes=100_000, segment_bytes=4_000, fsync="never")

    def append(self, payload: bytes, samples: int, time_ms: int) -> bool:
        self._disk.check()
        return super().append(payload, samples, time_ms)

    def peek(self) -> Batch | None:
        self._disk.check()
        return super().peek()


def rest(buffer: Buffer) -> list[int]:
    """The first bytes of what waits, in order; acknowledged."""
    found = []
    while (batch := buffer.peek()) is not None:
        found.append(batch.payload[0])
        buffer.acknowledge(batch, "sent")
    return found


def test_a_full_disk_is_waited_out_in_memory_and_order_stays(tmp_path: Path) -> None:
    disk, clock = Disk(tmp_path), ManualClock()
    buffer = Buffer(disk, MEMORY, clock=clock)
    buffer.append(b"\x01", 1, 1)
    disk.bad = True
    for number in (2, 3):
        buffer.append(bytes([number]), 1, number)
    figures = buffer.figures()
    assert (figures.pending, figures.memory_bytes) == (3, 2)
    assert figures.problem == "cannot write the spool: No space left on device"
    disk.bad = False
    clock.advance(30)
    buffer.append(b"\x04", 1, 4)
    figures = buffer.figures()
    assert (figures.pending, figures.memory_bytes, figures.problem) == (4, 0, "")
    assert rest(buffer) == [1, 2, 3, 4]
    buffer.close()


def test_memory_is_bounded_and_its_drops_are_counted(tmp_path: Path) -> None:
    disk, clock = Disk(tmp_path), ManualClock()
    disk.bad = True
    buffer = Buffer(disk, MEMORY, clock=clock)
    for number in range(30):
        buffer.append(bytes([number]) * 100, 7, number + 1)
    figures = buffer.figures()
    assert (figures.memory_bytes, figures.pending) == (MEMORY, 70)
    assert (figures.counts.dropped, figures.oldest_ms) == (140, 21)
    assert rest(buffer) == list(range(20, 30))
    assert buffer.figures().counts.sent == 70
    buffer.close()


def test_counts_of_memory_reach_the_disk(tmp_path: Path) -> None:
    disk, clock = Disk(tmp_path), ManualClock()
    disk.bad = True
    buffer = Buffer(disk, MEMORY, clock=clock)
    buffer.append(bytes(2_000), 5, 1)
    buffer.note_dropped(2)
    disk.bad = False
    clock.advance(30)
    buffer.append(b"\x01", 1, 2)
    buffer.close()
    again = Buffer(disk, MEMORY, clock=clock)
    assert again.figures().counts.dropped == 7
    assert again.newest_ms == 2
    again.close()


def test_what_is_in_memory_at_the_end_is_put_on_disk_where_that_takes_it(tmp_path: Path) -> None:
    disk = Disk(tmp_path)
    buffer = Buffer(disk, MEMORY)
    disk.bad = True
    buffer.append(b"\x01", 1, 1)
    disk.bad = False
    buffer.close()
    again = Buffer(disk, MEMORY)
    assert rest(again) == [1]
    again.close()


def test_a_bad_disk_is_not_asked_all_the_time(tmp_path: Path) -> None:
    disk, clock = Disk(tmp_path), ManualClock()
    disk.bad = True
    buffer = Buffer(disk, MEMORY, clock=clock)
    for number in range(10):
        buffer.append(b"\x01", 1, number)
        clock.advance(1)
    assert disk.opened == 1
    clock.advance(30)
    buffer.append(b"\x01", 1, 11)
    assert disk.opened == 2
    buffer.close()


def test_a_disk_that_cannot_be_read_costs_a_segment_not_the_tier(tmp_path: Path) -> None:
    disk, clock = Disk(tmp_path), ManualClock()
    buffer = Buffer(disk, MEMORY, clock=clock)
    buffer.append(b"\x01", 5, 1)
    disk.bad = True
    assert buffer.peek() is None
    assert buffer.figures().counts.dropped == 5
    buffer.close()


def test_a_batch_that_went_to_disk_while_it_was_sent_is_sent_again(tmp_path: Path) -> None:
    disk, clock = Disk(tmp_path), ManualClock()
    disk.bad = True
    buffer = Buffer(disk, MEMORY, clock=clock)
    buffer.append(b"\x01", 5, 1)
    under_way = buffer.peek()
    assert under_way is not None
    disk.bad = False
    clock.advance(30)
    buffer.append(b"\x02", 5, 2)
    buffer.acknowledge(under_way, "sent")
    assert rest(buffer) == [1, 2]
    assert buffer.figures().counts.sent == 10
    buffer.close()


@given(st.lists(st.sampled_from(["append", "ack", "bad", "good"]), max_size=60))
@settings(max_examples=40, deadline=None)
def test_nothing_is_ever_unaccounted_for(steps: list[str]) -> None:
    with tempfile.TemporaryDirectory() as folder:
        disk, clock = Disk(Path(folder)), ManualClock()
        buffer, appended = Buffer(disk, MEMORY, clock=clock), 0
        for number, step in enumerate(steps):
            clock.advance(40)
            if step == "append":
                buffer.append(bytes(300), 3, number + 1)
                appended += 3
            elif step == "ack" and (batch := buffer.peek()) is not None:
                buffer.acknowledge(batch, "sent")
            else:
                disk.bad = step == "bad"
            figures = buffer.figures()
            counts = figures.counts
            told = counts.sent + counts.rejected + counts.dropped + figures.pending
            assert told == appended
            assert figures.memory_bytes <= MEMORY
        buffer.close()
