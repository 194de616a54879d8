"""A channel's record: what it keeps, and which revision is the one before."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace

from origin.errors import StoreError
from origin.rollout_config import RolloutConfig
from origin.rollout_figures import Window
from origin.rollout_records import ChannelRecord, Kind, decode_record, encode_record
from origin.rollout_state import Rollout
from wire.channel import Canary, pointer_to

CONFIG = RolloutConfig(keep_rollouts=3, keep_moves=5)
EMPTY = ChannelRecord(model="chat", channel="stable")
A, B, C, D = (digit * 64 for digit in "abcd")


def rollout(id: str, **changes: object) -> Rollout:  # noqa: A002
    made = Rollout(id=id, model="chat", channel="stable", revision=B, previous=A, started=1.0)
    return replace(made, **changes)


def moved(*steps: tuple[str, Kind]) -> ChannelRecord:
    record, config = EMPTY, RolloutConfig()
    for number, (revision, kind) in enumerate(steps, 1):
        pointer = pointer_to("chat", "stable", revision, sequence=number)
        record = record.with_pointer(pointer, config, at=float(number), kind=kind)
    return record


def test_a_rollout_that_is_over_goes_to_the_others_without_what_only_its_steps_needed() -> None:
    running = rollout("1", stage="observing", served=frozenset({"w"}), faults={"v": "hung"})
    record = EMPTY.with_rollout(running, CONFIG)
    assert record.current is record.latest is running
    ended = replace(running, stage="aborted", reason="why", trial=Window(answered=3))
    record = record.with_rollout(ended, CONFIG)
    assert record.current is None
    assert record.latest == rollout("1", stage="aborted", reason="why", trial=Window(answered=3))


def test_the_past_is_bounded_and_the_newest_comes_first() -> None:
    record = EMPTY
    for number in range(5):
        record = record.with_rollout(rollout(str(number), stage="done"), CONFIG)
    assert [one.id for one in record.past] == ["4", "3", "2"]
    for number in range(1, 9):
        pointer = pointer_to("chat", "stable", A, sequence=number)
        record = record.with_pointer(pointer, CONFIG, at=1.0)
    assert [move.sequence for move in record.moves] == [4, 5, 6, 7, 8]


def test_a_pointer_is_noted_once_and_a_reason_is_added_but_not_lost() -> None:
    canary = Canary(revision=B, percent=10)
    pointer = pointer_to("chat", "stable", A, sequence=1, canary=canary)
    found = EMPTY.with_pointer(pointer, CONFIG, at=1.0)
    assert found.with_pointer(pointer, CONFIG, at=2.0) is found
    told = found.with_pointer(pointer, CONFIG, at=3.0, kind="roll", who="ann", why="new")
    (move,) = told.moves
    assert (move.canary, move.percent, move.kind, move.who, move.why) == (
        B, 10, "roll", "ann", "new",
    )  # fmt: skip
    assert told.with_pointer(pointer, CONFIG, at=4.0) is told
    assert told.with_pointer(pointer, CONFIG, at=4.0, kind="abort") is told


@pytest.mark.parametrize(
    ("moves", "before"),
    [
        ((), ""),
        (((A, "found"),), ""),
        (((A, "found"), (B, "roll")), A),
        (((A, "found"), (A, "roll"), (B, "roll")), A),
        (((A, "found"), (B, "roll"), (A, "abort")), ""),
        (((A, "found"), (B, "roll"), (C, "roll"), (B, "abort")), A),
        (((A, "found"), (B, "roll"), (C, "roll"), (B, "rollback")), A),
        (((A, "roll"), (B, "roll"), (C, "roll"), (A, "rollback")), ""),
        (((A, "roll"), (B, "roll"), (A, "roll")), B),
        (((A, "roll"), (B, "roll"), (A, "roll"), (C, "roll"), (A, "rollback")), B),
        (((A, "roll"), (B, "roll"), (C, "roll"), (D, "rollback")), C),
    ],
)
def test_the_revision_before(moves: tuple[tuple[str, Kind], ...], before: str) -> None:
    assert moved(*moves).before() == before


@given(st.lists(st.tuples(st.sampled_from("abcd"), st.sampled_from(["roll", "found"])), max_size=6))
def test_rolling_back_step_by_step_is_the_way_that_was_come(
    steps: list[tuple[str, Kind]],
) -> None:
    line: list[str] = []
    steps = [(digit * 64, kind) for digit, kind in steps]
    for revision, _ in steps:
        if not line or line[-1] != revision:
            line.append(revision)
    record, went = moved(*steps), line[-1:]
    while back := record.before():
        went.append(back)
        sequence = record.moves[-1].sequence + 1
        pointer = pointer_to("chat", "stable", back, sequence=sequence)
        record = record.with_pointer(pointer, RolloutConfig(), at=1.0, kind="rollback")
    assert went == line[::-1]


def test_a_record_is_read_as_it_was_written() -> None:
    record = moved((A, "found"), (B, "roll")).with_rollout(
        rollout("1", served=frozenset({"w"}), trial=Window(answered=1, first_token=(1, 2))), CONFIG
    )
    assert decode_record(encode_record(record), "chat", "stable") == record


@pytest.mark.parametrize(
    "data",
    [b"", b"[]", b"{", b'{"model":"chat"}', b'{"model":"chat","channel":"beta"}', b"[" * 10_000],
)
def test_a_damaged_record_is_refused(data: bytes) -> None:
    with pytest.raises(StoreError, match="record of chat@stable"):
        decode_record(data, "chat", "stable")
