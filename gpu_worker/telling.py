"""What heartbeats tell of waterfalls: the steps of a boot, and how the latest roll goes.

Bounded in count and size, whatever a waterfall holds: a heartbeat with a step too many would be
refused as a whole.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from gpu_worker.waterfall import Span, Waterfall
from wire.workers import MAX_BOOT_SPANS, BootSpan, RollOutcome, WorkerRoll

_MAX_NAME = 96
"""Characters of a step's name."""
_MAX_REASON = 500
_MAX_REVISION = 64
_LONGEST_MS = 1e9


def told_spans(spans: Iterable[Span]) -> tuple[BootSpan, ...]:
    """Steps as heartbeats have them: to a tenth of a millisecond, the first ones of too many."""
    told = (
        BootSpan(
            s.name[:_MAX_NAME],
            round(min(s.start_ms, _LONGEST_MS), 1),
            round(min(s.length_ms, _LONGEST_MS), 1),
        )
        for s, _ in zip(spans, range(MAX_BOOT_SPANS), strict=False)
    )
    return tuple(told)


@dataclass(slots=True)
class RollTelling:
    """A roll from its pull on. ``previous``: what served when it began; ``reason``: why it ended
    without serving."""

    waterfall: Waterfall
    previous: str = ""
    outcome: RollOutcome = "running"
    reason: str = ""

    def serves(self) -> None:
        """The new engine is in service; the old one drains beside it."""
        self.outcome = "serves"

    def failed(self, why: str) -> None:
        """It came to nothing, unless it serves already."""
        if self.outcome == "running":
            self.outcome, self.reason = "failed", why

    def told(self) -> WorkerRoll:
        """The roll as it is now, with the step that is under way as far as it has come."""
        waterfall = self.waterfall
        now = waterfall.under_way()
        # Steps under way come first, for they must not be the ones that are too many.
        spans = [*([now] if now is not None else []), *waterfall.spans]
        return WorkerRoll(
            revision=waterfall.revision[:_MAX_REVISION],
            previous=self.previous[:_MAX_REVISION],
            began=waterfall.began_at,
            outcome=self.outcome,
            step=now.name[:_MAX_REVISION] if now is not None else "",
            reason=self.reason[:_MAX_REASON],
            spans=told_spans(spans),
        )
