"""What the edges counted lately: differences of their counters over seconds and over a minute.

Pure, with the moments given. A counter is that of one life of an edge: a life that began anew is
compared with its own first report, never with the one before. Rates go by when reports were heard,
not by when anybody looked.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable
from typing import NamedTuple

from origin.fleet_nodes import EdgeNode
from wire.fleet import EdgeReport

_STEP_S = 0.9
"""Looks that are closer than this are not all kept."""
_KEPT_S = 75.0


class Told(NamedTuple):
    """A report of an edge, and when it was heard."""

    heard_at: float
    report: EdgeReport


class Lately(NamedTuple):
    """What an edge counted between two of its reports, which may be the same one."""

    before: EdgeReport
    now: EdgeReport
    seconds: float

    def rate(self, before: int, now: int) -> float:
        """Of a counter of theirs, in a second."""
        return max(0, now - before) / self.seconds if self.seconds > 0 else 0.0


class _Look(NamedTuple):
    at: float
    sent: float
    told: dict[str, Told]


class Window:
    """The looks of the last minute. Bounded: a few dozen of them, each of the view's edges."""

    def __init__(self) -> None:
        self._looks: deque[_Look] = deque()
        self._now = _Look(0.0, 0.0, {})

    def note(self, edges: Iterable[EdgeNode], *, sent: float, now: float) -> None:
        """Take a look.

        Args:
            sent: bytes that left this origin, since it began.
            now: monotonic seconds.
        """
        told = {e.name: Told(now - e.age_s, e.report) for e in edges if e.presence == "here"}
        self._now = _Look(now, sent, told)
        if not self._looks or now - self._looks[-1].at >= _STEP_S:
            self._looks.append(self._now)
        while self._looks[0].at < now - _KEPT_S:
            self._looks.popleft()

    def lately(self, seconds: float) -> dict[str, Lately]:
        """By edge that is here: what it counted in the last ``seconds``, or since it was seen
        first."""
        looks = self._since(seconds)
        return {name: _between(name, told, looks) for name, told in self._now.told.items()}

    def sent_per_s(self, seconds: float) -> float:
        """Bytes that left this origin, in a second."""
        looks = self._since(seconds)
        first, now = (looks[0] if looks else self._now), self._now
        return max(0.0, now.sent - first.sent) / (now.at - first.at) if now.at > first.at else 0.0

    def _since(self, seconds: float) -> list[_Look]:
        """From the last look that is so old on."""
        looks = list(self._looks)
        first = max((i for i, k in enumerate(looks) if k.at <= self._now.at - seconds), default=0)
        return looks[first:]


def _between(name: str, now: Told, looks: list[_Look]) -> Lately:
    for look in looks:
        before = look.told.get(name)
        if before is not None and before.report.started == now.report.started:
            return Lately(before.report, now.report, now.heard_at - before.heard_at)
    return Lately(now.report, now.report, 0.0)
