"""What a process last heard from Redis about those who have limits, in case Redis forgets it.

A Redis that was killed may come back empty, or with what it last wrote to a file. Every question to
it carries what was heard before; so a caller's debts and what is spent of its budgets outlive
Redis as long as one process that asked about it lives, and nothing is given out twice.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

from edge_tier.gateway.gcra import Debts


class Told(NamedTuple):
    """How a subject stood, as Redis told it."""

    born: int
    """Names this life of the subject's state in Redis."""
    debts: Debts
    day: int
    in_day: int
    month: int
    in_month: int


class Recall:
    """The last of it for each subject.

    Args:
        clock: monotonic seconds.
        most: subjects that are remembered; the one not heard of for longest is forgotten.
    """

    def __init__(self, clock: Callable[[], float], most: int) -> None:
        self._clock = clock
        self._most = most
        self._heard: dict[str, tuple[Told, float]] = {}

    def note(self, subject_id: str, told: Told) -> None:
        """Remember it."""
        self._heard.pop(subject_id, None)  # so that the order is that of the last word
        self._heard[subject_id] = (told, self._clock())
        if len(self._heard) > self._most:
            del self._heard[next(iter(self._heard))]

    def heard(self, subject_id: str) -> Told | None:
        """The last of it, however long ago."""
        found = self._heard.get(subject_id)
        return found[0] if found is not None else None

    def arguments(self, subject_id: str) -> tuple[str | int, str]:
        """``born``, and the rest as the scripts read it: microseconds since, debts, budgets."""
        heard = self._heard.get(subject_id)
        if heard is None:
            return "", ""
        (born, (d1, d2, d3, d4), *budgets), at_s = heard
        day, in_day, month, in_month = budgets
        elapsed_us = int((self._clock() - at_s) * 1e6)
        return born, f"{elapsed_us} {d1} {d2} {d3} {d4} {day} {in_day} {month} {in_month}"
