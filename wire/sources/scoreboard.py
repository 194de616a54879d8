"""Which source is nearest: measured time, load, probes, and penalties that fade. Pure; times are
given.

An answer is expected after ``latency + (load + 1) * size * pace + penalty`` seconds, where ``load``
requests for chunks run at that source already. Latency is learnt from small answers; pace (seconds
per byte of all that a source gives at once) from large ones, divided by how many shared the source.
Both are exponentially weighted means in which old knowledge fades. A source whose pace is not known
yet is taken to be as fast as the fastest.

A fault adds a penalty in seconds that halves every ``half_life_s``, and with every chunk that the
source delivers: a mismatch weighs more than an outage, and both are forgiven in time. Requests that
were in the air together fail for one reason, and are punished once. A source that was not asked for
``probe_interval_s`` is due for a probe, so that the figures of those that lost stay true; one that
is still being punished is not.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from types import MappingProxyType

from wire.sources.member import Outcome

NO_LOADS: Mapping[str, int] = MappingProxyType({})


@dataclass(frozen=True, slots=True, kw_only=True)
class ScoreConfig:
    """How a scoreboard learns and forgives."""

    typical_bytes: int = 4 * 1024 * 1024
    """How large a chunk is taken to be where its size is not known, and none was seen yet."""
    assumed_s: float = 3.0
    """What an unmeasured source is taken to cost: between a good one and a punished one."""
    small_bytes: int = 64 * 1024
    """Answers up to this size tell latency, larger ones tell pace."""
    smoothing: float = 0.3
    """Weight of the newest measurement, 0 to 1, where the last one is fresh."""
    unavailable_penalty_s: float = 5.0
    """Added to what a source is expected to take when it did not answer."""
    mismatch_penalty_s: float = 60.0
    """The same when it gave a chunk whose hash is wrong."""
    max_penalty_s: float = 600.0
    """All penalties of a source together are no more than this."""
    half_life_s: float = 30.0
    """In which penalties, and the weight of what was measured, halve."""
    probe_interval_s: float = 30.0
    """A source that was not asked for so long is asked once, so that its figures stay true."""
    probe_below_penalty_s: float = 1.0
    """A source is probed again once its penalty has faded below this."""


@dataclass(frozen=True, slots=True)
class Score:
    """One source as the board sees it now. None: not measured yet."""

    name: str
    latency_s: float | None
    bytes_per_s: float | None
    penalty_s: float


class _Mean:
    """A weighted mean; None before the first measurement."""

    __slots__ = ("_measured_at", "value")

    def __init__(self) -> None:
        self.value: float | None = None
        self._measured_at = 0.0

    def add(self, new: float, now_s: float, config: ScoreConfig, *, forget: bool = False) -> None:
        """``forget``: what was measured before counts no more."""
        age_s = max(0.0, now_s - self._measured_at)
        self._measured_at = now_s
        if self.value is None or forget:
            self.value = new
            return
        kept = (1 - config.smoothing) * math.exp2(-age_s / config.half_life_s)
        self.value = kept * self.value + (1 - kept) * new


class _Record:
    __slots__ = (
        "asked_at",
        "chunk_asked_at",
        "latency",
        "losses",
        "pace",
        "penalised_at",
        "penalty_s",
    )

    def __init__(self) -> None:
        self.latency = _Mean()
        self.pace = _Mean()
        self.losses = 0  # requests in a row that were given up because they took too long
        self.penalty_s = 0.0
        self.penalised_at = -math.inf
        self.asked_at = -math.inf
        self.chunk_asked_at = -math.inf

    @property
    def is_measured(self) -> bool:
        return self.latency.value is not None or self.pace.value is not None


class Scoreboard:
    """Scores of some sources. Ties go to the least loaded, then to the order of ``names``."""

    def __init__(self, names: Iterable[str], config: ScoreConfig) -> None:
        self._config = config
        self._records = {name: _Record() for name in names}
        self._chunk_bytes = _Mean()

    @property
    def typical_bytes(self) -> int:
        """About the size of a chunk of which it is not known."""
        return int(self._chunk_bytes.value or self._config.typical_bytes)

    def rank(
        self, now_s: float, size_bytes: int, loads: Mapping[str, int] = NO_LOADS
    ) -> tuple[str, ...]:
        """All sources, the one that is expected to give an answer of this size first.

        Args:
            loads: how many requests for chunks run at each source now; none where it is not named.
        """

        def cost(name: str) -> tuple[float, int]:
            record, load = self._records[name], loads.get(name, 0)
            return self._time(record, size_bytes, load) + self._penalty(record, now_s), load

        return tuple(sorted(self._records, key=cost))

    def asked(self, name: str, now_s: float, *, chunk: bool) -> None:
        """This source is being asked now, for a chunk or for a small document."""
        record = self._records[name]
        record.asked_at = now_s
        if chunk:
            record.chunk_asked_at = now_s

    def due(self, now_s: float, *, chunk: bool) -> tuple[str, ...]:
        """Whom to probe, whoever was not asked for longest first.

        With ``chunk``, those who were not asked for a chunk; else those not asked for anything.
        """
        last = {
            name: record.chunk_asked_at if chunk else record.asked_at
            for name, record in self._records.items()
            if self._penalty(record, now_s) < self._config.probe_below_penalty_s
        }
        long_ago = now_s - self._config.probe_interval_s
        return tuple(
            sorted((name for name in last if last[name] <= long_ago), key=last.__getitem__)
        )

    def expected_s(self, name: str, size_bytes: int, load: int = 0) -> float | None:
        """Seconds until an answer of this size is there, penalties apart; None: not known yet."""
        record = self._records[name]
        if (record.pace if size_bytes else record.latency).value is None:
            return None
        return self._time(record, size_bytes, load)

    def record(self, name: str, outcome: Outcome, now_s: float) -> None:
        """Learn from one request. Something missing is no fault and tells no time."""
        record = self._records[name]
        if outcome.kind == "delivered":
            record.losses = 0
            self._measure(record, outcome.seconds, outcome.size_bytes, outcome.sharing, now_s)
            if outcome.is_chunk:
                record.penalty_s /= 2
                self._chunk_bytes.add(outcome.size_bytes, now_s, self._config)
        elif outcome.kind == "abandoned":
            self._lose(record, outcome, now_s)
        elif outcome.kind == "mismatch":
            self._punish(record, outcome, self._config.mismatch_penalty_s, now_s)
        elif outcome.kind == "unavailable":
            self._punish(record, outcome, self._config.unavailable_penalty_s, now_s)

    def scores(self, now_s: float) -> tuple[Score, ...]:
        """The whole board, for metrics."""
        return tuple(
            Score(
                name,
                record.latency.value,
                1 / record.pace.value if record.pace.value else None,
                self._penalty(record, now_s),
            )
            for name, record in self._records.items()
        )

    def _time(self, record: _Record, size_bytes: int, load: float) -> float:
        if not record.is_measured:
            return self._config.assumed_s * (load + 1)
        pace_s = record.pace.value
        if pace_s is None:
            known = (other.pace.value for other in self._records.values())
            pace_s = min((pace for pace in known if pace is not None), default=0.0)
        return (record.latency.value or 0.0) + (load + 1) * size_bytes * pace_s

    def _lose(self, record: _Record, outcome: Outcome, now_s: float) -> None:
        """Learn from a request that was given up, where it took longer than was expected of it.

        Without this a source that stalls until it is cancelled would never look slow. One is an
        accident; from the second in a row on, nothing else counts.
        """
        size_bytes = (outcome.wanted_bytes or self.typical_bytes) if outcome.is_chunk else 0
        if outcome.seconds > self._time(record, size_bytes, outcome.sharing - 1):
            record.losses += 1
            # It was not the others who took its share of the source: they got nothing either.
            self._measure(record, outcome.seconds, size_bytes, 1.0, now_s)

    def _measure(
        self, record: _Record, seconds: float, size_bytes: int, sharing: float, now_s: float
    ) -> None:
        forget = record.losses > 1
        if size_bytes <= self._config.small_bytes:
            record.latency.add(seconds, now_s, self._config, forget=forget)
            return
        # At least a quarter of the time counts as transfer, lest a lucky latency make pace nothing.
        transfer_s = max(seconds - (record.latency.value or 0.0), seconds / 4)
        pace_s = transfer_s / size_bytes / sharing
        record.pace.add(pace_s, now_s, self._config, forget=forget)

    def _punish(self, record: _Record, outcome: Outcome, penalty_s: float, now_s: float) -> None:
        left_s = self._penalty(record, now_s)
        began_at = now_s - outcome.seconds
        # What began before the last punishment belongs to the same fault.
        total_s = left_s + penalty_s if began_at > record.penalised_at else max(left_s, penalty_s)
        record.penalty_s = min(total_s, self._config.max_penalty_s)
        record.penalised_at = now_s

    def _penalty(self, record: _Record, now_s: float) -> float:
        if not record.penalty_s:
            return 0.0
        age_s = max(0.0, now_s - record.penalised_at)
        return record.penalty_s * math.exp2(-age_s / self._config.half_life_s)
