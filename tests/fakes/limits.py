"""Short ways to say what a test of limits wants, and to read what a limiter answers."""

from __future__ import annotations

from edge_tier.gateway.limits import Limiter, RateLimitedError
from edge_tier.gateway.limits_headers import Rate, rate
from edge_tier.gateway.request import Caller, Charge, Limits, Reservation


def charge(tokens: int, output: int = 0, model: str = "m") -> Charge:
    """A request of so many prompt tokens and at most so many of the answer."""
    return Charge(model=model, input_tokens=tokens, output_tokens=output)


def requests(reservation: Reservation) -> Rate:
    """What is left of the limit on requests."""
    return rate(reservation, "requests")


def tokens(reservation: Reservation) -> Rate:
    """What is left of the tightest limit on tokens."""
    return rate(reservation, "tokens")


def acme_with(**limits: int) -> Caller:
    """A caller with these limits and no others."""
    unlimited = {"requests_per_minute": 0, "tokens_per_minute": 0, "max_output_tokens": 0}
    return Caller(
        key_id="key00001",
        tenant="acme",
        scopes=frozenset(),
        limits=Limits(**(unlimited | limits)),
    )


async def admitted(limiter: Limiter, caller: Caller, count: int) -> bool:
    """Whether a request of so many tokens passes; it then stays reserved."""
    return not await refusal(limiter, caller, charge(count))


async def refusal(limiter: Limiter, caller: Caller, asked: Charge) -> str:
    """Why a request is refused for the moment; empty where it is not."""
    try:
        await limiter.reserve(caller, asked)
    except RateLimitedError as error:
        return f"{error.code}: {error.message}"
    return ""
