"""The fleet as this edge knows it: the workers whose heartbeats are fresh, and which is best now.

Pure state with an injected clock. A worker exists as long as its heartbeats keep coming; between
two of them the edge counts what it has sent itself, so a burst spreads before the next heartbeat.

The best worker is the one that would finish a request soonest: requests before it in the queue,
by slots, by the speed at which the worker was seen to give tokens. A speed that was measured with
another revision, or many requests ago, is forgotten: who was slow once would be asked no more, and
never be seen to be fast; a canary would wait for its requests. One that just failed is the last
choice for a moment, and one whose breaker is open comes after everybody else. In a large fleet a
few workers drawn at random are compared, which spreads load nearly as well as comparing all (M.
Mitzenmacher, "The Power of Two Choices in Randomized Load Balancing", 2001).
"""

from __future__ import annotations

import math
import random
from collections.abc import Callable
from dataclasses import dataclass, field

from edge_tier.gateway.breaker import Breaker, BreakerConfig
from wire.workers import WorkerReport

MAX_WORKERS = 4_096
_SMOOTHING = 0.2
_COMPARED = 8
"""Workers that are compared for one request, where there are more."""
_PRESSURE_S = 0.05
"""How long the pressure on a large fleet holds before it is reckoned anew."""
_PACE_HOLDS = 32
"""So many requests for each worker of a model later, the pace of one that got none is forgotten."""
_NOBODY: frozenset[str] = frozenset()
_SERVING = frozenset({"ready", "asleep"})


@dataclass(slots=True, eq=False)
class _Tally:
    """Requests of one model that were measured, at all its workers."""

    count: int = 0


@dataclass(slots=True, eq=False)
class Member:
    """A worker and what this edge has running on it."""

    report: WorkerReport
    expires: float
    breaker: Breaker
    in_flight: int = 0
    failed_until: float = 0.0
    tokens_per_s: float = 0.0
    """Of one stream, as measured by this edge; 0: not yet."""
    first_token_s: float = 0.0
    """Smoothed; 0: not yet."""
    service_s: float = 0.0
    """How long a request holds its slot, smoothed; 0: not yet."""
    tally: _Tally = field(default_factory=_Tally)
    """Shared with the other workers of the model."""
    measured_at: int = 0
    """By the tally, when this worker was measured last."""

    @property
    def load(self) -> float:
        """Running and waiting requests per slot. The larger of the two views: the heartbeat lags,
        and other edges' requests are not ours to count."""
        report = self.report
        running = self.in_flight
        reported = report.busy + report.queue
        return (reported if reported > running else running) / (report.slots or 1)

    def measured(self, tokens: int, seconds: float) -> None:
        """A request held its slot for so long, and gave so many tokens."""
        self.tally.count += 1
        self.measured_at = self.tally.count
        self.service_s = _smoothed(self.service_s, seconds)
        if tokens > 1 and seconds > 0:
            self.tokens_per_s = _smoothed(self.tokens_per_s, tokens / seconds)

    def answered(self, first_token_s: float) -> None:
        """A request got its first bytes."""
        self.first_token_s = _smoothed(self.first_token_s, first_token_s)
        self.breaker.succeeded()


@dataclass(frozen=True, slots=True)
class Pressure:
    """How busy the workers of a model are."""

    load: float = 0.0
    """Running and waiting requests per slot, over all its workers."""
    wait_s: float = 0.0
    """How long a new request would wait for a slot, about."""


_NO_PRESSURE = Pressure()


@dataclass(slots=True)
class _Group:
    """The ready workers of one model."""

    members: list[Member] = field(default_factory=list)
    features: frozenset[str] = _NOBODY
    pressure: Pressure = field(default_factory=Pressure)
    reckoned: float = -math.inf
    """When ``pressure`` was."""


class Fleet:
    """Workers by name and model.

    Args:
        clock: seconds, monotonic.
        penalty_s: how long a worker that failed a request is only the last choice.
        max_workers: heartbeats of more are refused.
    """

    def __init__(
        self,
        clock: Callable[[], float],
        *,
        penalty_s: float = 2.0,
        breaker: BreakerConfig | None = None,
        rng: random.Random | None = None,
        max_workers: int = MAX_WORKERS,
    ) -> None:
        self._clock = clock
        self._max_workers = max_workers
        self._rng = rng or random.Random()  # noqa: S311 - spreads load, keeps no secret
        self._penalty_s = penalty_s
        self._breaker = breaker or BreakerConfig()
        self._members: dict[tuple[str, str], Member] = {}
        """By worker and model."""
        self._groups: dict[str, _Group] = {}
        self._tallies: dict[str, _Tally] = {}
        """By model."""
        self._next_expiry = math.inf
        self.version = 0
        """Changes whenever a worker comes, goes, or changes what it serves."""

    def report(self, report: WorkerReport) -> bool:
        """Take a heartbeat; False where the fleet is full and the worker is new."""
        now = self._clock()
        self._expire(now)
        key = report.worker, report.model
        member = self._members.get(key)
        if member is None:
            if len(self._members) >= self._max_workers:
                return False
            breaker = Breaker(self._breaker, self._clock)
            tally = self._tallies.setdefault(report.model, _Tally())
            self._members[key] = Member(report, now + report.ttl_s, breaker, tally=tally)
            self._regroup()
        else:
            changed = _serves(member.report) != _serves(report)
            if report.state == "ready" != member.report.state:
                # A new life: what the one before failed at says nothing of it.
                member.breaker, member.failed_until = Breaker(self._breaker, self._clock), 0.0
            if report.revision != member.report.revision or self._is_past(member):
                member.tokens_per_s = 0.0
            member.report, member.expires = report, now + report.ttl_s
            if changed:
                self._regroup()
        self._next_expiry = min(self._next_expiry, now + report.ttl_s)
        return True

    def refresh(self) -> int:
        """Forget who is silent; the :attr:`version` after that."""
        now = self._clock()
        if now >= self._next_expiry:
            self._expire(now)
        return self.version

    def workers(self) -> list[WorkerReport]:
        """Everybody who is alive, by name."""
        self._expire(self._clock())
        return [m.report for _, m in sorted(self._members.items())]

    def seen(self) -> list[tuple[WorkerReport, float]]:
        """As :meth:`workers`, with the seconds since the last heartbeat of each."""
        now = self._clock()
        self._expire(now)
        members = [m for _, m in sorted(self._members.items())]
        return [(m.report, max(0.0, now - m.expires + m.report.ttl_s)) for m in members]

    def passed_over(self) -> int:
        """How many workers, one for each of their models, have a breaker that is not closed."""
        self._expire(self._clock())
        return sum(m.breaker.state() != "closed" for m in self._members.values())

    def member(self, worker: str, model: str) -> Member | None:
        """A worker by its name and one of its models, whatever its state."""
        return self._members.get((worker, model))

    def models(self) -> set[str]:
        """Models that some ready worker serves."""
        self.refresh()
        return set(self._groups)

    def features(self, model: str) -> frozenset[str]:
        """What at least one ready worker of the model can do beyond plain chat."""
        self.refresh()
        group = self._groups.get(model)
        return group.features if group is not None else _NOBODY

    def pick(
        self,
        model: str,
        *,
        avoid: frozenset[str] = _NOBODY,
        features: frozenset[str] = _NOBODY,
        only: str = "",
        never: str = "",
    ) -> Member | None:
        """The worker of this model that would be done soonest; None where there is none. One that
        sleeps comes after those that are awake.

        Args:
            avoid: names of workers.
            features: what it must be able to do.
            only: the revision that it must serve.
            never: a revision that it must not serve.
        """
        self.refresh()
        group = self._groups.get(model)
        if group is None:
            return None
        members = group.members
        if avoid or features:
            members = [m for m in members if _suits(m, avoid, features)]
        if only or never:
            members = [m for m in members if _serves_revision(m, only, never)]
        if len(members) == 1:
            return members[0]
        if len(members) > _COMPARED:
            members = self._rng.sample(members, _COMPARED)
        now = self._clock()
        pace = max((member.tokens_per_s for member in members), default=0.0) or 1.0
        return min(members, key=lambda member: _cost(member, now, pace), default=None)

    def pressure(self, model: str) -> Pressure:
        """How busy the model's workers are; none at all counts as idle, for it cannot be shed."""
        self.refresh()
        group = self._groups.get(model)
        if group is None or not group.members:
            return _NO_PRESSURE
        now = self._clock()
        if now - group.reckoned >= _PRESSURE_S or len(group.members) <= _COMPARED:
            group.pressure, group.reckoned = _pressure(group.members), now
        return group.pressure

    def revision(self, model: str, *, only: str = "", never: str = "") -> str | None:
        """The revision that the next request for this model would meet; as :meth:`pick`."""
        member = self.pick(model, only=only, never=never)
        return member.report.revision if member is not None else None

    def penalize(self, member: Member) -> None:
        """A request to this worker just failed; prefer others for a moment."""
        self.prefer_others(member)
        member.breaker.failed()

    def prefer_others(self, member: Member) -> None:
        """For a moment, where there are any."""
        member.failed_until = self._clock() + self._penalty_s

    def _is_past(self, member: Member) -> bool:
        """Whether a worker's pace was measured so long ago that it should be tried again."""
        group = self._groups.get(member.report.model)
        others = len(group.members) if group is not None else 0
        return member.tally.count - member.measured_at >= _PACE_HOLDS * max(others, 1)

    def _expire(self, now: float) -> None:
        gone = [name for name, m in self._members.items() if m.expires <= now]
        for name in gone:
            del self._members[name]
        expiries = [member.expires for member in self._members.values()]
        self._next_expiry = min(expiries, default=math.inf)
        if gone:
            self._regroup()

    def _regroup(self) -> None:
        groups: dict[str, _Group] = {}
        for member in self._members.values():
            report = member.report
            if report.state in _SERVING and not report.draining:
                group = groups.setdefault(report.model, _Group())
                group.members.append(member)
                group.features |= report.features
        self._groups = groups
        self._tallies = {member.report.model: member.tally for member in self._members.values()}
        self.version += 1


def _pressure(members: list[Member]) -> Pressure:
    slots, running, service_s = 0, 0, 0.0
    for member in members:
        report, in_flight = member.report, member.in_flight
        reported = report.busy + report.queue
        slots += report.slots or 1
        running += reported if reported > in_flight else in_flight
        service_s = max(service_s, member.service_s)
    waiting = running - slots
    return Pressure(running / slots, waiting / slots * service_s if waiting > 0 else 0.0)


def _serves(report: WorkerReport) -> tuple[object, ...]:
    return (report.url, report.revision, report.state, report.draining, report.features)


def _serves_revision(member: Member, only: str, never: str) -> bool:
    revision = member.report.revision
    return (not only or revision == only) and (not never or revision != never)


def _suits(member: Member, avoid: frozenset[str], features: frozenset[str]) -> bool:
    return member.report.worker not in avoid and features <= member.report.features


def _cost(member: Member, now: float, usual_pace: float) -> tuple[int, float]:
    """What is compared: how doubtful a worker is, then about when a request would be done there."""
    if not member.breaker.passable:
        doubt = 2
    else:
        doubt = int(member.failed_until > now or member.report.state == "asleep")
    return doubt, (member.load + 1 / (member.report.slots or 1)) / (
        member.tokens_per_s or usual_pace
    )


def _smoothed(old: float, new: float) -> float:
    return new if not old else old + _SMOOTHING * (new - old)
