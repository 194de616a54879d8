"""What a caller may still use: requests and tokens per minute, set aside before and settled after.

A request sets aside what it may use at most (prompt and allowed output), in both buckets or in
neither, and is settled with what it used. A refund is worth what the reservation's debt has not
drained by itself: what was held through a minute was paid for by that minute, and does not
come back as a burst on top of the next one.
"""

from __future__ import annotations

import math
import secrets
import time
from collections.abc import Callable
from itertools import count
from typing import Literal, NamedTuple, Protocol

from edge_tier.gateway.gcra import (
    FULL,
    TICKS,
    WINDOW_S,
    Debts,
    charge,
    corrected,
    drained,
    gcra,
)
from edge_tier.gateway.request import Caller, Limits, Reservation
from wire.errors import HeadwaterError, TooLargeError


class RateLimitedError(HeadwaterError):
    """A limit is used up for now. Nothing was charged; ``Retry-After`` says when it may pass."""

    status = 429
    code = "rate_limit_exceeded"


class TokensOverLimitError(TooLargeError):
    """One request that asks for more tokens than its limit ever holds; waiting does not help."""

    code = "tokens_over_limit"


def check_size(limits: Limits, tokens: int) -> None:
    """Refuse what could never pass.

    Raises:
        TokensOverLimitError: more tokens than the bucket holds when full.
        ValueError: a negative number of tokens.
    """
    if tokens < 0:
        raise ValueError("a request cannot ask for fewer than 0 tokens")
    if 0 < limits.tokens_per_minute < tokens:
        raise TokensOverLimitError(
            f"this request needs {tokens} tokens (prompt and max_tokens), and the limit is "
            f"{limits.tokens_per_minute} tokens per minute: shorten it or lower max_tokens"
        )


def reserved(
    id: str,  # noqa: A002 - the field's own name
    caller: Caller,
    tokens: int,
    debts: Debts,
) -> Reservation:
    """A reservation that left the buckets at ``debts``."""
    requests_limit = caller.limits.requests_per_minute
    tokens_limit = caller.limits.tokens_per_minute
    return Reservation(
        id=id,
        key=caller.key_id,
        tokens=tokens,
        limit_requests=requests_limit,
        remaining_requests=_remaining(debts.requests, requests_limit),
        reset_requests_s=_seconds(debts.requests, requests_limit),
        limit_tokens=tokens_limit,
        remaining_tokens=_remaining(debts.tokens, tokens_limit),
        reset_tokens_s=_seconds(debts.tokens, tokens_limit),
    )


def refusal(caller: Caller, tokens: int, debts: Debts) -> RateLimitedError:
    """Why a request of ``tokens`` does not pass buckets in this state, and when it would."""
    limits = caller.limits
    name: Literal["requests", "tokens"] = "requests"
    limit, wait_s = limits.requests_per_minute, 0.0
    if limit:
        wait_s = _seconds(gcra(debts.requests, 0, 1, TICKS, limit).wait, limit)
    if limits.tokens_per_minute:
        wait = gcra(debts.tokens, 0, tokens, TICKS, limits.tokens_per_minute).wait
        tokens_wait_s = _seconds(wait, limits.tokens_per_minute)
        if tokens_wait_s > wait_s:
            name, limit, wait_s = "tokens", limits.tokens_per_minute, tokens_wait_s
    asked = f", this request needs {tokens}" if name == "tokens" else ""
    return RateLimitedError(
        f"rate limit reached: {limit} {name} per minute{asked}; try again in {duration(wait_s)}",
        headers=retry_headers(wait_s) | rate_headers(reserved("", caller, 0, debts)),
    )


def retry_headers(wait_s: float) -> dict[str, str]:
    """``Retry-After`` in whole seconds (RFC 9110 10.2.3), and the exact one OpenAI's clients read
    first."""
    return {
        "Retry-After": str(max(1, math.ceil(wait_s))),
        "retry-after-ms": str(max(1, math.ceil(wait_s * 1e3))),
    }


def rate_headers(state: Reservation) -> dict[str, str]:
    """What is left, as draft-ietf-httpapi-ratelimit-headers-10 and as OpenAI say it.

    A bucket without a limit is not mentioned. ``t`` and ``reset`` tell when the bucket is full.
    """
    policies, states, headers = [], [], {}
    for name, unit, limit, remaining, reset_s in (
        (
            "requests",
            "",
            state.limit_requests,
            state.remaining_requests,
            state.reset_requests_s,
        ),
        (
            "tokens",
            ';qu="tokens"',
            state.limit_tokens,
            state.remaining_tokens,
            state.reset_tokens_s,
        ),
    ):
        if limit:
            policies.append(f'"{name}";q={limit};w={WINDOW_S}{unit}')
            states.append(f'"{name}";r={remaining};t={math.ceil(reset_s)}')
            headers[f"x-ratelimit-limit-{name}"] = str(limit)
            headers[f"x-ratelimit-remaining-{name}"] = str(remaining)
            headers[f"x-ratelimit-reset-{name}"] = duration(reset_s)
    if policies:
        headers["RateLimit-Policy"] = ", ".join(policies)
        headers["RateLimit"] = ", ".join(states)
    return headers


def duration(seconds: float) -> str:
    """A time as OpenAI writes it, rounded up: ``12ms``, ``8.64s``, ``6m0s``."""
    milliseconds = math.ceil(seconds * 1e3)
    if milliseconds < 1_000:
        return f"{milliseconds}ms"
    minutes, rest = divmod(milliseconds, 60_000)
    hours, minutes = divmod(minutes, 60)
    text = f"{rest / 1e3:g}s"
    if hours:
        return f"{hours}h{minutes}m{text}"
    return f"{minutes}m{text}" if minutes else text


def _remaining(debt: int, limit: int) -> int:
    return max(0, limit - -(-debt // TICKS))


def _seconds(ticks: int, limit: int) -> float:
    """How long a bucket of ``limit`` takes to drain so much."""
    return ticks / (limit * 1e6) if limit else 0.0


class Limiter(Protocol):
    """Sets tokens aside before a request and settles them after it."""

    async def reserve(self, caller: Caller, tokens: int) -> Reservation:
        """Charge one request and ``tokens`` (prompt and allowed output), both or neither.

        Raises:
            RateLimitedError: not now; says when.
            TokensOverLimitError: never, at this size.
        """
        ...

    async def settle(self, reservation: Reservation, used_tokens: int) -> None:
        """Correct the charge to what was used. Only the first call for a reservation counts."""
        ...

    async def aclose(self) -> None:
        """Release what is held; may be called twice."""
        ...


class _Open(NamedTuple):
    """A reservation that is not settled."""

    placed: int
    at_us: int


class MemoryLimiter:
    """Limits of one process.

    Holds at most ``max_callers`` buckets and forgets the one untouched for longest. After a minute
    untouched a bucket is full and forgetting it changes nothing; so a debt is only lost when more
    callers than that are active within one minute. Of ``max_open`` unsettled reservations the
    oldest is forgotten and gets no refund.
    """

    def __init__(
        self,
        clock: Callable[[], float] = time.monotonic,
        *,
        max_callers: int = 100_000,
        max_open: int = 100_000,
    ) -> None:
        self._clock = clock
        self._max_callers = max_callers
        self._max_open = max_open
        self._buckets: dict[str, tuple[Debts, int]] = {}
        self._open: dict[str, _Open] = {}
        self._prefix = f"m{secrets.token_hex(8)}-"
        self._numbers = count()

    async def reserve(self, caller: Caller, tokens: int) -> Reservation:
        """See :class:`Limiter`."""
        check_size(caller.limits, tokens)
        now_us = int(self._clock() * 1e6)
        debts = self._debts(caller.key_id, now_us, caller.limits)
        after = charge(debts, tokens, caller.limits)
        if after is None:
            raise refusal(caller, tokens, debts)
        self._put(caller.key_id, after, now_us)
        id = ""  # noqa: A001 - the field's own name
        if caller.limits.tokens_per_minute:
            id = f"{self._prefix}{next(self._numbers)}"  # noqa: A001
            self._open[id] = _Open(after.tokens, now_us)
            if len(self._open) > self._max_open:
                del self._open[next(iter(self._open))]
        return reserved(id, caller, tokens, after)

    async def settle(self, reservation: Reservation, used_tokens: int) -> None:
        """See :class:`Limiter`."""
        opened = self._open.pop(reservation.id, None)
        if opened is None:
            return
        now_us = int(self._clock() * 1e6)
        limits = Limits(
            requests_per_minute=reservation.limit_requests,
            tokens_per_minute=reservation.limit_tokens,
        )
        debts = self._debts(reservation.key, now_us, limits)
        tokens = corrected(
            debts.tokens,
            placed=opened.placed,
            elapsed_us=now_us - opened.at_us,
            limit=reservation.limit_tokens,
            reserved=reservation.tokens,
            used=used_tokens,
        )
        self._put(reservation.key, debts._replace(tokens=tokens), now_us)

    async def aclose(self) -> None:
        """See :class:`Limiter`."""
        self._buckets.clear()
        self._open.clear()

    def _debts(self, key: str, now_us: int, limits: Limits) -> Debts:
        found = self._buckets.get(key)
        return drained(found[0], now_us - found[1], limits) if found else FULL

    def _put(self, key: str, debts: Debts, now_us: int) -> None:
        self._buckets.pop(key, None)  # so that the order is that of the last use
        self._buckets[key] = (debts, now_us)
        if len(self._buckets) > self._max_callers:
            del self._buckets[next(iter(self._buckets))]
