"""gpu_worker.hang, by the clock alone."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gpu_worker.hang import HangConfig, HangWatch
from wire.errors import ConfigError

CONFIG = HangConfig(stall_s=8, silent_s=4, health_s=1)
"""Looks every second."""


def looks(
    watch: HangWatch, times: range, *, running: bool = True, heard: bool = False, well: bool = True
) -> list[str]:
    found = []
    for second in times:
        if well:
            watch.answered(float(second))
        found.append(watch.look(float(second), running=running, heard=heard))
    return found


def test_requests_that_hear_nothing_mean_a_hang() -> None:
    watch = HangWatch(CONFIG, 0.0)
    assert looks(watch, range(1, 8)) == [""] * 7
    assert "no token and no progress for 8 s" in looks(watch, range(8, 9))[0]


def test_an_idle_engine_owes_nothing_but_its_health() -> None:
    watch = HangWatch(CONFIG, 0.0)
    assert not any(looks(watch, range(1, 100), running=False))
    found = looks(watch, range(100, 104), running=False, well=False)
    assert found[:3] == [""] * 3
    assert "health check for 4 s" in found[3]


def test_the_wait_begins_with_the_request() -> None:
    watch = HangWatch(CONFIG, 0.0)
    looks(watch, range(1, 50), running=False)
    assert looks(watch, range(50, 57)) == [""] * 7
    assert looks(watch, range(57, 58)) != [""]


def test_one_request_that_goes_on_speaks_for_all() -> None:
    watch = HangWatch(CONFIG, 0.0)
    assert not any(looks(watch, range(1, 100), heard=True))


def test_who_slept_too_long_accuses_nobody() -> None:
    watch = HangWatch(CONFIG, 0.0)
    looks(watch, range(1, 3))
    assert watch.look(1_000.0, running=True, heard=False) == ""
    assert watch.look(1_001.0, running=True, heard=False) == ""
    later = [watch.look(1_000.0 + second, running=True, heard=False) for second in range(2, 8)]
    assert any(later)


@given(st.lists(st.tuples(st.floats(0.0, 1.9), st.booleans(), st.booleans()), max_size=200))
def test_an_engine_that_answers_and_is_heard_in_time_is_never_accused(
    steps: list[tuple[float, bool, bool]],
) -> None:
    watch, now_s, quiet_s = HangWatch(CONFIG, 0.0), 0.0, 0.0
    for step_s, running, heard in steps:
        now_s += step_s
        quiet_s = 0.0 if heard or not running else quiet_s + step_s
        watch.answered(now_s)
        accused = watch.look(now_s, running=running, heard=heard)
        assert bool(accused) <= (quiet_s >= CONFIG.stall_s - 1e-6)


@pytest.mark.parametrize("field", ["stall_s", "silent_s", "health_s"])
def test_a_deadline_of_nothing_is_refused(field: str) -> None:
    with pytest.raises(ConfigError, match="over 0"):
        HangConfig(**{field: 0.0})


def test_it_looks_often_enough_to_be_a_quarter_late_at_most() -> None:
    assert CONFIG.look_s == 1
    assert HangConfig(stall_s=0.4, silent_s=4, health_s=1).look_s == pytest.approx(0.1)
