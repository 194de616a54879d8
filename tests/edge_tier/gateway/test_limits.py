from __future__ import annotations

import asyncio
import re
from collections.abc import Callable
from fractions import Fraction
from typing import Any

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    Bundle,
    RuleBasedStateMachine,
    consumes,
    initialize,
    invariant,
    multiple,
    rule,
)

from edge_tier.gateway.gcra import TICKS
from edge_tier.gateway.limits import (
    Limiter,
    LimitsConfig,
    RateLimitedError,
    TokensOverLimitError,
    duration,
    rate_headers,
    rate_lines,
)
from edge_tier.gateway.limits_memory import MemoryLimiter
from edge_tier.gateway.request import Caller, Charge, Limits, Reservation, Standing
from tests.fakes.limits import charge, requests, tokens

MakeCaller = Callable[..., Caller]


async def admitted(limiter: Limiter, caller: Caller, count: int) -> bool:
    try:
        await limiter.reserve(caller, charge(count))
    except RateLimitedError:
        return False
    return True


async def test_the_limit_passes_at_once_and_not_one_more(stage: Any, caller: MakeCaller) -> None:
    acme = caller(requests=5)
    passed = [await admitted(stage.limiter, acme, 1) for _ in range(6)]
    assert passed == [True] * 5 + [False]


async def test_requests_come_back_at_the_rate_of_the_limit(stage: Any, caller: MakeCaller) -> None:
    acme = caller(requests=6)
    for _ in range(6):
        await stage.limiter.reserve(acme, charge(1))
    stage.advance(10.5)
    assert await admitted(stage.limiter, acme, 1)
    assert not await admitted(stage.limiter, acme, 1)


async def test_a_minute_fills_the_bucket_and_no_more(stage: Any, caller: MakeCaller) -> None:
    acme = caller(tokens=60)
    await stage.limiter.reserve(acme, charge(60))
    stage.advance(3_600)
    assert tokens(await stage.limiter.reserve(acme, charge(60))).remaining == 0
    assert not await admitted(stage.limiter, acme, 1)


async def test_a_reservation_tells_what_is_left(stage: Any, caller: MakeCaller) -> None:
    reservation = await stage.limiter.reserve(caller(requests=10, tokens=600), charge(150))
    assert (reservation.caller.key_id, reservation.charge.tokens) == ("key00001", 150)
    assert requests(reservation)[:2] == (10, 9)
    assert requests(reservation).reset_s == pytest.approx(6, abs=0.1)
    assert tokens(reservation)[:2] == (600, 450)
    assert tokens(reservation).reset_s == pytest.approx(15, abs=0.1)


async def test_refused_for_tokens_costs_no_request(stage: Any, caller: MakeCaller) -> None:
    acme = caller(requests=10, tokens=60)
    await stage.limiter.reserve(acme, charge(40))
    for _ in range(20):
        assert not await admitted(stage.limiter, acme, 40)
    assert requests(await stage.limiter.reserve(acme, charge(20))).remaining == 8


async def test_refused_for_requests_costs_no_tokens(stage: Any, caller: MakeCaller) -> None:
    acme = caller(requests=2, tokens=60)
    for _ in range(2):
        await stage.limiter.reserve(acme, charge(15))
    for _ in range(20):
        assert not await admitted(stage.limiter, acme, 15)
    stage.advance(30)
    assert tokens(await stage.limiter.reserve(acme, charge(60))).remaining == 0


async def test_waiting_as_told_is_enough(stage: Any, caller: MakeCaller) -> None:
    acme = caller(requests=100, tokens=90)
    await stage.limiter.reserve(acme, charge(90))
    with pytest.raises(RateLimitedError) as refused:
        await stage.limiter.reserve(acme, charge(30))
    wait_ms = int(refused.value.headers["retry-after-ms"])
    assert 19_000 < wait_ms <= 20_000
    stage.advance(wait_ms / 1e3)
    assert await admitted(stage.limiter, acme, 30)


async def test_a_refusal_names_the_limit_and_carries_every_header(
    stage: Any, caller: MakeCaller
) -> None:
    acme = caller(requests=3, tokens=60)
    await stage.limiter.reserve(acme, charge(50))
    with pytest.raises(RateLimitedError, match=r"60 tokens per minute.* needs 40") as refused:
        await stage.limiter.reserve(acme, charge(40))
    error = refused.value
    assert (error.status, error.code) == (429, "rate_limit_exceeded")
    assert error.headers["Retry-After"] == "30"
    assert error.headers["RateLimit-Policy"].startswith('"requests";q=3;w=60, "tokens";q=60;w=60')
    assert re.fullmatch(
        r'"requests";r=2;t=(19|20), "tokens";r=10;t=(49|50)', error.headers["RateLimit"]
    )
    assert error.headers["x-ratelimit-remaining-tokens"] == "10"


async def test_what_was_not_used_comes_back(stage: Any, caller: MakeCaller) -> None:
    acme = caller(requests=10, tokens=60)
    first = await stage.limiter.reserve(acme, charge(60))
    await stage.limiter.settle(first, 15, 0)
    second = await stage.limiter.reserve(acme, charge(45))
    assert (tokens(second).remaining, requests(second).remaining) == (0, 8)


async def test_settled_twice_refunds_once(stage: Any, caller: MakeCaller) -> None:
    acme = caller(tokens=60)
    first = await stage.limiter.reserve(acme, charge(25))
    await stage.limiter.reserve(acme, charge(35))
    await stage.limiter.settle(first, 0, 0)
    await stage.limiter.settle(first, 0, 0)
    assert tokens(await stage.limiter.reserve(acme, charge(15))).remaining == 10


async def test_settling_many_at_once_refunds_each_once(stage: Any, caller: MakeCaller) -> None:
    acme = caller(tokens=60)
    held = [await stage.limiter.reserve(acme, charge(6)) for _ in range(10)]
    await asyncio.gather(*(stage.limiter.settle(one, 3, 0) for one in held * 3))
    assert tokens(await stage.limiter.reserve(acme, charge(30))).remaining == 0


async def test_what_was_used_beyond_the_reservation_is_charged_too(
    stage: Any, caller: MakeCaller
) -> None:
    acme = caller(tokens=60)
    first = await stage.limiter.reserve(acme, charge(10))
    await stage.limiter.settle(first, 40, 0)
    assert tokens(await stage.limiter.reserve(acme, charge(5))).remaining == 15


async def test_an_absurd_count_locks_nobody_out_for_long(stage: Any, caller: MakeCaller) -> None:
    acme = caller(tokens=60)
    first = await stage.limiter.reserve(acme, charge(10))
    await stage.limiter.settle(first, 10**14, 0)
    stage.advance(59)
    assert not await admitted(stage.limiter, acme, 1)
    stage.advance(3)
    assert await admitted(stage.limiter, acme, 1)


async def test_a_held_reservation_is_no_way_to_save_up(stage: Any, caller: MakeCaller) -> None:
    acme = caller(tokens=60)
    held = await stage.limiter.reserve(acme, charge(60))
    stage.advance(60)
    await stage.limiter.reserve(acme, charge(60))
    await stage.limiter.settle(held, 0, 0)
    assert not await admitted(stage.limiter, acme, 5)


async def test_a_late_count_beyond_the_reservation_still_counts(
    stage: Any, caller: MakeCaller
) -> None:
    acme = caller(tokens=60)
    held = await stage.limiter.reserve(acme, charge(5))
    stage.advance(120)
    await stage.limiter.settle(held, 35, 0)
    assert tokens(await stage.limiter.reserve(acme, charge(25))).remaining == 5


async def test_more_than_a_full_bucket_is_refused_for_good(stage: Any, caller: MakeCaller) -> None:
    acme = caller(requests=5, tokens=1_000)
    with pytest.raises(TokensOverLimitError, match=r"needs 1001 tokens.*limit is 1000") as refused:
        await stage.limiter.reserve(acme, charge(1_001))
    assert refused.value.status == 413
    assert "Retry-After" not in refused.value.headers
    assert requests(await stage.limiter.reserve(acme, charge(1_000))).remaining == 4


async def test_without_limits_all_passes(stage: Any, caller: MakeCaller) -> None:
    for _ in range(5):
        reservation = await stage.limiter.reserve(caller(), charge(10**12))
        await stage.limiter.settle(reservation, 10**13, 0)
    assert rate_headers(reservation) == {}


async def test_a_limit_on_requests_alone_counts_no_tokens(stage: Any, caller: MakeCaller) -> None:
    acme = caller(requests=2)
    reservation = await stage.limiter.reserve(acme, charge(10**9))
    await stage.limiter.settle(reservation, 10**10, 0)
    assert requests(await stage.limiter.reserve(acme, charge(10**9))).remaining == 0
    assert not await admitted(stage.limiter, acme, 0)


async def test_callers_do_not_share_limits(stage: Any, caller: MakeCaller) -> None:
    assert await admitted(stage.limiter, caller(requests=1, key_id="one1"), 1)
    assert await admitted(stage.limiter, caller(requests=1, key_id="two2"), 1)
    assert not await admitted(stage.limiter, caller(requests=1, key_id="one1"), 1)


async def test_a_raised_limit_holds_at_once(stage: Any, caller: MakeCaller) -> None:
    for _ in range(2):
        await stage.limiter.reserve(caller(requests=2), charge(1))
    assert not await admitted(stage.limiter, caller(requests=2), 1)
    assert requests(await stage.limiter.reserve(caller(requests=5), charge(1))).remaining == 2


async def test_a_lifted_limit_leaves_no_debt(stage: Any, caller: MakeCaller) -> None:
    await stage.limiter.reserve(caller(requests=1, tokens=60), charge(60))
    assert await admitted(stage.limiter, caller(requests=0, tokens=120), 60)
    assert await admitted(stage.limiter, caller(requests=1, tokens=0), 60)


async def test_requests_come_back_while_tokens_are_settled(stage: Any, caller: MakeCaller) -> None:
    acme = caller(requests=6, tokens=60)
    held = [await stage.limiter.reserve(acme, charge(1)) for _ in range(6)]
    stage.advance(30)
    for one in held:
        await stage.limiter.settle(one, 0, 0)
    assert requests(await stage.limiter.reserve(acme, charge(1))).remaining == 2


async def test_200_at_once_never_overspend(stage: Any, caller: MakeCaller) -> None:
    acme = caller(requests=100, tokens=60)
    passed = await asyncio.gather(*(admitted(stage.limiter, acme, 1) for _ in range(200)))
    assert sum(passed) == 60


async def test_reservations_have_names_of_their_own(stage: Any, caller: MakeCaller) -> None:
    made = [await stage.limiter.reserve(caller(tokens=100), charge(1)) for _ in range(20)]
    assert len({one.id for one in made}) == 20


async def test_a_foreign_reservation_refunds_nothing(stage: Any, caller: MakeCaller) -> None:
    acme = caller(tokens=60)
    await stage.limiter.reserve(acme, charge(60))
    foreign = await MemoryLimiter().reserve(acme, charge(60))
    await stage.limiter.settle(foreign, 0, 0)
    assert not await admitted(stage.limiter, acme, 1)


async def test_a_negative_number_of_tokens_is_a_bug(stage: Any, caller: MakeCaller) -> None:
    with pytest.raises(ValueError, match="fewer than 0"):
        await stage.limiter.reserve(caller(tokens=100), charge(-1))


class NaiveBucket:
    """A token bucket as one would draw it: what is left, in fractions of a token."""

    def __init__(self, limit: int) -> None:
        self.limit, self.left = limit, Fraction(limit)

    def refill(self, milliseconds: int) -> None:
        self.left = min(Fraction(self.limit), self.left + self._gain(milliseconds))

    def take(self, amount: int) -> bool:
        if self.left < amount:
            return False
        self.left -= amount
        return True

    def undrained(self, missing: Fraction, milliseconds: int) -> Fraction:
        return max(Fraction(0), missing - self._gain(milliseconds))

    def _gain(self, milliseconds: int) -> Fraction:
        return Fraction(self.limit * milliseconds, 60_000)


class LimiterMachine(RuleBasedStateMachine):
    """Any course of reserving, waiting and settling agrees with two naive token buckets."""

    held = Bundle("held")

    @initialize(per_minute=st.integers(1, 9), size=st.integers(1, 5_000))
    def begin(self, per_minute: int, size: int) -> None:
        self.runner = asyncio.Runner()
        self.elapsed_ms = 0
        self.limiter = MemoryLimiter(lambda: self.elapsed_ms / 1e3)
        self.requests, self.tokens = NaiveBucket(per_minute), NaiveBucket(size)
        self.used = 0
        self.caller = Caller(
            key_id="key1",
            tenant="acme",
            scopes=frozenset(),
            limits=Limits(requests_per_minute=per_minute, tokens_per_minute=size),
        )

    def teardown(self) -> None:
        self.runner.close()

    @rule(milliseconds=st.integers(0, 90_000))
    def wait(self, milliseconds: int) -> None:
        self.elapsed_ms += milliseconds
        self.requests.refill(milliseconds)
        self.tokens.refill(milliseconds)

    @rule(target=held, count=st.integers(0, 5_000))
    def reserve(self, count: int) -> Any:
        if count > self.tokens.limit:
            with pytest.raises(TokensOverLimitError):
                self.runner.run(self.limiter.reserve(self.caller, charge(count)))
            return multiple()
        if self.requests.left < 1 or self.tokens.left < count:
            with pytest.raises(RateLimitedError):
                self.runner.run(self.limiter.reserve(self.caller, charge(count)))
            return multiple()
        assert self.requests.take(1)
        assert self.tokens.take(count)
        made = self.runner.run(self.limiter.reserve(self.caller, charge(count)))
        assert requests(made).remaining == self.requests.left // 1
        assert tokens(made).remaining == self.tokens.left // 1
        self.used += count
        return made, self.tokens.limit - self.tokens.left, self.elapsed_ms

    @rule(one=consumes(held), share=st.fractions(0, 1), times=st.integers(1, 3))
    def settle_with_less(
        self, one: tuple[Reservation, Fraction, int], share: Fraction, times: int
    ) -> None:
        made, missing, at_ms = one
        used = int(made.charge.tokens * share)
        for _ in range(times):
            self.runner.run(self.limiter.settle(made, used, 0))
        undrained = self.tokens.undrained(missing, self.elapsed_ms - at_ms)
        refund = min(Fraction(made.charge.tokens - used), undrained)
        self.tokens.left = min(Fraction(self.tokens.limit), self.tokens.left + refund)
        self.used -= made.charge.tokens - used

    @rule(one=consumes(held), extra=st.integers(1, 10_000))
    def settle_with_more(self, one: tuple[Reservation, Fraction, int], extra: int) -> None:
        self.runner.run(self.limiter.settle(one[0], one[0].charge.tokens + extra, 0))
        deepest = min(self.tokens.left, Fraction(-self.tokens.limit))
        self.tokens.left = max(self.tokens.left - extra, deepest)

    @invariant()
    def no_more_was_used_than_time_allowed(self) -> None:
        if hasattr(self, "tokens"):
            allowed = Fraction(self.tokens.limit * (60_000 + self.elapsed_ms), 60_000)
            assert self.used <= allowed


LimiterMachine.TestCase.settings = settings(max_examples=60, stateful_step_count=30, deadline=None)
TestLimiterAgainstNaiveBuckets = LimiterMachine.TestCase


def test_headers_say_what_is_left_as_the_draft_and_openai_do() -> None:
    limits = Limits(requests_per_minute=600, tokens_per_minute=200_000)
    debts = (TICKS, 50_001 * TICKS + 1, 0, 0)
    state = Reservation(
        caller=Caller(key_id="k", tenant="t", scopes=frozenset(), limits=limits),
        charge=charge(5),
        standings=(Standing(limits, debts),),
    )
    assert rate_headers(state) == {
        "RateLimit-Policy": '"requests";q=600;w=60, "tokens";q=200000;w=60;qu="tokens"',
        "RateLimit": '"requests";r=599;t=1, "tokens";r=149998;t=16',
        "x-ratelimit-limit-requests": "600",
        "x-ratelimit-remaining-requests": "599",
        "x-ratelimit-reset-requests": "100ms",
        "x-ratelimit-limit-tokens": "200000",
        "x-ratelimit-remaining-tokens": "149998",
        "x-ratelimit-reset-tokens": "15.001s",
    }


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
    assert lines == rate_headers(state)


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


# Every subject, every kind of limit.


async def refusal(limiter: Limiter, caller: Caller, asked: Charge) -> str:
    """Why a request is refused; empty where it is not."""
    try:
        await limiter.reserve(caller, asked)
    except RateLimitedError as error:
        return f"{error.code}: {error.message}"
    return ""


def acme_with(**limits: int) -> Caller:
    """A caller with these limits and no others."""
    unlimited = {"requests_per_minute": 0, "tokens_per_minute": 0, "max_output_tokens": 0}
    return Caller(
        key_id="key00001",
        tenant="acme",
        scopes=frozenset(),
        limits=Limits(**(unlimited | limits)),
    )


@pytest.mark.parametrize(
    ("limits", "passes", "refused"),
    [
        ({"input_tokens_per_minute": 60}, charge(60, 999), charge(1)),
        ({"output_tokens_per_minute": 60}, charge(999, 60), charge(0, 1)),
        ({"tokens_per_minute": 60}, charge(20, 40), charge(0, 1)),
    ],
)
async def test_prompt_and_answer_have_limits_of_their_own(
    stage: Any, limits: dict[str, int], passes: Charge, refused: Charge
) -> None:
    acme = acme_with(**limits)
    held = await stage.limiter.reserve(acme, passes)
    (name,) = limits
    assert name.replace("_", " ").replace(" per", "").split(" minute")[0] in (
        await refusal(stage.limiter, acme, refused)
    )
    await stage.limiter.settle(held, passes.input_tokens, 0)
    await stage.limiter.settle(held, 0, 0)
    answers = name != "input_tokens_per_minute"
    assert (await refusal(stage.limiter, acme, refused) == "") == answers


async def test_requests_at_once_are_bounded_until_they_are_settled(stage: Any) -> None:
    acme = acme_with(concurrent_streams=2)
    held = [await stage.limiter.reserve(acme, charge(1)) for _ in range(2)]
    assert "2 requests at once" in await refusal(stage.limiter, acme, charge(1))
    await stage.limiter.settle(held[0], 1, 0)
    await stage.limiter.settle(held[0], 1, 0)
    assert await refusal(stage.limiter, acme, charge(1)) == ""
    assert "2 requests at once" in await refusal(stage.limiter, acme, charge(1))


@pytest.mark.parametrize("period", ["day", "month"])
async def test_a_budget_holds_to_the_token_and_refunds_come_back(stage: Any, period: str) -> None:
    acme = acme_with(**{f"tokens_per_{period}": 100})
    first = await stage.limiter.reserve(acme, charge(30, 40))
    said = await refusal(stage.limiter, acme, charge(30, 1))
    assert said.startswith("insufficient_quota")
    assert f"100 tokens per {period} has 30 left" in said
    await stage.limiter.settle(first, 30, 10)
    assert await refusal(stage.limiter, acme, charge(60, 0)) == ""
    assert await refusal(stage.limiter, acme, charge(1)) != ""
    with pytest.raises(TokensOverLimitError, match=f"tokens per {period}"):
        await stage.limiter.reserve(acme, charge(101))


async def test_a_budget_begins_anew_with_its_day_and_month() -> None:
    unix_s = 1_706_745_540.0  # 2024-01-31 23:59 UTC
    limiter = MemoryLimiter(wall=lambda: unix_s)
    daily, monthly = acme_with(tokens_per_day=10), acme_with(tokens_per_month=10)
    monthly = msgspec.structs.replace(monthly, key_id="key00002")
    for caller in (daily, monthly):
        held = await limiter.reserve(caller, charge(10))
        assert await refusal(limiter, caller, charge(1))
    with pytest.raises(RateLimitedError) as refused:
        await limiter.reserve(daily, charge(1))
    assert refused.value.headers["Retry-After"] == "60"
    unix_s += 61  # February
    for caller in (daily, monthly):
        assert await refusal(limiter, caller, charge(4)) == ""
    await limiter.settle(held, 0, 0)  # what January had left is no gift to February
    assert await refusal(limiter, monthly, charge(7)) != ""
    unix_s += 86_400
    assert await refusal(limiter, monthly, charge(7)) != ""
    assert await refusal(limiter, daily, charge(10)) == ""


SHARED = LimitsConfig(
    tenants={"acme": Limits(requests_per_minute=3, tokens_per_minute=0)},
    tenant_default=Limits(requests_per_minute=1, tokens_per_minute=0),
    models={"big": Limits(requests_per_minute=2, tokens_per_minute=0)},
)


async def test_keys_of_a_tenant_share_its_limits_and_all_share_a_models(
    limited: Callable[[LimitsConfig], Limiter],
) -> None:
    limiter = limited(SHARED)
    one, two = (msgspec.structs.replace(acme_with(), key_id=name) for name in ("one1", "two2"))
    other = msgspec.structs.replace(acme_with(), key_id="three3", tenant="other")
    passed = [await refusal(limiter, key, charge(1)) == "" for key in (one, two, one, two)]
    assert passed == [True, True, True, False]
    assert "of the tenant" in await refusal(limiter, one, charge(1))
    assert [await refusal(limiter, other, charge(1)) == "" for _ in range(2)] == [True, False]


async def test_a_refusal_by_one_costs_none_of_the_others(
    limited: Callable[[LimitsConfig], Limiter],
) -> None:
    limiter = limited(SHARED)
    acme = acme_with(requests_per_minute=10)
    for _ in range(2):
        held = await limiter.reserve(acme, charge(1, model="big"))
    for _ in range(5):
        assert "of the model" in await refusal(limiter, acme, charge(1, model="big"))
    assert requests(held)[:2] == (2, 0)
    assert requests(await limiter.reserve(acme, charge(1))).remaining == 0  # the tenant's third
    assert "of the tenant" in await refusal(limiter, acme, charge(1))


@given(
    st.lists(
        st.tuples(st.integers(0, 40), st.integers(0, 40), st.integers(0, 60), st.booleans()),
        max_size=40,
    )
)
def test_no_course_of_events_spends_more_than_a_budget(
    steps: list[tuple[int, int, int, bool]],
) -> None:
    """Whatever is reserved, settled with less, or never settled."""

    async def run() -> None:
        limiter, acme, spent = MemoryLimiter(), acme_with(tokens_per_day=100), 0
        for asked_in, asked_out, used_percent, settle in steps:
            try:
                held = await limiter.reserve(acme, charge(asked_in, asked_out))
            except RateLimitedError:
                continue
            used = asked_in + asked_out
            if settle:
                used = used * used_percent // 100
                await limiter.settle(held, used, 0)
            spent += used
            assert spent <= 100

    asyncio.run(run())
