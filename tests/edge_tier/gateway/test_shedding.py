from __future__ import annotations

import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edge_tier.gateway.request import Priority
from edge_tier.gateway.shedding import OverloadedError, Shedder, SheddingConfig

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


def test_the_wait_is_the_queues_within_bounds_and_spread() -> None:
    shedder = Shedder(SheddingConfig(most_wait_s=30.0), random.Random(1))
    waits = []
    for wait_s in (0.0, *[8.0] * 50, 1e9):
        with pytest.raises(OverloadedError) as refused:
            shedder.check("batch", 9.0, wait_s)
        assert refused.value.status == 503
        waits.append(int(refused.value.headers["retry-after-ms"]))
    assert waits[0] == 1_000
    assert waits[-1] == 30_000
    assert min(waits[1:-1]) >= 6_000
    assert max(waits[1:-1]) <= 10_000
    assert len(set(waits[1:-1])) > 10


def test_a_door_without_a_bound_is_open() -> None:
    shedder = Shedder(SheddingConfig(batch_load=0.0, interactive_load=0.0))
    assert passes(shedder, "batch", 1e9)
    assert passes(shedder, "interactive", 1e9)


@given(st.lists(st.floats(0, 4)))
def test_interactive_is_never_turned_away_where_batch_passes(loads: list[float]) -> None:
    shedder = Shedder(CONFIG)
    for load in loads:
        batch, interactive = passes(shedder, "batch", load), passes(shedder, "interactive", load)
        assert interactive or not batch
