from __future__ import annotations

import msgspec
from hypothesis import given
from hypothesis import strategies as st

from gpu_worker.telling import RollTelling, told_spans
from gpu_worker.waterfall import Span, Waterfall
from tests.fakes.clock import ManualClock
from wire.workers import MAX_BOOT_SPANS, BootSpan, BootSpans, WorkerRoll


def roll(clock: ManualClock) -> Waterfall:
    made = Waterfall.begin("roll", model="chat", clock=clock, wall=lambda: 5_000.0)
    made.revision = "b" * 64
    return made


def test_a_step_that_is_under_way_is_told_as_far_as_it_has_come() -> None:
    clock = ManualClock(10.0)
    telling = RollTelling(roll(clock), previous="a" * 64)
    with telling.waterfall.step("pull"):
        clock.advance(1.5)
        told = telling.told()
    assert told == WorkerRoll(
        revision="b" * 64,
        previous="a" * 64,
        began=5_000.0,
        outcome="running",
        step="pull",
        spans=(BootSpan("pull", 0.0, 1_500.0),),
    )
    telling.serves()
    over = telling.told()
    assert (over.outcome, over.step, over.spans) == ("serves", "", told.spans)


def test_a_roll_that_serves_has_not_failed() -> None:
    """What was left lying about after it could not be tidied up."""
    telling = RollTelling(Waterfall())
    telling.serves()
    telling.failed("the disk is full")
    assert (telling.outcome, telling.reason) == ("serves", "")


def test_why_it_failed_is_told_once() -> None:
    telling = RollTelling(Waterfall())
    telling.failed("out of memory")
    telling.failed("cut off")
    assert (telling.told().outcome, telling.told().reason) == ("failed", "out of memory")


def test_what_is_under_way_is_not_one_of_too_many() -> None:
    clock = ManualClock(0.0)
    telling = RollTelling(roll(clock))
    for number in range(MAX_BOOT_SPANS + 9):
        telling.waterfall.add(f"step {number}", number, 1)
    with telling.waterfall.step("drain"):
        told = telling.told()
    assert len(told.spans) == MAX_BOOT_SPANS
    assert told.spans[0].name == "drain"


TIMES = st.floats(0, 1e15)


@given(
    st.lists(st.tuples(st.text(max_size=200), TIMES, TIMES), max_size=60),
    st.text(max_size=900),
    st.text(max_size=90),
)
def test_whatever_a_waterfall_holds_a_heartbeat_takes_it(
    steps: list[tuple[str, float, float]], reason: str, revision: str
) -> None:
    telling = RollTelling(Waterfall(revision=revision), previous=revision)
    for name, start_ms, length_ms in steps:
        telling.waterfall.add(name, start_ms, length_ms)
    telling.failed(reason)
    told = telling.told()
    encoded = msgspec.json.encode(told)
    assert msgspec.json.decode(encoded, type=WorkerRoll) == told


@given(st.lists(st.builds(Span, name=st.text(max_size=200), start_ms=TIMES, length_ms=TIMES)))
def test_spans_are_bounded(spans: list[Span]) -> None:
    told = told_spans(spans)
    assert len(told) == min(len(spans), MAX_BOOT_SPANS)
    assert msgspec.json.decode(msgspec.json.encode(told), type=BootSpans) == told
