"""Which source is nearest: measured time, probes, and penalties that fade. Pure; times are given.

A request is expected to cost ``latency + size * pace + penalty`` seconds. Latency is learnt from
small answers and pace (seconds per byte) from large ones, both as exponentially weighted means.
A fault adds a penalty in seconds that halves every ``half_life_s``: a mismatch weighs more than an
outage, and both are forgiven in time. A source that was not asked for ``probe_interval_s`` is put
first once, so that the figures of those that lost stay true; one that is still being punished is
not probed.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass

from wire.sources.member import Outcome


@dataclass(frozen=True, slots=True, kw_only=True)
class ScoreConfig:
    """How a scoreboard learns and forgives."""

    typical_bytes: int = 4 * 1024 * 1024
    """The chunk that sources are compared by."""
    assumed_s: float = 3.0
    """What an unmeasured source is taken to cost: between a good one and a punished one."""
    small_bytes: int = 64 * 1024
    """Answers up to this size tell latency, larger ones tell pace."""
    smoothing: float = 0.3
    """Weight of the newest measurement, 0 to 1."""
    unavailable_penalty_s: float = 5.0
    mismatch_penalty_s: float = 60.0
    max_penalty_s: float = 600.0
    half_life_s: float = 30.0
    probe_interval_s: float = 30.0
    probe_below_penalty_s: float = 1.0
    """A source is probed again once its penalty has faded below this."""


@dataclass(frozen=True, slots=True)
class Score:
    """One source as the board sees it now. None: not measured yet."""

    name: str
    latency_s: float | None
    bytes_per_s: float | None
    penalty_s: float


class _Record:
    __slots__ = ("asked_at", "latency_s", "pace_s", "penalised_at", "penalty_s")

    def __init__(self) -> None:
        self.latency_s: float | None = None
        self.pace_s: float | None = None
        self.penalty_s = 0.0
        self.penalised_at = 0.0
        self.asked_at = -math.inf


class Scoreboard:
    """Scores of some sources. Ties keep the order of ``names``."""

    def __init__(self, names: Iterable[str], config: ScoreConfig) -> None:
        self._config = config
        self._records = {name: _Record() for name in names}

    def rank(self, now_s: float, size_bytes: int) -> tuple[str, ...]:
        """All sources, the cheapest for an answer of this size first."""
        return tuple(
            sorted(self._records, key=lambda name: self.expected_s(name, now_s, size_bytes))
        )

    def choose(self, now_s: float) -> tuple[str, ...]:
        """All sources in the order to ask for a chunk; notes that the first one will be asked."""
        order = self.rank(now_s, self._config.typical_bytes)
        due = [name for name in self._records if self._probe_due(name, now_s)]
        if due:
            probe = min(due, key=lambda name: self._records[name].asked_at)
            order = (probe, *(name for name in order if name != probe))
        self._records[order[0]].asked_at = now_s
        return order

    def expected_s(self, name: str, now_s: float, size_bytes: int) -> float:
        """Seconds that an answer of this size costs at this source, its penalty included."""
        record = self._records[name]
        return self._time(record, size_bytes) + self._penalty(record, now_s)

    def record(self, name: str, outcome: Outcome, now_s: float) -> None:
        """Learn from one request. Something missing is no fault and tells no time."""
        record = self._records[name]
        if outcome.kind == "delivered":
            self._measure(record, outcome.seconds, outcome.size_bytes)
        elif outcome.kind == "abandoned":
            # Slower than anybody would wait for: without this a source that stalls until it is
            # cancelled would never look slow.
            if outcome.seconds > self._time(record, self._config.typical_bytes):
                self._measure(record, outcome.seconds, self._config.typical_bytes)
        elif outcome.kind == "mismatch":
            self._punish(record, self._config.mismatch_penalty_s, now_s)
        elif outcome.kind == "unavailable":
            self._punish(record, self._config.unavailable_penalty_s, now_s)

    def scores(self, now_s: float) -> tuple[Score, ...]:
        """The whole board, for metrics."""
        return tuple(
            Score(
                name,
                record.latency_s,
                1 / record.pace_s if record.pace_s else None,
                self._penalty(record, now_s),
            )
            for name, record in self._records.items()
        )

    def _time(self, record: _Record, size_bytes: int) -> float:
        if record.latency_s is None and record.pace_s is None:
            return self._config.assumed_s
        return (record.latency_s or 0.0) + size_bytes * (record.pace_s or 0.0)

    def _measure(self, record: _Record, seconds: float, size_bytes: int) -> None:
        if size_bytes <= self._config.small_bytes:
            record.latency_s = self._blend(record.latency_s, seconds)
            return
        # At least a quarter of the time counts as transfer, lest a lucky latency make pace nothing.
        transfer_s = max(seconds - (record.latency_s or 0.0), seconds / 4)
        record.pace_s = self._blend(record.pace_s, transfer_s / size_bytes)

    def _blend(self, old: float | None, new: float) -> float:
        return new if old is None else old + self._config.smoothing * (new - old)

    def _punish(self, record: _Record, penalty_s: float, now_s: float) -> None:
        total = self._penalty(record, now_s) + penalty_s
        record.penalty_s = min(total, self._config.max_penalty_s)
        record.penalised_at = now_s

    def _penalty(self, record: _Record, now_s: float) -> float:
        if not record.penalty_s:
            return 0.0
        age_s = max(0.0, now_s - record.penalised_at)
        return record.penalty_s * math.exp2(-age_s / self._config.half_life_s)

    def _probe_due(self, name: str, now_s: float) -> bool:
        record = self._records[name]
        return (
            now_s - record.asked_at >= self._config.probe_interval_s
            and self._penalty(record, now_s) < self._config.probe_below_penalty_s
        )
