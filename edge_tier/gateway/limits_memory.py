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
    Subject,
    Subjects,
    budget_refusal,
    check_size,
    crowd_refusal,
    rate_refusal,
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
        return self.reserve_for(self._subjects.of(caller, charge.model), caller, charge)

    def reserve_for(self, subjects: list[Subject], caller: Caller, charge: Charge) -> Reservation:
        """The same, for these subjects."""
        if not subjects:
            return Reservation(caller=caller, charge=charge)
        if charge.input_tokens < 0 or charge.output_tokens < 0:
            raise ValueError("a request cannot ask for fewer than 0 tokens")
        now_us, cost = int(self._clock() * 1e6), costs(charge)
        checked: list[tuple[Subject, _State, Debts, Spent]] = []
        for subject in subjects:
            state = self._state(subject.id, now_us)
            debts = charged(state.debts, now_us - state.at_us, cost, subject.buckets)
            if debts is None:
                check_size(subject, charge)
                raise rate_refusal(
                    subject, charge, drained(state.debts, now_us - state.at_us, subject.buckets)
                )
            if subject.limits.concurrent_streams:
                _check_running(subject, state, now_us)
            spent = NOTHING
            if subject.has_budget:
                spent = self._check_budgets(subject, state, charge)
            checked.append((subject, state, debts, spent))
        return self._commit(checked, caller, charge, now_us)

    async def settle(self, reservation: Reservation, input_tokens: int, output_tokens: int) -> None:
        """See ``Limiter``."""
        opened = self._open.pop(reservation.id, None)
        if opened is None:
            return
        now_us = int(self._clock() * 1e6)
        reserved = costs(reservation.charge)
        used = Debts(1, input_tokens + output_tokens, input_tokens, output_tokens)
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

    def _check_budgets(self, subject: Subject, state: _State, charge: Charge) -> Spent:
        """What the subject would have spent after this request. Changes nothing.

        Raises:
            TokensOverLimitError, BudgetExceededError: it may not.
        """
        check_size(subject, charge)
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
        standings = tuple(
            [
                Standing(subject.limits, debts, budgets.part_used(spent, subject.limits))
                for subject, _, debts, spent in checked
            ]
        )
        return Reservation(id=id, caller=caller, charge=charge, standings=standings)


def _check_running(subject: Subject, state: _State, now_us: int) -> None:
    """Whether one more request may run. Raises ``RateLimitedError``."""
    running = state.running
    while running and (oldest := next(iter(running.items())))[1] <= now_us:
        del running[oldest[0]]
    if len(running) >= subject.limits.concurrent_streams:
        raise crowd_refusal(subject)
