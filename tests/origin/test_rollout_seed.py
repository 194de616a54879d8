"""The seed of a canary: somebody is in the share, and somebody outside."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from origin import rollout_seed
from origin.rollout_seed import choose_seed, share_of, taken
from wire.channel import MAX_SEED

names = st.sets(st.text("abcdefgh0123456789-", min_size=1, max_size=12), min_size=1, max_size=40)


@pytest.mark.parametrize(
    ("workers", "percent", "wanted"),
    [(1, 10, 1), (2, 1, 1), (2, 99, 1), (3, 10, 1), (10, 10, 1), (10, 25, 2), (200, 10, 20)],
)
def test_a_share_is_at_least_one_and_never_all_of_several(
    workers: int, percent: int, wanted: int
) -> None:
    assert share_of(workers, percent) == wanted


@settings(max_examples=60, deadline=None)
@given(names, st.integers(1, 99))
def test_somebody_is_in_and_of_several_somebody_is_out(workers: set[str], percent: int) -> None:
    count = taken(workers, percent, choose_seed(workers, percent))
    assert count >= 1
    assert len(workers) == 1 or count < len(workers)


@pytest.mark.parametrize(("workers", "percent"), [(3, 10), (10, 10), (50, 10), (200, 10), (20, 50)])
def test_the_share_is_met_exactly_where_it_can_be(workers: int, percent: int) -> None:
    fleet = [f"gpu-{number}" for number in range(workers)]
    assert taken(fleet, percent, choose_seed(fleet, percent)) == share_of(workers, percent)


def test_another_beginning_gives_another_seed_that_is_in_range() -> None:
    fleet = [f"gpu-{number}" for number in range(10)]
    one, other = (choose_seed(fleet, 10, first=first) for first in (0, MAX_SEED // 2))
    assert one != other
    assert MAX_SEED // 2 <= other <= MAX_SEED
    assert choose_seed(fleet, 10) == one


def test_of_a_large_fleet_the_share_is_close_and_soon_found(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    tried: list[int] = []

    def counting(workers: list[str], percent: int, seed: int) -> int:
        tried.append(seed)
        return taken(workers, percent, seed)

    monkeypatch.setattr(rollout_seed, "taken", counting)
    fleet = [f"gpu-{number}" for number in range(4_000)]
    for first in range(0, 5_000, 1_000):
        count = taken(fleet, 10, choose_seed(fleet, 10, first=first))
        assert abs(count - 400) <= 8
    assert len(tried) <= 5 * 50
