"""How late the loop is, by a clock that the test turns, and once by a real stall."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Sequence

import pytest
from aiohttp import web
from hypothesis import given
from hypothesis import strategies as st
from prometheus_client import CollectorRegistry

from wire.http_server import add_operations
from wire.loop_lag import PERIOD_S, WINDOW_S, LoopLag, Worst

LAG = "headwater_event_loop_lag_seconds"


class LateSleeper:
    """A clock whose sleeps last longer than asked for; ends the loop after the last."""

    def __init__(self, late_s: Sequence[float]) -> None:
        self.now_s = 1_000.0
        self._late_s = iter(late_s)

    def clock(self) -> float:
        return self.now_s

    async def sleep(self, seconds: float) -> None:
        late_s = next(self._late_s, None)
        if late_s is None:
            raise asyncio.CancelledError
        self.now_s += seconds + late_s


async def measured(late_s: Sequence[float]) -> CollectorRegistry:
    registry, sleeper = CollectorRegistry(), LateSleeper(late_s)
    with pytest.raises(asyncio.CancelledError):
        await LoopLag(registry, clock=sleeper.clock, sleep=sleeper.sleep).run()
    return registry


async def test_every_look_is_counted_by_how_late_it_was() -> None:
    registry = await measured([0.0, 0.003, 0.2, 0.7, 9.0])
    for bound, count in [("0.001", 1), ("0.005", 2), ("0.25", 3), ("1.0", 4), ("+Inf", 5)]:
        assert registry.get_sample_value(f"{LAG}_bucket", {"le": bound}) == count
    assert registry.get_sample_value(f"{LAG}_sum") == pytest.approx(9.903)
    assert registry.get_sample_value("headwater_event_loop_lag_max_seconds") == pytest.approx(9)


async def test_a_loop_that_wakes_too_early_is_not_late() -> None:
    registry = await measured([-0.001])
    assert registry.get_sample_value(f"{LAG}_sum") == 0


async def test_an_application_measures_its_loop_while_it_lives() -> None:
    registry, app = CollectorRegistry(), web.Application()
    add_operations(app, ready=lambda: None, registry=registry)
    runner = web.AppRunner(app)
    await runner.setup()
    try:
        await asyncio.sleep(0)  # its first look begins
        time.sleep(PERIOD_S + 0.1)  # noqa: ASYNC251 - what it is to find
        async with asyncio.timeout(30):
            while not registry.get_sample_value(f"{LAG}_count"):  # noqa: ASYNC110 - sets no event
                await asyncio.sleep(0.001)
        worst = registry.get_sample_value("headwater_event_loop_lag_max_seconds")
        assert worst is not None
        assert worst >= 0.1
    finally:
        await runner.cleanup()
    assert not [task for task in asyncio.all_tasks() if task.get_name() == "loop-lag"]


def test_the_worst_is_told_to_all_who_ask_and_then_forgotten() -> None:
    worst = Worst()
    worst.add(2.0, 10.0)
    worst.add(1.0, 59.0)
    assert (worst.of(59.9), worst.of(61.0), worst.of(119.9)) == (2.0, 2.0, 2.0)
    assert worst.of(121.0) == 0.0


@given(st.lists(st.tuples(st.floats(0, 10), st.floats(0, 100)), min_size=1))
def test_the_worst_is_never_less_than_that_of_one_window(seen: list[tuple[float, float]]) -> None:
    """And never of more than two."""
    worst, now_s, all_seen = Worst(), 0.0, []
    for value, later_s in seen:
        now_s += later_s
        worst.add(value, now_s)
        all_seen.append((value, now_s))
        found = worst.of(now_s)
        assert found >= max(v for v, at_s in all_seen if at_s > now_s - WINDOW_S)
        assert found <= max(v for v, at_s in all_seen if at_s >= now_s - 2 * WINDOW_S)
