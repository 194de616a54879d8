from __future__ import annotations

import errno
import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
)

from wire.telemetry.frames import HEADER_BYTES
from wire.telemetry.spool import Batch, Spool, open_slot

CAP = 4_000
SEGMENT = 600


def opened(folder: Path, cap: int = CAP) -> Spool:
    return Spool(folder, most_bytes=cap, segment_bytes=SEGMENT, fsync="never")


def drained(spool: Spool) -> list[bytes]:
    """What waits, oldest first; acknowledged."""
    payloads = []
    while (batch := spool.peek()) is not None:
        payloads.append(batch.payload)
        assert spool.acknowledge(batch, "sent")
    return payloads


def segments(folder: Path) -> list[Path]:
    return sorted(folder.glob("*.segment"))


class SpoolMachine(RuleBasedStateMachine):
    """A spool and what must be in it: payloads are numbers, so order and loss show."""

    def __init__(self) -> None:
        super().__init__()
        self.folder = Path(tempfile.mkdtemp(prefix="hw-spool-"))
        self.waiting: list[tuple[bytes, int]] = []
        self.counts = {"sent": 0, "rejected": 0, "dropped": 0}
        self.appended = self.torn = 0
        self.number = 0
        self.spool: Spool

    @initialize()
    def begin(self) -> None:
        self.spool = opened(self.folder)

    @rule(size=st.integers(8, 900), samples=st.integers(1, 50))
    def append(self, size: int, samples: int) -> None:
        self.number += 1
        payload = self.number.to_bytes(8, "big") + bytes(size - 8)
        assert self.spool.append(payload, samples, 1_000 + self.number)
        self.appended += samples
        self.waiting.append((payload, samples))
        self._note_drops()

    @rule(outcome=st.sampled_from(["sent", "rejected"]))
    def acknowledge(self, outcome: str) -> None:
        batch = self.spool.peek()
        if batch is None:
            assert not self.waiting
            return
        assert (batch.payload, batch.samples) == self.waiting.pop(0)
        assert self.spool.acknowledge(batch, outcome)  # type: ignore[arg-type]
        assert not self.spool.acknowledge(batch, "sent"), "a second time it is not there"
        self.counts[outcome] += batch.samples

    @rule()
    def crash(self) -> None:
        """Nothing is closed in order; the files are as they are."""
        copy = Path(tempfile.mkdtemp(prefix="hw-spool-"))
        shutil.copytree(self.folder, copy, dirs_exist_ok=True)
        self._end()
        self.folder, self.spool = copy, opened(copy)

    @precondition(lambda self: self.waiting)
    @rule(data=st.data())
    def crash_in_an_append(self, data: st.DataObject) -> None:
        """Of what is in the newest segment and not acknowledged, only a part reached the disk."""
        newest = segments(self.folder)[-1]
        self.spool.close()
        size, state = newest.stat().st_size, self.spool.state
        floor = state.offset if state.segment == int(newest.stem) else 0
        cut = data.draw(st.integers(floor, size), label="cut")
        os.truncate(newest, cut)
        while size > cut:
            payload, samples = self.waiting.pop()
            size -= HEADER_BYTES + len(payload)
            self.torn += samples
        self.spool = opened(self.folder)
        assert newest.stat().st_size == size

    @rule(cap=st.sampled_from([2_000, CAP]))
    def reopen_with_another_cap(self, cap: int) -> None:
        self.spool.close()
        self.spool = opened(self.folder, cap)
        self._note_drops()
        if cap != CAP:
            self.spool.close()
            self.spool = opened(self.folder)

    @invariant()
    def everything_is_accounted_for(self) -> None:
        if not hasattr(self, "spool"):
            return
        state = self.spool.state
        assert {name: getattr(state, name) for name in self.counts} == self.counts
        assert self.spool.pending == sum(samples for _, samples in self.waiting)
        gone = sum(self.counts.values()) + self.torn
        assert self.appended == gone + self.spool.pending
        assert self.spool.used_bytes <= CAP
        assert sum(one.stat().st_size for one in segments(self.folder)) <= CAP

    def _note_drops(self) -> None:
        """The oldest go, and no more of them than a segment has over the cap."""
        dropped = self.spool.state.dropped - self.counts["dropped"]
        while dropped > 0:
            dropped -= self.waiting.pop(0)[1]
        assert dropped == 0
        self.counts["dropped"] = self.spool.state.dropped

    def _end(self) -> None:
        self.spool.close()
        shutil.rmtree(self.folder)

    def teardown(self) -> None:
        if hasattr(self, "spool"):
            rest = [payload for payload, _ in self.waiting]
            assert drained(self.spool) == rest
            self._end()


TestSpool = SpoolMachine.TestCase
TestSpool.settings = settings(max_examples=40, stateful_step_count=30, deadline=None)


def test_the_oldest_go_first_and_stay_counted(tmp_path: Path) -> None:
    spool = opened(tmp_path)
    for number in range(100):
        spool.append(bytes([number]) * 100, 10, number)
    dropped, pending = spool.state.dropped, spool.pending
    assert (dropped > 0, dropped + pending) == (True, 1_000)
    spool.close()
    again = opened(tmp_path)
    assert (again.state.dropped, again.pending) == (dropped, pending)
    assert [payload[0] for payload in drained(again)] == list(range(dropped // 10, 100))
    again.close()


def test_a_batch_that_was_dropped_under_way_counts_once(tmp_path: Path) -> None:
    spool = opened(tmp_path)
    spool.append(b"first" * 20, 10, 1)
    batch = spool.peek()
    assert batch is not None
    for number in range(50):
        spool.append(bytes(200), 1, number + 2)
    assert not spool.acknowledge(batch, "sent")
    assert spool.state.sent == 0
    assert spool.state.dropped + spool.pending == 60
    spool.close()


def test_what_is_larger_than_the_spool_is_dropped(tmp_path: Path) -> None:
    spool = opened(tmp_path)
    spool.append(b"kept", 1, 1)
    assert not spool.append(bytes(CAP), 7, 2)
    assert spool.state.dropped == 7
    assert drained(spool) == [b"kept"]
    spool.close()


def test_damage_within_a_payload_costs_that_batch(tmp_path: Path) -> None:
    spool = opened(tmp_path)
    for number in range(3):
        spool.append(bytes([number]) * 50, 5, number)
    spool.close()
    with segments(tmp_path)[0].open("r+b") as stream:
        stream.seek(HEADER_BYTES * 2 + 50 + 10)
        stream.write(b"\xff")
    spool = opened(tmp_path)
    assert [payload[0] for payload in drained(spool)] == [0, 2]
    assert (spool.state.sent, spool.state.dropped) == (10, 5)
    spool.close()


def test_damage_within_a_header_costs_the_rest_of_its_segment_only(tmp_path: Path) -> None:
    spool = opened(tmp_path)
    for number in range(20):
        spool.append(bytes([number]) * 100, 1, number)
    first = segments(tmp_path)[0]
    held = first.stat().st_size // (HEADER_BYTES + 100)
    with first.open("r+b") as stream:
        stream.seek(HEADER_BYTES + 100)
        stream.write(b"\xff")
    assert [payload[0] for payload in drained(spool)] == [0, *range(held, 20)]
    assert spool.state.dropped == held - 1
    spool.close()


def test_what_was_cut_off_at_opening_is_told(tmp_path: Path) -> None:
    spool = opened(tmp_path)
    spool.append(b"whole", 1, 1)
    spool.close()
    with segments(tmp_path)[0].open("ab") as stream:
        stream.write(b"half")
    again = opened(tmp_path)
    assert (again.cut_bytes, drained(again)) == (4, [b"whole"])
    again.close()


def test_a_full_disk_leaves_the_spool_as_it_was(tmp_path: Path) -> None:
    """With a real file system's answer: a limit on file sizes, in a process of its own."""
    program = f"""
import resource, signal
from pathlib import Path
from wire.telemetry.spool import Spool
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
spool = Spool(Path({str(tmp_path)!r}), most_bytes=1 << 20, segment_bytes=1 << 18, fsync="never")
assert spool.append(b"a" * 400, 4, 1)
resource.setrlimit(resource.RLIMIT_FSIZE, (500, resource.RLIM_INFINITY))
for _ in range(2):
    try:
        spool.append(b"b" * 400, 4, 2)
        raise SystemExit("it fitted")
    except OSError:
        pass
resource.setrlimit(resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY,) * 2)
assert spool.append(b"c" * 400, 4, 3)
assert spool.pending == 8
spool.close()
"""
    subprocess.run([sys.executable, "-c", program], check=True, timeout=50)
    spool = opened(tmp_path)
    assert drained(spool) == [b"a" * 400, b"c" * 400]
    spool.close()


def test_a_segment_that_is_gone_is_given_up(tmp_path: Path) -> None:
    spool = opened(tmp_path)
    for number in range(10):
        spool.append(bytes([number]) * 300, 1, number)
    segments(tmp_path)[0].unlink()
    with pytest.raises(FileNotFoundError):
        spool.peek()
    spool.give_up()
    rest = [payload[0] for payload in drained(spool)]
    assert rest == list(range(10 - len(rest), 10))
    assert spool.state.dropped == 10 - len(rest) > 0
    spool.close()


def test_one_process_has_a_folder_and_others_take_the_next(tmp_path: Path) -> None:
    def slot() -> tuple[int, Spool]:
        return open_slot(tmp_path, most_bytes=CAP, segment_bytes=SEGMENT, fsync="never")

    (first, one), (second, two) = slot(), slot()
    assert (first, second) == (0, 1)
    with pytest.raises(BlockingIOError):
        opened(tmp_path / "0")
    one.append(b"left", 3, 1)
    one.close()
    third, three = slot()
    assert (third, drained(three)) == (0, [b"left"])
    for spool in (two, three):
        spool.close()


def test_slots_are_bounded(tmp_path: Path) -> None:
    def slot() -> tuple[int, Spool]:
        return open_slot(tmp_path, most_bytes=CAP, segment_bytes=SEGMENT, fsync="never", slots=1)

    _, spool = slot()
    with pytest.raises(OSError) as caught:
        slot()
    assert caught.value.errno == errno.EBUSY
    spool.close()


@pytest.mark.parametrize("fsync", ["always", "segment", "never"])
def test_every_policy_keeps_what_was_spooled(tmp_path: Path, fsync: str) -> None:
    spool = Spool(tmp_path, most_bytes=CAP, segment_bytes=200, fsync=fsync)  # type: ignore[arg-type]
    for number in range(8):
        spool.append(bytes([number]) * 100, 1, number)
    first = spool.peek()
    assert isinstance(first, Batch)
    spool.acknowledge(first, "rejected")
    spool.close()
    again = opened(tmp_path)
    assert [payload[0] for payload in drained(again)] == list(range(1, 8))
    assert (again.state.rejected, again.newest_ms) == (1, 7)
    again.close()


def test_a_state_that_is_none_sends_again_rather_than_lose(tmp_path: Path) -> None:
    spool = opened(tmp_path)
    spool.append(b"a", 1, 1)
    drained(spool)
    spool.append(b"b", 1, 2)
    spool.close()
    (tmp_path / "state").write_bytes(b"\x00\xff")
    again = opened(tmp_path)
    assert drained(again) == [b"a", b"b"]
    again.close()


@pytest.mark.parametrize("offset", [-3, -(10**30), 10**30])
def test_a_cursor_that_is_no_place_is_not_sought_for(tmp_path: Path, offset: int) -> None:
    spool = opened(tmp_path)
    spool.append(b"kept", 1, 1_000)
    spool.close()
    (tmp_path / "state").write_text(f'{{"segment":1,"offset":{offset}}}')
    again = opened(tmp_path)
    assert drained(again) == [b"kept"]
    assert again.state.dropped == 0
    again.close()


def test_counts_that_are_less_than_none_are_damage(tmp_path: Path) -> None:
    spool = opened(tmp_path)
    spool.append(b"kept", 1, 1_000)
    spool.close()
    (tmp_path / "state").write_text('{"segment":1,"sent":-5}')
    again = opened(tmp_path)
    assert (again.state.sent, again.pending) == (0, 1)
    again.close()
