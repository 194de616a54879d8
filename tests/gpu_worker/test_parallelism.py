from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gpu_worker.parallelism import Parallelism, ParallelismConfig
from wire.errors import ConfigError

CONFIG = ParallelismConfig(start=2, most=16, window_s=1.0, gain=1.15, rest_windows=3)


class Link:
    """A source of which each fetch brings ``each`` bytes/s, and all together at most ``limit``."""

    def __init__(self, each: float, limit: float) -> None:
        self.each, self.limit = each, limit
        self.now_s = 0.0
        self.levels: list[int] = []

    def run(self, pace: Parallelism, seconds: float) -> None:
        end_s, size = self.now_s + seconds, 1_000
        while self.now_s < end_s:
            self.now_s += size / min(self.each * pace.level, self.limit)
            pace.delivered(size, self.now_s)
            self.levels.append(pace.level)


def test_a_source_that_is_saturated_at_once_gets_no_more() -> None:
    link, pace = Link(each=100_000, limit=200_000), Parallelism(CONFIG, 0.0)
    link.run(pace, 2.5)
    assert pace.level == 2
    link.run(pace, 1.4)
    assert pace.level == 2, "it rests after a climb that brought nothing"


def test_it_climbs_as_long_as_that_pays() -> None:
    link, pace = Link(each=50_000, limit=400_000), Parallelism(CONFIG, 0.0)
    link.run(pace, 5.5)
    assert 8 in link.levels
    assert pace.level in (8, 16)
    link.run(pace, 2.0)
    assert pace.level == 8


def test_a_far_source_gets_all_that_is_allowed() -> None:
    link, pace = Link(each=50_000, limit=1e9), Parallelism(CONFIG, 0.0)
    link.run(pace, 10.0)
    assert pace.level == CONFIG.most


def test_it_tries_again_after_a_rest() -> None:
    link, pace = Link(each=100_000, limit=200_000), Parallelism(CONFIG, 0.0)
    link.run(pace, 3.0)
    link.limit = 1e9
    link.run(pace, 20.0)
    assert pace.level == CONFIG.most


@given(st.lists(st.tuples(st.integers(1, 10**7), st.floats(0, 10)), max_size=200))
def test_the_number_stays_within_its_bounds(deliveries: list[tuple[int, float]]) -> None:
    pace, now_s = Parallelism(CONFIG, 0.0), 0.0
    for size, passed_s in deliveries:
        now_s += passed_s
        pace.delivered(size, now_s)
        assert CONFIG.start <= pace.level <= CONFIG.most


@pytest.mark.parametrize(
    "bad", [{"start": 0}, {"start": 9}, {"window_s": 0}, {"gain": 0.9}, {"rest_windows": 0}]
)
def test_bounds_that_make_no_sense_are_refused(bad: dict[str, float]) -> None:
    with pytest.raises(ConfigError):
        ParallelismConfig(**bad)  # type: ignore[arg-type]
