from __future__ import annotations

import random
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edge_tier.gateway.request import Priority
from edge_tier.gateway.shedding import OverloadedError, Shedder, SheddingConfig

PRIORITIES: tuple[tuple[Priority, float], ...] = (("batch", 1.5), ("interactive", 3.0))
CONFIG = SheddingConfig(batch_load=1.0, interactive_load=2.0, recover=0.5)


def passes(shedder: Shedder, priority: Priority, load: float) -> bool:
    try:
        shedder.check(priority, load, 1.0)
    except OverloadedError:
        return False
    return True


def test_batch_is_turned_away_before_interactive() -> None:
    shedder = Shedder(CONFIG)
    assert passes(shedder, "batch", 0.9)
    assert not passes(shedder, "batch", 1.0)
    assert passes(shedder, "interactive", 1.9)
    assert not passes(shedder, "interactive", 2.0)


def test_who_was_turned_away_is_let_in_only_at_a_lower_load() -> None:
    shedder = Shedder(CONFIG)
    assert not passes(shedder, "batch", 1.0)
    assert [passes(shedder, "batch", load) for load in (0.9, 0.5, 0.49, 0.9)] == [
        *(False, False, True, True),
    ]
    assert passes(shedder, "interactive", 1.9)


def told_ms(shedder: Shedder, priority: Priority, load: float, wait_s: float) -> int:
    with pytest.raises(OverloadedError) as refused:
        shedder.check(priority, load, wait_s)
    assert refused.value.status == 503
    return int(refused.value.headers["retry-after-ms"])


def test_the_wait_is_the_queues_within_bounds_and_spread() -> None:
    shedder = Shedder(SheddingConfig(most_wait_s=30.0), random.Random(1))
    assert 1_000 <= told_ms(shedder, "batch", 9.0, 0.0) <= 1_500
    waits = [told_ms(shedder, "batch", 9.0, 8.0) for _ in range(50)]
    assert 7_800 <= min(waits) < max(waits) <= 11_700
    assert len(set(waits)) > 10
    assert told_ms(shedder, "batch", 9.0, 1e9) == 30_000


@given(st.floats(1.5, 20.0), st.floats(0.01, 10.0), st.integers(0, 9))
def test_who_waits_as_told_is_let_in_if_nobody_else_came(
    load: float, service_s: float, seed: int
) -> None:
    """Every slot serves one request in ``service_s``."""
    config = SheddingConfig(batch_load=1.5, interactive_load=3.0, most_wait_s=1e9)
    shedder = Shedder(config, random.Random(seed))
    for priority, bound in PRIORITIES:
        if load < bound:
            continue
        wait_s = told_ms(shedder, priority, load, (load - 1) * service_s) / 1e3
        drains_s = (load - bound * config.recover) * service_s
        assert wait_s <= max(drains_s, 1.0) * 1.5 + 0.002  # honest: not much longer than needed
        later = load - wait_s / service_s
        assert passes(Shedder(config), priority, later)
        assert later < bound * config.recover + 1e-6


def test_while_it_is_shut_to_interactive_requests_it_is_shut_to_batch() -> None:
    shedder = Shedder(SheddingConfig(batch_load=1.5, interactive_load=1.6, recover=0.8))
    assert not passes(shedder, "interactive", 1.6)
    assert not passes(shedder, "batch", 1.4)  # and no batch request had come before
    assert not passes(shedder, "interactive", 1.4)


@pytest.mark.parametrize(
    "loads",
    [
        {"batch_load": 2.0, "interactive_load": 1.0},
        {"batch_load": 0.0, "interactive_load": 1.0},
        {"recover": 0.0},
        {"recover": 1.5},
    ],
)
def test_a_door_that_would_let_batch_in_first_cannot_be_configured(loads: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=r"batch_load|recover"):
        SheddingConfig(**loads)


def test_a_door_without_a_bound_is_open() -> None:
    shedder = Shedder(SheddingConfig(batch_load=0.0, interactive_load=0.0))
    assert passes(shedder, "batch", 1e9)
    assert passes(shedder, "interactive", 1e9)


@given(st.lists(st.tuples(st.booleans(), st.floats(0, 4))), st.floats(1.0, 2.0), st.floats(0.3, 1))
def test_interactive_is_never_turned_away_where_batch_passes(
    requests: list[tuple[bool, float]], interactive_load: float, recover: float
) -> None:
    """Whoever came before."""
    config = SheddingConfig(batch_load=1.0, interactive_load=interactive_load, recover=recover)
    shedder = Shedder(config)
    for batch_first, load in requests:
        order: list[Priority] = ["batch", "interactive"]
        passed = {p: passes(shedder, p, load) for p in (order if batch_first else order[::-1])}
        assert passed["interactive"] or not passed["batch"]
