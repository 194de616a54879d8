"""What two revisions answered in the same window, and whether the new one is worse. Pure.

Counters of a revision only grow (``origin.fleet``), so a window is the difference of two looks.
Times are known by bucket only; inside one they are taken to be spread evenly.
"""

from __future__ import annotations

from collections.abc import Mapping
from itertools import zip_longest

import msgspec

from origin.rollout_config import RolloutConfig
from wire.fleet import FIRST_TOKEN_BOUNDS_MS, RevisionFigures


class Window(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """Requests of one revision in a span of time."""

    answered: int = 0
    failed: int = 0
    """By the fault of its workers."""
    first_token: tuple[int, ...] = ()
    """By bucket of ``FIRST_TOKEN_BOUNDS_MS``; the last one is for what is over."""

    @property
    def requests(self) -> int:
        return self.answered + self.failed

    @property
    def error_rate(self) -> float:
        """0 where there was no request."""
        return self.failed / self.requests if self.requests else 0.0

    def since(self, before: Window) -> Window:
        """What was counted after ``before``. Never less than nothing: a counter that fell was that
        of an edge which has been forgotten."""
        times = zip_longest(self.first_token, before.first_token, fillvalue=0)
        return Window(
            answered=max(0, self.answered - before.answered),
            failed=max(0, self.failed - before.failed),
            first_token=tuple(max(0, now - was) for now, was in times),
        )

    def before(self, window: Window) -> Window:
        """What must have been counted when ``window`` began, if it ends now. Less than nothing
        where somebody else counted it."""
        times = zip_longest(self.first_token, window.first_token, fillvalue=0)
        return Window(
            answered=self.answered - window.answered,
            failed=self.failed - window.failed,
            first_token=tuple(now - counted for now, counted in times),
        )

    def quantile_ms(self, share: float) -> float | None:
        """How soon this share of the answers had their first token; None where there was none."""
        left = sum(self.first_token) * share
        if not left:
            return None
        lower = 0.0
        for bound, count in zip(FIRST_TOKEN_BOUNDS_MS, self.first_token, strict=False):
            if count and left <= count:
                return lower + (bound - lower) * left / count
            left -= count
            lower = float(bound)
        return lower


def counted(figures: RevisionFigures) -> Window:
    """Counters as they stand."""
    return Window(answered=figures.answered, failed=figures.failed, first_token=figures.first_token)


def why_worse(trial: Window, stable: Window, config: RolloutConfig, *, final: bool) -> str:
    """In which way the tried revision is worse than the stable one; empty where it is not.

    Args:
        final: all that there is to compare is there. Before, only failures count, and only enough
            of them to be no accident.
    """
    rate, usual = trial.error_rate, stable.error_rate
    enough = trial.failed > 0 if final else trial.failed >= config.min_failures
    if enough and rate > config.max_error_rate and rate > usual * config.max_error_ratio:
        return (
            f"error rate {rate:.1%} ({trial.failed} of {trial.requests}), against {usual:.1%} "
            f"({stable.failed} of {stable.requests}) of the stable revision"
        )
    if not final or stable.requests < config.min_compared:
        return ""
    shares = [(0.5, config.max_p50_ratio)]
    if min(trial.requests, stable.requests) >= config.min_compared_p95:
        shares.append((0.95, config.max_p95_ratio))
    for share, most in shares:
        ours, theirs = trial.quantile_ms(share), stable.quantile_ms(share)
        if ours is None or theirs is None:
            continue
        if ours > theirs * most and ours - theirs > config.first_token_slack_ms:
            return (
                f"time to first token p{share * 100:.0f} {ours:.0f} ms, against {theirs:.0f} ms "
                f"of the stable revision (at most {most:g} times)"
            )
    return ""


def told(windows: Mapping[str, Window]) -> dict[str, dict[str, float | int | None]]:
    """Windows by name, as an operator reads them: times in milliseconds."""
    return {
        name: {
            "requests": window.requests,
            "failed": window.failed,
            "error_rate": round(window.error_rate, 5),
            "first_token_p50_ms": _rounded(window.quantile_ms(0.5)),
            "first_token_p95_ms": _rounded(window.quantile_ms(0.95)),
        }
        for name, window in windows.items()
    }


def _rounded(value: float | None) -> float | None:
    return None if value is None else round(value, 1)
