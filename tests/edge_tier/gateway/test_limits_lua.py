"""The scripts' calendar is the calendar, and their keys and arguments lie where they look."""

from __future__ import annotations

from datetime import date
from typing import Any

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from redis import Redis
from redis.crc import key_slot

from edge_tier.gateway.budgets import month_of
from edge_tier.gateway.gcra import BUCKETS
from edge_tier.gateway.limits import Subject
from edge_tier.gateway.limits_lua import RESERVE, SETTLE, keys, limits_of
from edge_tier.gateway.request import Limits

EPOCH = date(1970, 1, 1)
DAYS = st.dates(EPOCH, date(2400, 12, 31)).map(lambda day: (day - EPOCH).days)
SUBJECTS = [
    Subject("key", "k1", Limits()),
    Subject("tenant", "acme", Limits()),
    Subject("model", "big", Limits()),
]


def month_script() -> str:
    """The scripts' own function, for days given as arguments."""
    begin, end = RESERVE.index("local function month_of"), RESERVE.index("local month =")
    asked = "local found = {} for i, day in ipairs(ARGV) do found[i] = month_of(tonumber(day)) end"
    return f"{RESERVE[begin:end]} {asked} return found"


@given(days=st.lists(DAYS, min_size=1, max_size=200))
@settings(
    max_examples=30, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
def test_months_are_those_of_the_budgets(redis_url: str, days: list[int]) -> None:
    with Redis.from_url(redis_url) as admin:
        found: Any = admin.eval(month_script(), 0, *map(str, days))
    assert found == [month_of(day) for day in days]


def test_every_month_begins_on_its_first_day(redis_url: str) -> None:
    firsts = [(date(year, m, 1) - EPOCH).days for year in range(1971, 2402) for m in range(1, 13)]
    days = sorted([*firsts, *(day - 1 for day in firsts)])
    with Redis.from_url(redis_url) as admin:
        found: Any = admin.eval(month_script(), 0, *map(str, days))
    assert found == [month_of(day) for day in days]


def test_both_scripts_count_by_the_same_calendar() -> None:
    function = month_script().partition(" local found")[0]
    assert function in RESERVE
    assert function in SETTLE


@given(tag=st.from_regex(r"[a-z0-9_.-]{1,20}", fullmatch=True))
def test_in_a_cluster_all_keys_of_a_request_share_a_slot(tag: str) -> None:
    found = keys("p:", SUBJECTS, tag, "r1", cluster=True)
    assert len(set(found)) == 2 * len(SUBJECTS) + 1
    assert len({key_slot(key.encode()) for key in found}) == 1


def test_without_a_cluster_tenants_share_a_models_limits() -> None:
    ours, theirs = (keys("p:", SUBJECTS, tag, "r", cluster=False) for tag in ("acme", "other"))
    assert set(ours) & set(theirs) == {"p:model:big", "p:model:big:running"}
    apart = [set(keys("p:", SUBJECTS, tag, "r", cluster=True)) for tag in ("acme", "other")]
    assert not apart[0] & apart[1]


def test_keys_stand_in_the_scripts_order() -> None:
    assert keys("p:", SUBJECTS, "t", "r1", cluster=True) == [
        "p:{t}:key:k1",
        "p:{t}:tenant:acme",
        "p:{t}:model:big",
        "p:{t}:key:k1:running",
        "p:{t}:tenant:acme:running",
        "p:{t}:model:big:running",
        "p:{t}:open:r1",
    ]


def test_limits_stand_in_the_order_of_the_buckets() -> None:
    limits = Limits(
        requests_per_minute=1,
        tokens_per_minute=2,
        input_tokens_per_minute=3,
        output_tokens_per_minute=4,
        concurrent_streams=5,
        tokens_per_day=6,
        tokens_per_month=7,
    )
    assert limits_of(Subject("key", "k", limits)) == (1, 2, 3, 4, 5, 6, 7)
    assert [getattr(limits, f"{name}_per_minute") for name in BUCKETS] == [1, 2, 3, 4]
