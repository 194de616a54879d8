"""When a cached pointer may be served, and when it must be asked for again. Pure.

RFC 9111 section 4.2 (freshness), RFC 5861 (stale-while-revalidate, stale-if-error).
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

Verdict = Literal["fresh", "serve", "serve_and_refresh", "refresh"]
"""``serve``: stale, but there is no point in asking yet. ``refresh``: ask, then answer."""


@dataclass(frozen=True, slots=True, kw_only=True)
class FreshnessConfig:
    """How long pointers are good for."""

    max_age_s: float = 5.0
    """So long a pointer is served without asking, unless it was purged."""
    stale_while_revalidate_s: float = 30.0
    """Beyond ``max_age_s``: served at once while a refresh runs."""
    stale_if_error_s: float = 86_400.0
    """Beyond ``max_age_s``: served where the upstream fails. A trust bundle is, however old."""
    retry_s: float = 2.0
    """After a failed refresh the upstream is left alone for so long."""


@dataclass(frozen=True, slots=True)
class PointerAge:
    """What is known of a held pointer. ``failed_ago_s``: since its last refresh failed, None where
    it did not. ``marked``: purged since it was fetched."""

    age_s: float
    marked: bool = False
    failed_ago_s: float | None = None


def judge(pointer: PointerAge, config: FreshnessConfig) -> Verdict:
    """What to do with a pointer that is held."""
    if not pointer.marked and pointer.age_s < config.max_age_s:
        return "fresh"
    if pointer.failed_ago_s is not None and serves_on_error(pointer.age_s, config):
        # One request has waited for the upstream and found it failing; the others need not.
        return "serve" if pointer.failed_ago_s < config.retry_s else "serve_and_refresh"
    if not pointer.marked and pointer.age_s < config.max_age_s + config.stale_while_revalidate_s:
        return "serve_and_refresh"
    return "refresh"


def serves_on_error(age_s: float, config: FreshnessConfig) -> bool:
    """Whether a pointer of this age may be served where the upstream fails."""
    return age_s < config.max_age_s + config.stale_if_error_s


def hit_status(pointer: PointerAge, config: FreshnessConfig) -> str:
    """The Cache-Status parameters of an answer that was not forwarded (RFC 9211 section 2.1, 2.4).

    ``ttl`` in seconds; negative where the answer is stale.
    """
    ttl = math.floor(config.max_age_s - pointer.age_s)
    return f"hit; ttl={min(ttl, -1) if pointer.marked else ttl}"
