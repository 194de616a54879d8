from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edge_tier.cache.freshness import (
    FreshnessConfig,
    PointerAge,
    Verdict,
    hit_status,
    judge,
    serves_on_error,
)

CONFIG = FreshnessConfig()


@pytest.mark.parametrize(
    ("age", "verdict"),
    [
        (PointerAge(0.0), "fresh"),
        (PointerAge(4.9), "fresh"),
        (PointerAge(5.0), "serve_and_refresh"),
        (PointerAge(34.9), "serve_and_refresh"),
        (PointerAge(35.0), "refresh"),
        (PointerAge(1e9), "refresh"),
        (PointerAge(0.0, marked=True), "refresh"),
        (PointerAge(10.0, marked=True), "refresh"),
        (PointerAge(3.0, failed_ago_s=1.0), "fresh"),
        (PointerAge(10.0, failed_ago_s=1.0), "serve"),
        (PointerAge(10.0, failed_ago_s=2.0), "serve_and_refresh"),
        (PointerAge(1.0, marked=True, failed_ago_s=0.5), "serve"),
        (PointerAge(3_600.0, failed_ago_s=0.5), "serve"),
        (PointerAge(3_600.0, failed_ago_s=9.0), "serve_and_refresh"),
        (PointerAge(86_405.0, failed_ago_s=0.5), "refresh"),
    ],
)
def test_verdicts_by_age(age: PointerAge, verdict: Verdict) -> None:
    assert judge(age, CONFIG) == verdict


@pytest.mark.parametrize(("age_s", "serves"), [(0, True), (86_404.9, True), (86_405, False)])
def test_stale_if_error_ends(age_s: float, serves: bool) -> None:
    assert serves_on_error(age_s, CONFIG) is serves


@pytest.mark.parametrize(
    ("age", "status"),
    [
        (PointerAge(0.0), "hit; ttl=5"),
        (PointerAge(1.2), "hit; ttl=3"),
        (PointerAge(5.5), "hit; ttl=-1"),
        (PointerAge(65.0), "hit; ttl=-60"),
        (PointerAge(0.0, marked=True), "hit; ttl=-1"),
    ],
)
def test_the_status_tells_the_remaining_life(age: PointerAge, status: str) -> None:
    assert hit_status(age, CONFIG) == status


ages = st.builds(PointerAge, st.floats(0, 2e5), st.booleans(), st.none() | st.floats(0, 1e5))


@settings(deadline=None)
@given(ages)
def test_nothing_too_old_is_ever_served_without_asking(age: PointerAge) -> None:
    verdict = judge(age, CONFIG)
    if verdict == "fresh":
        assert age.age_s < CONFIG.max_age_s
        assert not age.marked
    if verdict != "refresh":
        assert serves_on_error(age.age_s, CONFIG)
