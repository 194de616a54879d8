from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from edge_tier.gateway.breaker import Breaker, BreakerConfig
from tests.fakes.clock import ManualClock

CONFIG = BreakerConfig(failures=3, open_s=1.0, max_open_s=4.0)


def opened(clock: ManualClock) -> Breaker:
    breaker = Breaker(CONFIG, clock)
    for _ in range(CONFIG.failures):
        assert breaker.take()
        breaker.failed()
    return breaker


def test_a_few_failures_in_a_row_open_it_and_a_success_forgets_them() -> None:
    breaker = Breaker(CONFIG, ManualClock())
    for _ in range(5):
        breaker.failed()
        breaker.failed()
        breaker.succeeded()
    assert breaker.state() == "closed"
    for _ in range(3):
        breaker.failed()
    assert breaker.state() == "open"
    assert not breaker.take()


def test_after_a_while_one_trial_passes_and_decides() -> None:
    clock = ManualClock()
    breaker = opened(clock)
    clock.advance(1.0)
    assert breaker.state() == "half_open"
    assert breaker.take()
    assert not breaker.take()
    breaker.succeeded()
    assert breaker.state() == "closed"
    assert breaker.take()
    assert breaker.take()


def test_each_failed_trial_doubles_the_wait_up_to_a_bound() -> None:
    clock = ManualClock()
    breaker = opened(clock)
    for wait_s in (1.0, 2.0, 4.0, 4.0):
        clock.advance(wait_s - 0.01)
        assert not breaker.passable
        clock.advance(0.01)
        assert breaker.take()
        breaker.failed()


def test_a_trial_that_tells_nothing_leaves_room_for_another() -> None:
    clock = ManualClock()
    breaker = opened(clock)
    clock.advance(1.0)
    assert breaker.take()
    breaker.cancelled()
    assert breaker.take()
    clock.advance(CONFIG.open_s)  # that one never reported back
    assert breaker.take()


@given(st.lists(st.sampled_from(["take", "failed", "succeeded", "cancelled", "wait"])))
def test_it_always_opens_again_for_a_trial(steps: list[str]) -> None:
    clock = ManualClock()
    breaker = Breaker(CONFIG, clock)
    for step in steps:
        if step == "wait":
            clock.advance(0.5)
        else:
            getattr(breaker, step)()
        assert breaker.passable or breaker.state() != "closed"
    clock.advance(CONFIG.max_open_s)
    assert breaker.take()
