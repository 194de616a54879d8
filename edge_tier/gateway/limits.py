"""What a caller may still use: set aside before a request, and settled after it.

Limits are those of the *key*, of its *tenant* and of the *model*: requests, tokens, input and
output tokens a minute; requests at once; tokens a day and a month. A request sets aside what it may
use at most (prompt and allowed output) in all of them or in none, and is settled with what it used.
A refund is worth what the reservation's debt has not drained by itself: what was held through a
minute was paid for by that minute, and does not come back as a burst on top of the next one.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal, Protocol

from edge_tier.gateway.gcra import BUCKETS, TICKS, Debts, active, costs, gcra, rates
from edge_tier.gateway.limits_headers import (
    NO_RETRY,
    duration,
    rate_headers,
    retry_headers,
    seconds,
)
from edge_tier.gateway.request import Caller, Charge, Reservation, SharedLimits, Standing
from wire.errors import HeadwaterError, TooLargeError

_NO_LIMITS = SharedLimits()
_SUBJECTS = 4
"""Of one request: a key, a tenant, a model, an alias."""
_MAX_KNOWN = 10_000


class RateLimitedError(HeadwaterError):
    """A limit is used up for now. Nothing was charged; ``Retry-After`` says when it may pass."""

    status = 429
    code = "rate_limit_exceeded"


class BudgetExceededError(RateLimitedError):
    """A day's or month's budget of tokens is used up. Nothing was charged."""

    code = "insufficient_quota"


class TokensOverLimitError(TooLargeError):
    """One request that asks for more tokens than its limit ever holds; waiting does not help."""

    code = "tokens_over_limit"


@dataclass(frozen=True, slots=True, kw_only=True)
class LimitsConfig:
    """Limits besides those that the keys carry, and bounds of what is remembered."""

    tenants: dict[str, SharedLimits] = field(default_factory=dict)
    """By tenant, for all its keys together."""
    tenant_default: SharedLimits = _NO_LIMITS
    """For tenants that are not named."""
    models: dict[str, SharedLimits] = field(default_factory=dict)
    """By model, whether a request names it or an alias is routed to it; or by alias, for what names
    that. For all callers together. Counted where the plan begins: a fallback is not."""
    max_subjects: int = 100_000
    """Keys, tenants and models that are remembered; the one untouched for longest is forgotten."""
    max_open: int = 100_000
    """Reservations that are not settled yet; the oldest is forgotten and gets no refund."""
    hold_s: float = 3_600.0
    """After so long a reservation can no longer be settled, nor counts as a running request;
    longer than any answer."""

    def __post_init__(self) -> None:
        if self.max_subjects < _SUBJECTS:
            raise ValueError(f"max_subjects is {self.max_subjects}; a request has {_SUBJECTS}")


Kind = Literal["key", "tenant", "model"]


class Subject:
    """Something that has limits."""

    __slots__ = ("buckets", "has_budget", "id", "kind", "limits", "name")

    def __init__(self, kind: Kind, name: str, limits: SharedLimits) -> None:
        self.kind = kind
        self.name = name
        self.limits = limits
        self.id = f"{kind}:{name}"
        self.buckets = active(limits)
        self.has_budget = bool(limits.tokens_per_day or limits.tokens_per_month)

    @property
    def is_limited(self) -> bool:
        """Whether there is anything to be counted."""
        return bool(self.buckets or self.has_budget or self.limits.concurrent_streams)


class Subjects:
    """Who is charged for a request: the key, the tenant, the model and the alias that stood for it,
    where they have limits.

    Worked out once for each of these; a caller is the same object as long as its key is the same.
    """

    def __init__(self, config: LimitsConfig) -> None:
        self._config = config
        self._known: dict[tuple[int, str, str], tuple[Caller, list[Subject]]] = {}

    def of(self, caller: Caller, model: str = "", alias: str = "") -> list[Subject]:
        """Those of a request. The list is the same object every time: it is not to be changed."""
        config = self._config
        if model not in config.models:  # names of a client's invention are not remembered
            model = ""
        if alias not in config.models or alias == model:
            alias = ""
        known = self._known.get((id(caller), model, alias))
        if known is not None and known[0] is caller:
            return known[1]
        tenant = config.tenants.get(caller.tenant, config.tenant_default)
        all_of_them = (
            Subject("key", caller.key_id, caller.limits),
            Subject("tenant", caller.tenant, tenant),
            Subject("model", model, config.models.get(model, _NO_LIMITS)),
            Subject("model", alias, config.models.get(alias, _NO_LIMITS)),
        )
        found = [subject for subject in all_of_them if subject.is_limited]
        if len(self._known) >= _MAX_KNOWN:
            self._known.clear()
        self._known[id(caller), model, alias] = (caller, found)
        return found


def check_size(subject: Subject, charge: Charge) -> None:
    """Refuse what could never pass.

    Raises:
        TokensOverLimitError: more tokens than a bucket holds when full, or a budget has in all.
        ValueError: a negative number of tokens.
    """
    if charge.input_tokens < 0 or charge.output_tokens < 0:
        raise ValueError("a request cannot ask for fewer than 0 tokens")
    limits = subject.limits
    for name, cost, limit in zip(BUCKETS, costs(charge), rates(limits), strict=True):
        if 0 < limit < cost:
            raise _too_large(subject, cost, limit, f"{_words(name)} per minute")
    for period, limit in (("day", limits.tokens_per_day), ("month", limits.tokens_per_month)):
        if 0 < limit < charge.tokens:
            raise _too_large(subject, charge.tokens, limit, f"tokens per {period}")


def used_of(input_tokens: int, output_tokens: int) -> Debts:
    """What was used in each bucket; a count below nothing, as a broken backend may tell, is
    nothing."""
    used_in, used_out = max(0, input_tokens), max(0, output_tokens)
    return Debts(1, used_in + used_out, used_in, used_out)


def _too_large(subject: Subject, cost: int, limit: int, what: str) -> TokensOverLimitError:
    return TokensOverLimitError(
        f"this request needs {cost} tokens (prompt and max_tokens), and the {subject.kind}'s limit "
        f"is {limit} {what}: shorten it or lower max_tokens"
    )


def _words(bucket: str) -> str:
    return bucket.replace("_", " ")


def rate_refusal(subject: Subject, charge: Charge, debts: Debts) -> RateLimitedError:
    """Why a request does not pass buckets in this state, and when it would."""
    worst, wait_s, limit, cost = "requests", 0.0, 0, 0
    for name, owed, amount, per_minute in zip(
        BUCKETS, debts, costs(charge), rates(subject.limits), strict=True
    ):
        if per_minute:
            needed_s = seconds(gcra(owed, 0, amount, TICKS, per_minute).wait, per_minute)
            if needed_s >= wait_s:
                worst, wait_s, limit, cost = name, needed_s, per_minute, amount
    asked = f", this request needs {cost}" if worst != "requests" else ""
    whose = "" if subject.kind == "key" else f" of the {subject.kind}"
    return RateLimitedError(
        f"rate limit{whose} reached: {limit} {_words(worst)} per minute{asked}; "
        f"try again in {duration(wait_s)}",
        headers=retry_headers(wait_s) | rate_headers([Standing(subject.limits, debts)]),
    )


def crowd_refusal(subject: Subject) -> RateLimitedError:
    """Too many requests at once."""
    limit = subject.limits.concurrent_streams
    return RateLimitedError(
        f"the {subject.kind} may have {limit} requests at once; wait until one has ended",
        headers=retry_headers(1.0),
    )


def budget_refusal(
    subject: Subject, charge: Charge, period: str, limit: int, used: int, wait_s: float
) -> BudgetExceededError:
    """A budget does not hold this request."""
    return BudgetExceededError(
        f"the {subject.kind}'s budget of {limit} tokens per {period} has {max(0, limit - used)} "
        f"left, this request needs {charge.tokens}; the next {period} begins in {duration(wait_s)}",
        headers=retry_headers(wait_s) | NO_RETRY,
    )


class Limiter(Protocol):
    """Sets tokens aside before a request and settles them after it."""

    async def reserve(self, caller: Caller, charge: Charge) -> Reservation:
        """Charge one request and its tokens to all who have limits, or to nobody.

        Raises:
            RateLimitedError, BudgetExceededError: not now; says when.
            TokensOverLimitError: never, at this size.
        """
        ...

    async def settle(self, reservation: Reservation, input_tokens: int, output_tokens: int) -> None:
        """Correct the charge to what was used. Only the first call for a reservation counts."""
        ...

    def budget_used(self, caller: Caller) -> float:
        """The part of the fullest budget of the key or its tenant that is spent, 0..1 and above, as
        far as this process knows: what others have spent since it last asked may be missing."""
        ...

    async def aclose(self) -> None:
        """Release what is held; may be called twice."""
        ...
