"""Short ways to say what a test of limits wants, and to read what a limiter answers."""

from __future__ import annotations

from edge_tier.gateway.limits import Rate, rate
from edge_tier.gateway.request import Charge, Reservation


def charge(tokens: int, output: int = 0, model: str = "m") -> Charge:
    """A request of so many prompt tokens and at most so many of the answer."""
    return Charge(model=model, input_tokens=tokens, output_tokens=output)


def requests(reservation: Reservation) -> Rate:
    """What is left of the limit on requests."""
    return rate(reservation, "requests")


def tokens(reservation: Reservation) -> Rate:
    """What is left of the tightest limit on tokens."""
    return rate(reservation, "tokens")
