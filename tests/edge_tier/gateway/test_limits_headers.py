from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edge_tier.gateway.gcra import TICKS
from edge_tier.gateway.limits_headers import duration, rate_headers, rate_lines, retry_headers
from edge_tier.gateway.request import Caller, Limits, Reservation, SharedLimits, Standing
from tests.fakes.limits import charge


def test_headers_say_what_is_left_as_the_draft_and_openai_do() -> None:
    limits = Limits(requests_per_minute=600, tokens_per_minute=200_000)
    debts = (TICKS, 50_001 * TICKS + 1, 0, 0)
    state = Reservation(
        caller=Caller(key_id="k", tenant="t", scopes=frozenset(), limits=limits),
        charge=charge(5),
        standings=(Standing(limits, debts),),
    )
    assert rate_headers(state.standings) == {
        "RateLimit-Policy": '"tokens";q=200000;w=60;qu="tokens", "requests";q=600;w=60',
        "RateLimit": '"tokens";r=149998;t=16, "requests";r=599;t=1',
        "x-ratelimit-limit-requests": "600",
        "x-ratelimit-remaining-requests": "599",
        "x-ratelimit-reset-requests": "100ms",
        "x-ratelimit-limit-tokens": "200000",
        "x-ratelimit-remaining-tokens": "149998",
        "x-ratelimit-reset-tokens": "15.001s",
    }


def test_the_limit_of_which_less_is_left_comes_first() -> None:
    limits = SharedLimits(requests_per_minute=10, tokens_per_minute=1_000)
    for owed, first in (((5, 400), "requests"), ((5, 501), "tokens"), ((0, 0), "requests")):
        debts = (owed[0] * TICKS, owed[1] * TICKS, 0, 0)
        headers = rate_headers([Standing(limits, debts)])
        for name in ("RateLimit", "RateLimit-Policy"):
            assert headers[name].startswith(f'"{first}";')


def test_of_several_limits_the_tightest_is_shown() -> None:
    key = SharedLimits(requests_per_minute=10, input_tokens_per_minute=100)
    tenant = SharedLimits(requests_per_minute=4, tokens_per_minute=1_000)
    headers = rate_headers(
        [
            Standing(key, (TICKS, 0, 30 * TICKS, 0)),
            Standing(tenant, (TICKS, 40 * TICKS, 0, 0)),
        ]
    )
    assert headers["RateLimit"] == '"tokens";r=70;t=18, "requests";r=3;t=15'


def test_a_debt_beyond_a_full_bucket_leaves_nothing() -> None:
    standing = Standing(SharedLimits(tokens_per_minute=60), (0, 120 * TICKS, 0, 0))
    assert rate_headers([standing])["x-ratelimit-remaining-tokens"] == "0"


def test_who_is_told_to_wait_is_told_at_least_a_moment() -> None:
    assert retry_headers(0.0) == {"Retry-After": "1", "retry-after-ms": "1"}
    assert retry_headers(2.0005) == {"Retry-After": "3", "retry-after-ms": "2001"}


@given(
    st.integers(0, 700), st.integers(0, 10**6), st.integers(0, 700 * TICKS), st.integers(0, TICKS)
)
def test_header_lines_are_the_headers(
    per_minute: int, size: int, owed: int, owed_tokens: int
) -> None:
    limits = Limits(requests_per_minute=per_minute, tokens_per_minute=size)
    state = Reservation(
        caller=Caller(key_id="k", tenant="t", scopes=frozenset(), limits=limits),
        charge=charge(5),
        standings=(Standing(limits, (owed, owed_tokens, 0, 0)),),
    )
    lines = dict(line.split(": ", 1) for line in rate_lines(state).split("\r\n")[:-1])
    assert lines == rate_headers(state.standings)


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (0, "0ms"),
        (0.012, "12ms"),
        (0.0001, "1ms"),
        (0.9995, "1s"),
        (8.64, "8.64s"),
        (60, "1m0s"),
        (360, "6m0s"),
        (3_723.5, "1h2m3.5s"),
        (7_200, "2h0m0s"),
    ],
)
def test_durations_are_written_as_openai_writes_them(seconds: float, text: str) -> None:
    assert duration(seconds) == text
