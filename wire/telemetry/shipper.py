"""When a batch is sent, and what an answer means. Sans-IO; all rules are here.

States: *free* to send, or *waiting* until a time. One batch is under way at a time, so batches
arrive in the order they were spooled::

    free ──2xx: sent──► free          free ──4xx: rejected, never sent again──► free
    free ──no answer, 3xx, 429, 5xx──► waiting ──pause is over──► free (the same batch)

The pause doubles with each failure up to a bound and is drawn from its upper half, so that a fleet
whose receiver comes back does not return in one moment. ``Retry-After`` counts where it is longer,
within the same bound.
"""

from __future__ import annotations

import random
from collections.abc import Callable
from email.utils import parsedate_to_datetime
from typing import Literal

Verdict = Literal["sent", "rejected", "again"]


class Shipper:
    """Args:
    first_s, most_s: the pause after one failure, and the longest.
    draw: gives numbers in 0..1.
    """

    def __init__(
        self, first_s: float, most_s: float, *, draw: Callable[[], float] = random.random
    ) -> None:
        self.failures = 0
        """In a row."""
        self.last_success_s: float | None = None
        """On the clock of the answers."""
        self._first_s = first_s
        self._most_s = most_s
        self._draw = draw
        self._free_at_s = 0.0

    def pause_s(self, now_s: float) -> float:
        """How long to wait before the next try; 0: none."""
        return max(0.0, self._free_at_s - now_s)

    def answered(self, status: int, now_s: float, retry_after_s: float = 0.0) -> Verdict:
        """The receiver's answer to the batch under way."""
        if 200 <= status < 300:
            self.failures, self._free_at_s, self.last_success_s = 0, 0.0, now_s
            return "sent"
        if 400 <= status < 500 and status != 429:
            self.failures, self._free_at_s = 0, 0.0  # it is there, and will say the same again
            return "rejected"
        self.failed(now_s, retry_after_s)
        return "again"

    def failed(self, now_s: float, retry_after_s: float = 0.0) -> None:
        """There was no answer, or one that says to try again."""
        doubled = self._first_s * 2 ** min(self.failures, 32)
        pause_s = min(doubled, self._most_s) * (0.5 + 0.5 * self._draw())
        self.failures += 1
        self._free_at_s = now_s + max(pause_s, min(retry_after_s, self._most_s))


def retry_after_s(value: str | None, wall_s: float) -> float:
    """``Retry-After`` (RFC 9110 section 10.2.3) in seconds; 0 where it is missing or is none."""
    text = (value or "").strip()
    if text.isascii() and text.isdigit() and len(text) < 10:
        return float(text)
    try:
        return max(0.0, parsedate_to_datetime(text).timestamp() - wall_s)
    except (ValueError, OverflowError):
        return 0.0
