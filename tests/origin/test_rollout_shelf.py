"""Records in a store: read, written on condition, and taken over when nobody writes."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

import pytest

from origin.rollout_config import RolloutConfig
from origin.rollout_records import ChannelRecord
from origin.rollout_shelf import Shelf
from origin.rollout_state import Rollout
from origin.store import ObjectStore
from tests.fakes.clock import ManualClock
from tests.fakes.objects import MemoryObjects
from wire.channel import pointer_to
from wire.errors import ConflictError

CONFIG = RolloutConfig(lease_s=9.0)
RUNNING = Rollout(
    id="1", model="chat", channel="stable", revision="b" * 64, previous="", started=1.0
)


@dataclass(slots=True)
class Bucket:
    clock: ManualClock = field(default_factory=ManualClock)
    objects: MemoryObjects = field(init=False)

    def __post_init__(self) -> None:
        self.objects = MemoryObjects(self.clock)

    def shelf(self) -> Shelf:
        """Another origin on the same bucket."""
        store = ObjectStore(self.objects)
        return Shelf(store, CONFIG, clock=self.clock, ticking=self.clock)


@pytest.fixture
def bucket() -> Bucket:
    return Bucket()


def running(record: ChannelRecord) -> ChannelRecord:
    return record.with_rollout(RUNNING, CONFIG)


async def test_what_one_origin_writes_another_one_reads(bucket: Bucket) -> None:
    one, two = bucket.shelf(), bucket.shelf()
    held = one.holding("chat", "stable")
    await one.save(held, running(held.record), take=True)
    assert held.record.driver == one.name
    await two.read()
    (seen,) = two.all()
    assert seen.record == held.record
    assert two.find("chat", "stable") is seen
    assert two.find("chat", "beta") is None


async def test_of_two_that_write_at_once_one_reads_what_the_other_wrote(bucket: Bucket) -> None:
    one, two = bucket.shelf(), bucket.shelf()
    held = one.holding("chat", "stable")
    await one.save(held, running(held.record), take=True)
    late = two.holding("chat", "stable")
    with pytest.raises(ConflictError):
        await two.save(late, late.record, take=True)
    assert late.record == held.record
    await two.save(late, late.record, take=True)
    with pytest.raises(ConflictError):
        await one.save(held, held.record)
    assert held.record.driver == two.name


async def test_a_rollout_is_taken_over_only_after_a_silence(bucket: Bucket) -> None:
    one, two = bucket.shelf(), bucket.shelf()
    held = one.holding("chat", "stable")
    await one.save(held, running(held.record), take=True)
    assert await one.mine(held)
    await two.read()
    (seen,) = two.all()
    for _ in range(4):
        bucket.clock.advance(CONFIG.lease_s - 1)
        await one.save(held, held.record)
        await two.read()
        assert not await two.mine(seen)
    bucket.clock.advance(CONFIG.lease_s)
    assert await two.mine(seen)
    with pytest.raises(ConflictError):
        await one.save(held, held.record)
    assert not await one.mine(held)


async def test_whoever_is_overtaken_in_taking_over_does_not_drive(bucket: Bucket) -> None:
    one, two, three = bucket.shelf(), bucket.shelf(), bucket.shelf()
    held = one.holding("chat", "stable")
    await one.save(held, running(held.record), take=True)
    for late in (two, three):
        await late.read()
    bucket.clock.advance(CONFIG.lease_s)
    assert await two.mine(two.all()[0])
    assert not await three.mine(three.all()[0])


async def test_a_folder_has_one_origin_which_drives_at_once(tmp_path: Path) -> None:
    clock = ManualClock()

    def shelf() -> Shelf:
        store = ObjectStore(str(tmp_path / "store"))
        return Shelf(store, CONFIG, clock=clock, ticking=clock)

    one = shelf()
    held = one.holding("chat", "stable")
    await one.save(held, running(held.record), take=True)
    again = shelf()
    await again.read()
    assert await again.mine(again.all()[0])


async def test_signs_of_life_are_due_well_before_the_lease_ends(bucket: Bucket) -> None:
    shelf = bucket.shelf()
    held = shelf.holding("chat", "stable")
    await shelf.save(held, held.record)
    assert not shelf.due(held)
    bucket.clock.advance(CONFIG.lease_s / 3)
    assert shelf.due(held)


async def test_a_pointer_is_noted_once_by_whoever_is_first(bucket: Bucket) -> None:
    one, two = bucket.shelf(), bucket.shelf()
    pointer = pointer_to("chat", "stable", "a" * 64, sequence=1)
    for shelf in (one, two, one):
        await shelf.note(pointer)
    assert [len(shelf.all()[0].record.moves) for shelf in (one, two)] == [1, 1]
    assert one.all()[0].record.beat == 1


async def test_running_records_are_not_read_at_every_look(bucket: Bucket) -> None:
    one, two = bucket.shelf(), bucket.shelf()
    held = one.holding("chat", "stable")
    await one.save(held, running(held.record), take=True)
    await two.read()
    await one.save(held, held.record)
    (seen,) = two.all()
    await two.read(fresh=False)
    assert seen.record.beat == 1
    bucket.clock.advance(CONFIG.tick_s)
    await two.read(fresh=False)
    assert seen.record.beat == 2
    await one.save(held, held.record)
    await two.read()
    assert seen.record.beat == 3
