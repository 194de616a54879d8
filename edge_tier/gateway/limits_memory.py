"""Limits of one process, in memory. The rules are in ``gcra`` and ``budgets``."""

from __future__ import annotations

import secrets
import time
from collections.abc import Callable
from itertools import count
from typing import NamedTuple

from edge_tier.gateway import budgets
from edge_tier.gateway.budgets import NOTHING, Spent
from edge_tier.gateway.gcra import FULL, Debts, charged, costs, drained, settled
from edge_tier.gateway.limits import (
    LimitsConfig,
    RateLimitedError,
    Subject,
    Subjects,
    budget_refusal,
    check_size,
    crowd_refusal,
    rate_refusal,
    used_of,
)
from edge_tier.gateway.request import Caller, Charge, Reservation, Standing

_DEFAULTS = LimitsConfig()


class _State:
    """How a subject stands."""

    __slots__ = ("at_us", "debts", "running", "spent")

    def __init__(self, at_us: int) -> None:
        self.debts = FULL
        self.at_us = at_us
        self.running: dict[str, int] = {}
        """Reservation → when it no longer counts, in microseconds; earliest first."""
        self.spent = NOTHING


class _Open(NamedTuple):
    """A reservation that is not settled."""

    charged: list[tuple[Subject, Debts, Spent]]
    """Whose debts stood where right after it, and in which day and month."""
    at_us: int


class MemoryLimiter:
    """Limits of one process.

    Holds at most ``max_subjects`` states and forgets the one untouched for longest. After a minute
    untouched a bucket is full and forgetting it changes nothing; so a debt is only lost when more
    subjects than that are active within one minute (and a budget when more than that are at all).
    Of ``max_open`` unsettled reservations the oldest is forgotten and gets no refund.

    Args:
        clock: monotonic seconds.
        wall: Unix seconds.
    """

    def __init__(
        self,
        clock: Callable[[], float] = time.monotonic,
        config: LimitsConfig = _DEFAULTS,
        *,
        wall: Callable[[], float] = time.time,
    ) -> None:
        self._clock = clock
        self._wall = wall
        self._config = config
        self._subjects = Subjects(config)
        self._hold_us = int(config.hold_s * 1e6)
        self._states: dict[str, _State] = {}
        self._open: dict[str, _Open] = {}
        self._prefix = f"m{secrets.token_hex(8)}-"
        self._numbers = count()

    async def reserve(self, caller: Caller, charge: Charge) -> Reservation:
        """See ``Limiter``."""
        return self.try_reserve(caller, charge)

    def try_reserve(self, caller: Caller, charge: Charge) -> Reservation:
        """The same without a coroutine; raises the same."""
        return self.reserve_for(
            self._subjects.of(caller, charge.model, charge.alias), caller, charge
        )

    def reserve_for(self, subjects: list[Subject], caller: Caller, charge: Charge) -> Reservation:
        """The same, for these subjects."""
        if not subjects:
            return Reservation(caller=caller, charge=charge)
        if charge.input_tokens < 0 or charge.output_tokens < 0:
            raise ValueError("a request cannot ask for fewer than 0 tokens")
        now_us = int(self._clock() * 1e6)
        try:
            checked = self._checked(subjects, charge, now_us)
        except RateLimitedError:
            for subject in subjects:  # a later one may never let it pass
                check_size(subject, charge)
            raise
        return self._commit(checked, caller, charge, now_us)

    async def settle(self, reservation: Reservation, input_tokens: int, output_tokens: int) -> None:
        """See ``Limiter``."""
        self.try_settle(reservation, input_tokens, output_tokens)

    def try_settle(self, reservation: Reservation, input_tokens: int, output_tokens: int) -> None:
        """The same without a coroutine."""
        opened = self._open.pop(reservation.id, None)
        if opened is None:
            return
        now_us = int(self._clock() * 1e6)
        reserved = costs(reservation.charge)
        used = used_of(input_tokens, output_tokens)
        for subject, placed, at in opened.charged:
            state = self._state(subject.id, now_us)
            if subject.limits.concurrent_streams:
                state.running.pop(reservation.id, None)
            state.debts = settled(
                drained(state.debts, now_us - state.at_us, subject.buckets),
                placed=placed,
                elapsed_us=now_us - opened.at_us,
                reserved=reserved,
                used=used,
                buckets=subject.buckets,
            )
            state.at_us = now_us
            if subject.has_budget:
                spent = budgets.now(state.spent, self._wall())
                state.spent = budgets.settled(spent, at, used.tokens - reserved.tokens)

    def budget_used(self, caller: Caller) -> float:
        """See ``Limiter``."""
        used = 0.0
        for subject in self._subjects.of(caller):
            if subject.has_budget and (state := self._states.get(subject.id)) is not None:
                spent = budgets.now(state.spent, self._wall())
                used = max(used, budgets.part_used(spent, subject.limits))
        return used

    async def aclose(self) -> None:
        """See ``Limiter``."""
        self._states.clear()
        self._open.clear()

    def _state(self, subject_id: str, now_us: int) -> _State:
        """A subject's state, which is now the last one touched."""
        state = self._states.pop(subject_id, None) or _State(now_us)
        self._states[subject_id] = state
        if len(self._states) > self._config.max_subjects:
            del self._states[next(iter(self._states))]
        return state

    def _checked(
        self, subjects: list[Subject], charge: Charge, now_us: int
    ) -> list[tuple[Subject, _State, Debts, Spent]]:
        """How all of them would stand after this request. Changes nothing.

        Raises:
            RateLimitedError, BudgetExceededError: one of them may not.
        """
        cost = costs(charge)
        checked = []
        for subject in subjects:
            state = self._state(subject.id, now_us)
            debts = charged(state.debts, now_us - state.at_us, cost, subject.buckets)
            if debts is None:
                owed = drained(state.debts, now_us - state.at_us, subject.buckets)
                raise rate_refusal(subject, charge, owed)
            if subject.limits.concurrent_streams:
                _check_running(subject, state, now_us)
            spent = NOTHING
            if subject.has_budget:
                spent = self._check_budgets(subject, state, charge)
            checked.append((subject, state, debts, spent))
        return checked

    def _check_budgets(self, subject: Subject, state: _State, charge: Charge) -> Spent:
        """What the subject would have spent after this request. Changes nothing.

        Raises:
            BudgetExceededError: it may not.
        """
        unix_s = self._wall()
        spent = budgets.now(state.spent, unix_s)
        limits = subject.limits
        if 0 < limits.tokens_per_day < spent.in_day + charge.tokens:
            left_s = budgets.seconds_to_day_end(unix_s)
            raise budget_refusal(
                subject, charge, "day", limits.tokens_per_day, spent.in_day, left_s
            )
        if 0 < limits.tokens_per_month < spent.in_month + charge.tokens:
            left_s = budgets.seconds_to_month_end(unix_s)
            raise budget_refusal(
                subject, charge, "month", limits.tokens_per_month, spent.in_month, left_s
            )
        return budgets.added(spent, charge.tokens)

    def _commit(
        self,
        checked: list[tuple[Subject, _State, Debts, Spent]],
        caller: Caller,
        charge: Charge,
        now_us: int,
    ) -> Reservation:
        id = f"{self._prefix}{next(self._numbers)}"  # noqa: A001 - the field's own name
        for subject, state, debts, spent in checked:
            state.debts, state.at_us = debts, now_us
            if subject.has_budget:
                state.spent = spent
            if subject.limits.concurrent_streams:
                state.running[id] = now_us + self._hold_us
        self._open[id] = _Open([(one[0], one[2], one[3]) for one in checked], now_us)
        if len(self._open) > self._config.max_open:
            del self._open[next(iter(self._open))]
        standings = tuple([Standing(one[0].limits, one[2]) for one in checked])
        return Reservation(id=id, caller=caller, charge=charge, standings=standings)


def _check_running(subject: Subject, state: _State, now_us: int) -> None:
    """Whether one more request may run. Raises ``RateLimitedError``."""
    running = state.running
    while running and (oldest := next(iter(running.items())))[1] <= now_us:
        del running[oldest[0]]
    if len(running) >= subject.limits.concurrent_streams:
        raise crowd_refusal(subject)
