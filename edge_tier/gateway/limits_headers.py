"""What an answer says about limits: how much is left, and when to come again.

Nothing of it is worked out before an answer is written: a reservation carries numbers only.
"""

from __future__ import annotations

from collections.abc import Sequence
from math import ceil
from typing import Literal, NamedTuple

from edge_tier.gateway.gcra import TICKS, WINDOW_S
from edge_tier.gateway.request import Reservation, Standing

NO_RETRY = {"x-should-retry": "false"}
"""OpenAI's clients repeat a request that met a 429 by themselves, unless told not to."""


def retry_headers(wait_s: float) -> dict[str, str]:
    """``Retry-After`` in whole seconds (RFC 9110 10.2.3), and the exact one OpenAI's clients read
    first."""
    return {
        "Retry-After": str(max(1, ceil(wait_s))),
        "retry-after-ms": str(max(1, ceil(wait_s * 1e3))),
    }


class Rate(NamedTuple):
    """What is left of one limit."""

    limit: int
    remaining: int
    reset_s: float
    """Until the bucket is full."""


def rate(reservation: Reservation, shown: Literal["requests", "tokens"]) -> Rate:
    """The tightest of the limits on ``requests`` or ``tokens``; all 0 where there is none."""
    tightest = _requests if shown == "requests" else _tokens
    return tightest(reservation.standings) or Rate(0, 0, 0.0)


def rate_headers(standings: Sequence[Standing]) -> dict[str, str]:
    """What is left, as draft-ietf-httpapi-ratelimit-headers-10 and as OpenAI say it.

    A bucket without a limit is not mentioned; of several limits the tightest is shown. ``t`` and
    ``reset`` tell when the bucket is full. Of requests and tokens, that comes first in
    ``RateLimit`` of which the smaller part is left.
    """
    found = [("requests", _requests(standings), ""), ("tokens", _tokens(standings), _TOKENS)]
    headers: dict[str, str] = {}
    items: list[tuple[float, str, str]] = []
    for name, rate, unit in found:
        if rate is not None:
            limit, remaining, reset_s = rate
            policy = f'"{name}";q={limit};w={WINDOW_S}{unit}'
            items.append((-reset_s, policy, f'"{name}";r={remaining};t={ceil(reset_s)}'))
            headers[f"x-ratelimit-limit-{name}"] = str(limit)
            headers[f"x-ratelimit-remaining-{name}"] = str(remaining)
            headers[f"x-ratelimit-reset-{name}"] = duration(reset_s)
    if items:
        items.sort(key=lambda item: item[0])
        headers["RateLimit-Policy"] = ", ".join([policy for _, policy, _ in items])
        headers["RateLimit"] = ", ".join([state for _, _, state in items])
    return headers


def rate_lines(reservation: Reservation) -> str:
    """The same as header lines; made for every answer, so written out where both are limited."""
    standings = reservation.standings
    requests, tokens = _requests(standings), _tokens(standings)
    if requests is None or tokens is None:
        lines = [f"{name}: {value}\r\n" for name, value in rate_headers(standings).items()]
        return "".join(lines)
    limit, left, reset_s = requests
    token_limit, tokens_left, tokens_reset_s = tokens
    policy = f'"requests";q={limit};w={WINDOW_S}'
    state = f'"requests";r={left};t={ceil(reset_s)}'
    tokens_policy = f'"tokens";q={token_limit};w={WINDOW_S}{_TOKENS}'
    tokens_state = f'"tokens";r={tokens_left};t={ceil(tokens_reset_s)}'
    if tokens_reset_s > reset_s:
        policy, tokens_policy = tokens_policy, policy
        state, tokens_state = tokens_state, state
    return (
        f"x-ratelimit-limit-requests: {limit}\r\n"
        f"x-ratelimit-remaining-requests: {left}\r\n"
        f"x-ratelimit-reset-requests: {duration(reset_s)}\r\n"
        f"x-ratelimit-limit-tokens: {token_limit}\r\n"
        f"x-ratelimit-remaining-tokens: {tokens_left}\r\n"
        f"x-ratelimit-reset-tokens: {duration(tokens_reset_s)}\r\n"
        f"RateLimit-Policy: {policy}, {tokens_policy}\r\n"
        f"RateLimit: {state}, {tokens_state}\r\n"
    )


_TOKENS = ';qu="tokens"'


def _requests(standings: Sequence[Standing]) -> Rate | None:
    found = None
    for standing in standings:
        if limit := standing.limits.requests_per_minute:
            found = _tighter(found, limit, standing.debts[0])
    return found


def _tokens(standings: Sequence[Standing]) -> Rate | None:
    """Of all limits on tokens a minute, whatever they count."""
    found = None
    for standing in standings:
        limits, debts = standing.limits, standing.debts
        if limit := limits.tokens_per_minute:
            found = _tighter(found, limit, debts[1])
        if limit := limits.input_tokens_per_minute:
            found = _tighter(found, limit, debts[2])
        if limit := limits.output_tokens_per_minute:
            found = _tighter(found, limit, debts[3])
    return found


def _tighter(found: Rate | None, limit: int, owed: int) -> Rate:
    left = limit + -owed // TICKS
    if left < 0:
        left = 0
    if found is not None and found[1] <= left:
        return found
    return Rate(limit, left, owed / (limit * 1e6))


def seconds(ticks: int, limit: int) -> float:
    """How long a bucket of ``limit`` takes to drain so much."""
    return ticks / (limit * 1e6) if limit else 0.0


def duration(seconds: float) -> str:
    """A time as OpenAI writes it, rounded up: ``12ms``, ``8.64s``, ``6m0s``."""
    milliseconds = ceil(seconds * 1e3)
    if milliseconds < 1_000:
        return f"{milliseconds}ms"
    if milliseconds < 60_000:
        return f"{milliseconds / 1e3:g}s"
    minutes, rest = divmod(milliseconds, 60_000)
    hours, minutes = divmod(minutes, 60)
    text = f"{minutes}m{rest / 1e3:g}s"
    return f"{hours}h{text}" if hours else text
