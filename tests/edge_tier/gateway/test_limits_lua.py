from __future__ import annotations

import random

import pytest
from redis import Redis
from redis.crc import key_slot

from edge_tier.gateway.budgets import month_of
from edge_tier.gateway.limits import Subject
from edge_tier.gateway.limits_lua import MONTH_OF, keys, limits_of
from edge_tier.gateway.request import SharedLimits

LIMITS = SharedLimits(
    requests_per_minute=1,
    tokens_per_minute=2,
    input_tokens_per_minute=3,
    output_tokens_per_minute=4,
    concurrent_streams=5,
    tokens_per_day=6,
    tokens_per_month=7,
)
SUBJECTS = [
    Subject("key", "k1", LIMITS),
    Subject("tenant", "acme", LIMITS),
    Subject("model", "big", LIMITS),
]


def test_redis_counts_months_as_python_does(redis_url: str) -> None:
    days = [*range(19_000, 20_500), *random.Random(1).choices(range(150_000), k=500)]
    script = (
        f"{MONTH_OF}\nlocal months = {{}}\nfor i = 1, #ARGV do months[i] = month_of(ARGV[i]) end"
    )
    with Redis.from_url(redis_url) as admin:
        assert admin.eval(f"{script} return months", 0, *days) == [month_of(day) for day in days]


def test_limits_stand_in_the_order_that_the_scripts_read() -> None:
    assert limits_of(SUBJECTS[0]) == (1, 2, 3, 4, 5, 6, 7)


@pytest.mark.parametrize("cluster", [False, True])
def test_a_models_limits_are_one_for_all_where_keys_may_lie_anywhere(cluster: bool) -> None:
    named = [keys("p:", SUBJECTS, tag, "r1", cluster=cluster) for tag in ("acme", "other")]
    models = {one[2] for one in named}
    assert len(models) == (2 if cluster else 1)
    assert {one[-1] for one in named} == {"p:{acme}:open:r1", "p:{other}:open:r1"}
    for one in named:
        assert len(set(one)) == 7
        assert (len({key_slot(key.encode()) for key in one}) == 1) == cluster
