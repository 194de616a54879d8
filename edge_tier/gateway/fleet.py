"""The fleet as this edge knows it: the workers whose heartbeats are fresh.

Pure state with an injected clock. A worker exists as long as its heartbeats keep coming; between
two of them the edge counts what it has sent itself, so a burst spreads before the next heartbeat.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from wire.workers import WorkerReport

MAX_WORKERS = 4_096


@dataclass(slots=True)
class Member:
    """A worker and what this edge has running on it."""

    report: WorkerReport
    expires: float
    in_flight: int = 0
    failed_until: float = 0.0

    @property
    def load(self) -> float:
        """Running and waiting requests per slot. The larger of the two views: the heartbeat lags,
        and other edges' requests are not ours to count."""
        running = max(self.in_flight, self.report.busy + self.report.queue)
        return running / max(self.report.slots, 1)


class Fleet:
    """Workers by name.

    Args:
        clock: seconds, monotonic.
        penalty_s: how long a worker that failed a request is only the last choice.
    """

    def __init__(self, clock: Callable[[], float], *, penalty_s: float = 2.0) -> None:
        self._clock = clock
        self._penalty_s = penalty_s
        self._members: dict[str, Member] = {}

    def report(self, report: WorkerReport) -> bool:
        """Take a heartbeat; False where the fleet is full and the worker is new."""
        now = self._clock()
        self._expire(now)
        member = self._members.get(report.worker)
        if member is None:
            if len(self._members) >= MAX_WORKERS:
                return False
            self._members[report.worker] = Member(report, now + report.ttl_s)
            return True
        member.report, member.expires = report, now + report.ttl_s
        return True

    def workers(self) -> list[WorkerReport]:
        """Everybody who is alive, by name."""
        self._expire(self._clock())
        return [m.report for _, m in sorted(self._members.items())]

    def models(self) -> set[str]:
        """Models that some ready worker serves."""
        return {r.model for r in self.workers() if r.state == "ready"}

    def pick(self, model: str, *, avoid: frozenset[str] = frozenset()) -> Member | None:
        """The ready worker of this model with the least load; None where there is none."""
        now = self._clock()
        self._expire(now)
        ready = [
            m
            for m in self._members.values()
            if m.report.model == model
            and m.report.state == "ready"
            and m.report.worker not in avoid
        ]
        return min(ready, key=lambda m: (m.failed_until > now, m.load), default=None)

    def revision(self, model: str) -> str | None:
        """The revision that the next request for this model would meet."""
        member = self.pick(model)
        return member.report.revision if member is not None else None

    def penalize(self, member: Member) -> None:
        """A request to this worker just failed; prefer others for a moment."""
        member.failed_until = self._clock() + self._penalty_s

    def _expire(self, now: float) -> None:
        gone = [name for name, m in self._members.items() if m.expires <= now]
        for name in gone:
            del self._members[name]
