from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Callable
from datetime import UTC, datetime
from fractions import Fraction
from typing import Any, NamedTuple

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

from edge_tier.gateway.gcra import BUCKETS, TICKS
from edge_tier.gateway.limits import LimitsConfig, RateLimitedError, Subject, TokensOverLimitError
from edge_tier.gateway.limits_memory import MemoryLimiter
from edge_tier.gateway.request import Caller, Reservation, SharedLimits
from tests.fakes.limits import acme_with, admitted, charge, refusal, requests

MakeCaller = Callable[..., Caller]
BEGAN = datetime(2024, 1, 30, 23, 50, tzinfo=UTC)
"""Just before a day ends, and a month soon after."""
HOLD_MS = 3_600_000


async def test_without_a_coroutine_it_is_the_same() -> None:
    limiter, acme = MemoryLimiter(), acme_with(tokens_per_minute=60)
    held = limiter.try_reserve(acme, charge(60))
    with pytest.raises(RateLimitedError):
        limiter.try_reserve(acme, charge(1))
    limiter.try_settle(held, 10, 0)
    assert await admitted(limiter, acme, 50)


async def test_closing_twice_is_fine(clock: Any) -> None:
    limiter = MemoryLimiter(clock)
    await limiter.aclose()
    await limiter.aclose()


async def test_the_caller_untouched_for_longest_is_forgotten(
    clock: Any, caller: MakeCaller
) -> None:
    limiter = MemoryLimiter(clock, LimitsConfig(max_subjects=4))
    names = ("busy", "idle", "new1", "new2", "new3")
    busy, idle, *new = (caller(requests=1, key_id=name) for name in names)
    await limiter.reserve(busy, charge(1))
    await limiter.reserve(idle, charge(1))
    clock.advance(60)
    await limiter.reserve(busy, charge(1))
    for one in new:
        await limiter.reserve(one, charge(1))
    assert not await admitted(limiter, busy, 1)
    assert not await admitted(limiter, new[0], 1)
    assert await admitted(limiter, idle, 1)


async def test_open_reservations_are_bounded(clock: Any, caller: MakeCaller) -> None:
    limiter = MemoryLimiter(clock, LimitsConfig(max_open=1))
    first = await limiter.reserve(caller(tokens=100), charge(50))
    second = await limiter.reserve(caller(tokens=100), charge(50))
    await limiter.settle(first, 0, 0)
    assert not await admitted(limiter, caller(tokens=100), 50)
    await limiter.settle(second, 0, 0)
    assert await admitted(limiter, caller(tokens=100), 50)


async def test_requests_that_never_end_stop_counting_each_in_its_time(clock: Any) -> None:
    limiter = MemoryLimiter(clock, LimitsConfig(hold_s=100))
    acme = acme_with(concurrent_streams=2)
    await limiter.reserve(acme, charge(1))
    clock.advance(60)
    await limiter.reserve(acme, charge(1))
    clock.advance(39)
    assert not await admitted(limiter, acme, 1)
    clock.advance(1)
    assert await admitted(limiter, acme, 1)
    assert not await admitted(limiter, acme, 1)


async def test_a_request_settled_after_its_time_frees_no_place_of_another(clock: Any) -> None:
    limiter = MemoryLimiter(clock, LimitsConfig(hold_s=100))
    acme = acme_with(concurrent_streams=1)
    late = await limiter.reserve(acme, charge(1))
    clock.advance(100)
    assert await admitted(limiter, acme, 1)
    await limiter.settle(late, 1, 0)
    assert not await admitted(limiter, acme, 1)


async def test_a_refusal_by_the_last_subject_charges_none(clock: Any) -> None:
    limiter = MemoryLimiter(clock)
    free, full = (
        Subject("key", name, SharedLimits(requests_per_minute=count))
        for name, count in (("free", 5), ("full", 1))
    )
    acme = acme_with()
    limiter.reserve_for([full], acme, charge(1))
    for _ in range(9):
        with pytest.raises(RateLimitedError):
            limiter.reserve_for([free, full], acme, charge(1))
    assert requests(limiter.reserve_for([free], acme, charge(1))).remaining == 4


async def test_a_caller_without_limits_leaves_nothing_behind(
    clock: Any, caller: MakeCaller
) -> None:
    limiter = MemoryLimiter(clock, LimitsConfig(max_open=1))
    held = await limiter.reserve(caller(tokens=100), charge(100))
    free = [await limiter.reserve(caller(), charge(10**9)) for _ in range(3)]
    assert {(one.id, one.standings) for one in free} == {("", ())}
    await limiter.settle(held, 0, 0)
    assert await admitted(limiter, caller(tokens=100), 100)


async def test_two_limiters_do_not_settle_each_others_reservations(
    clock: Any, caller: MakeCaller
) -> None:
    one, other = MemoryLimiter(clock), MemoryLimiter(clock)
    acme = caller(tokens=10)
    held = await one.reserve(acme, charge(10))
    await other.reserve(acme, charge(10))
    await other.settle(held, 0, 0)
    assert not await admitted(other, acme, 1)
    await one.settle(held, 0, 0)
    assert await admitted(one, acme, 10)


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


class NaiveBucket:
    """A token bucket as one would draw it: what is left, in fractions of a token."""

    def __init__(self, limit: int) -> None:
        self.limit, self.left = limit, Fraction(limit)
        self.used = 0

    def refill(self, milliseconds: int) -> None:
        self.left = min(Fraction(self.limit), self.left + self._gain(milliseconds))

    def take(self, amount: int) -> tuple[Fraction, int]:
        """What is missing after it, and how much of that was taken now."""
        self.left -= amount
        self.used += amount
        return self.limit - self.left, amount

    def correct(self, taken: tuple[Fraction, int], used: int, milliseconds: int) -> None:
        """So many milliseconds after the taking it turns out how much was used."""
        missing, amount = taken
        self.used += min(used, amount) - amount
        if used > amount:
            deepest = min(self.left, Fraction(-self.limit))
            self.left = max(self.left - (used - amount), deepest)
        else:
            undrained = max(Fraction(0), missing - self._gain(milliseconds))
            refund = min(Fraction(amount - used), undrained)
            self.left = min(Fraction(self.limit), self.left + refund)

    def _gain(self, milliseconds: int) -> Fraction:
        return Fraction(self.limit * milliseconds, 60_000)


class NaiveSubject:
    """One who has limits, kept in the plainest way."""

    def __init__(self, limits: SharedLimits) -> None:
        rates = [getattr(limits, f"{name}_per_minute") for name in BUCKETS]
        self.buckets = {
            name: NaiveBucket(rate) for name, rate in zip(BUCKETS, rates, strict=True) if rate
        }
        self.limits = limits
        self.running: dict[str, int] = {}
        """Reservation → when it no longer counts, in milliseconds."""
        self.spent: Counter[str] = Counter()
        """By name of the day and of the month."""

    def admits(self, cost: dict[str, int], periods: tuple[str, str], now_ms: int) -> bool:
        limits, tokens = self.limits, cost["tokens"]
        running = sum(until_ms > now_ms for until_ms in self.running.values())
        budgets = zip((limits.tokens_per_day, limits.tokens_per_month), periods, strict=True)
        return (
            all(bucket.left >= cost[name] for name, bucket in self.buckets.items())
            and (not limits.concurrent_streams or running < limits.concurrent_streams)
            and all(not limit or self.spent[p] + tokens <= limit for limit, p in budgets)
        )

    def could_ever(self, cost: dict[str, int]) -> bool:
        limits, tokens = self.limits, cost["tokens"]
        return all(bucket.limit >= cost[name] for name, bucket in self.buckets.items()) and all(
            not limit or tokens <= limit
            for limit in (limits.tokens_per_day, limits.tokens_per_month)
        )


class Held(NamedTuple):
    """A reservation and what the naive subjects know of it."""

    made: Reservation
    cost: dict[str, int]
    taken: list[dict[str, tuple[Fraction, int]]]
    at_ms: int
    periods: tuple[str, str]


def limits_up_to(tokens: int) -> st.SearchStrategy[SharedLimits]:
    """Any limits, each of them often missing."""

    def some(most: int) -> st.SearchStrategy[int]:
        return st.one_of(st.just(0), st.integers(1, most))

    return st.builds(
        SharedLimits,
        requests_per_minute=some(9),
        tokens_per_minute=some(tokens),
        input_tokens_per_minute=some(tokens),
        output_tokens_per_minute=some(tokens),
        concurrent_streams=some(4),
        tokens_per_day=some(4 * tokens),
        tokens_per_month=some(8 * tokens),
    )


class LimiterMachine(RuleBasedStateMachine):
    """Any course of reserving, waiting and settling agrees with a naive key, tenant and model, and
    nobody ever gets more than time has allowed."""

    held = Bundle("held")

    @initialize(key=limits_up_to(500), tenant=limits_up_to(500), model=limits_up_to(500))
    def begin(self, key: SharedLimits, tenant: SharedLimits, model: SharedLimits) -> None:
        self.elapsed_ms = 0
        self.limiter = MemoryLimiter(
            lambda: self.elapsed_ms / 1e3,
            LimitsConfig(tenants={"acme": tenant}, models={"m": model}),
            wall=self.unix_s,
        )
        self.caller = acme_with(**msgspec.structs.asdict(key))
        self.subjects = [NaiveSubject(limits) for limits in (key, tenant, model)]

    def unix_s(self) -> float:
        return BEGAN.timestamp() + self.elapsed_ms / 1e3

    def periods(self) -> tuple[str, str]:
        now = datetime.fromtimestamp(self.unix_s(), UTC)
        return f"{now:%Y-%m-%d}", f"{now:%Y-%m}"

    @rule(milliseconds=st.one_of(st.integers(0, 90_000), st.just(86_400_000)))
    def wait(self, milliseconds: int) -> None:
        self.elapsed_ms += milliseconds
        for subject in self.subjects:
            for bucket in subject.buckets.values():
                bucket.refill(milliseconds)

    @rule(target=held, asked_in=st.integers(0, 500), asked_out=st.integers(0, 500))
    def reserve(self, asked_in: int, asked_out: int) -> Any:
        cost = dict(zip(BUCKETS, (1, asked_in + asked_out, asked_in, asked_out), strict=True))
        periods = self.periods()
        if not all(subject.could_ever(cost) for subject in self.subjects):
            with pytest.raises(TokensOverLimitError):
                self.limiter.try_reserve(self.caller, charge(asked_in, asked_out))
            return multiple()
        if not all(subject.admits(cost, periods, self.elapsed_ms) for subject in self.subjects):
            with pytest.raises(RateLimitedError):
                self.limiter.try_reserve(self.caller, charge(asked_in, asked_out))
            return multiple()
        made = self.limiter.try_reserve(self.caller, charge(asked_in, asked_out))
        taken = []
        for subject in self.subjects:
            taken.append({name: b.take(cost[name]) for name, b in subject.buckets.items()})
            subject.running[made.id] = self.elapsed_ms + HOLD_MS
            for period in periods:
                subject.spent[period] += cost["tokens"]
        self.compare(made)
        return Held(made, cost, taken, self.elapsed_ms, periods)

    def compare(self, made: Reservation) -> None:
        """What a reservation says is left is what the naive buckets have."""
        standings = iter(made.standings)
        for subject in self.subjects:
            if subject.limits != SharedLimits():
                debts = dict(zip(BUCKETS, next(standings).debts, strict=True))
                for name, bucket in subject.buckets.items():
                    assert Fraction(debts[name], TICKS) == bucket.limit - bucket.left

    @rule(one=consumes(held), used_in=st.integers(0, 600), used_out=st.integers(0, 600))
    def settle(self, one: Held, used_in: int, used_out: int) -> None:
        self.settled(one, used_in, used_out, times=1)

    @rule(one=consumes(held), share=st.fractions(0, 1), times=st.integers(1, 3))
    def settle_with_less(self, one: Held, share: Fraction, times: int) -> None:
        cost = one.cost
        used_in, used_out = (int(cost[f"{side}_tokens"] * share) for side in ("input", "output"))
        self.settled(one, used_in, used_out, times=times)

    def settled(self, one: Held, used_in: int, used_out: int, *, times: int) -> None:
        for _ in range(times):
            self.limiter.try_settle(one.made, used_in, used_out)
        used = dict(zip(BUCKETS, (1, used_in + used_out, used_in, used_out), strict=True))
        more = used["tokens"] - one.cost["tokens"]
        for subject, taken in zip(self.subjects, one.taken, strict=True):
            for name, bucket in subject.buckets.items():
                bucket.correct(taken[name], used[name], self.elapsed_ms - one.at_ms)
            subject.running.pop(one.made.id, None)
            for then, now in zip(one.periods, self.periods(), strict=True):
                if more > 0 or then == now:
                    subject.spent[now] += more

    @invariant()
    def nobody_has_more_than_time_allowed(self) -> None:
        """Counted is what is held, and of what was used that for which there was a reservation:
        beyond it nothing can be refused any more."""
        for subject in getattr(self, "subjects", ()):
            for bucket in subject.buckets.values():
                assert bucket.left <= bucket.limit
                allowed = Fraction(bucket.limit * (60_000 + self.elapsed_ms), 60_000)
                assert bucket.used <= allowed


LimiterMachine.TestCase.settings = settings(max_examples=60, stateful_step_count=30, deadline=None)
TestLimiterAgainstNaiveSubjects = LimiterMachine.TestCase
