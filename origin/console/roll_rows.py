"""The console's rows of rolls. Pure."""

from __future__ import annotations

from msgspec import UNSET

from origin.console.state import RollRow
from origin.rollout_state import Rollout

_NAMED = 3
"""Workers that a reason names."""


def roll_row(roll: Rollout, *, taken: int, total: int) -> RollRow:
    """How a rollout stands.

    Args:
        taken: workers that serve its revision.
        total: workers of its channel.
    """
    tried = roll.trial.requests
    p95 = roll.trial.quantile_ms(0.95)
    return RollRow(
        stage=roll.stage,
        running=not roll.over,
        revision=roll.revision,
        previous=roll.previous,
        percent=roll.percent,
        since=round(roll.ended if roll.over else max(roll.started, roll.looked - roll.stage_s)),
        reason=_why(roll),
        taken=taken,
        total=total,
        failed_ratio=round(roll.trial.error_rate, 4) if tried else UNSET,
        first_token_p95_ms=round(p95, 1) if p95 is not None else UNSET,
    )


def _why(roll: Rollout) -> str:
    """Why it stands where it stands."""
    if roll.reason:
        return roll.reason
    if roll.over:
        return roll.why
    if roll.refused:
        name, why = next(iter(roll.refused.items()))
        more = f", and {len(roll.refused) - 1} more" if len(roll.refused) > 1 else ""
        return f"{name}{more}: {why}"
    if roll.waiting:
        more = f" and {len(roll.waiting) - _NAMED} more" if len(roll.waiting) > _NAMED else ""
        return f"waits for {', '.join(roll.waiting[:_NAMED])}{more}"
    return roll.notes[-1] if roll.notes else roll.why
