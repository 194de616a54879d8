"""The boot waterfall: what a boot or a roll spent its time on, and where its bytes came from.

Steps may overlap, so each is a span with its own start. ``outer: inner`` is a part of ``outer``.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Literal

import msgspec

from gpu_worker.pull import PullReport
from wire.sources.member import SourceStats

PART = ": "
"""Between the name of a step and that of its part."""
_MAX_SPANS = 200
"""Of one waterfall; a boot has about fifteen."""


class Span(msgspec.Struct, frozen=True, kw_only=True):
    """One step, in milliseconds from the beginning of the waterfall."""

    name: str
    start_ms: float
    length_ms: float

    @property
    def end_ms(self) -> float:
        return self.start_ms + self.length_ms


class Waterfall(msgspec.Struct, kw_only=True, dict=True):
    """One boot or roll; sizes in bytes. It begins where it is made, or ``ago_s`` before
    (:meth:`begin`)."""

    kind: Literal["boot", "roll"] = "roll"
    model: str = ""
    revision: str = ""
    began_at: float = 0.0
    """Unix time, in seconds."""
    total_ms: float = 0.0
    """To the end of the last span."""
    spans: list[Span] = []
    """In the order in which they ended."""
    steps_ms: dict[str, float] = {}
    """Milliseconds by name; of a step that was taken twice, the sum."""
    decisions: dict[str, str] = {}
    """What was decided on the way, and why: ``load`` → ``mmap: …``."""
    size: int = 0
    from_disk: int = 0
    """Found in an earlier, interrupted pull, or the revision was whole already."""
    from_seeds: int = 0
    from_network: int = 0
    by_source: dict[str, int] = {}
    mismatches: dict[str, int] = {}
    """Chunks that a source sent rotten; none of them was used."""
    divergence_nats: float = 0.0
    """How far the engine's golden answers were from the published ones, at most."""

    def __post_init__(self) -> None:
        self._clock: Callable[[], float] = time.perf_counter
        self._origin_s = self._clock()
        self.running = ""
        """The step that is under way."""
        self._running_s = self._origin_s
        """When it began."""
        self.missing_bytes = 0
        """Of the pull that is under way: what has not arrived."""

    @classmethod
    def begin(
        cls,
        kind: Literal["boot", "roll"] = "roll",
        *,
        model: str = "",
        ago_s: float = 0.0,
        clock: Callable[[], float] = time.perf_counter,
        wall: Callable[[], float] = time.time,
    ) -> Waterfall:
        """A waterfall that began ``ago_s`` seconds ago. ``clock`` is monotonic seconds."""
        made = cls(kind=kind, model=model, began_at=wall() - ago_s)
        made._clock = clock
        made._origin_s = clock() - ago_s
        return made

    @contextmanager
    def step(self, name: str) -> Iterator[None]:
        """Time a step, also where it fails."""
        start_s, outer, outer_s = self._clock(), self.running, self._running_s
        self.running, self._running_s = name, start_s
        try:
            yield
        finally:
            self.running, self._running_s = outer, outer_s
            self.ran(name, start_s, self._clock())

    def under_way(self) -> Span | None:
        """The step that is under way, as far as it has come."""
        if not self.running:
            return None
        start_ms = (self._running_s - self._origin_s) * 1e3
        length_ms = (self._clock() - self._running_s) * 1e3
        return Span(name=self.running, start_ms=start_ms, length_ms=length_ms)

    def ran(self, name: str, start_s: float, end_s: float) -> None:
        """Note a step that ran between two readings of the clock."""
        self.add(name, (start_s - self._origin_s) * 1e3, (end_s - start_s) * 1e3)

    def add(self, name: str, start_ms: float, length_ms: float) -> None:
        """Note a step by its milliseconds from the beginning."""
        span = Span(name=name, start_ms=max(0.0, start_ms), length_ms=max(0.0, length_ms))
        if len(self.spans) < _MAX_SPANS:
            self.spans.append(span)
        self.steps_ms[name] = self.steps_ms.get(name, 0.0) + span.length_ms
        self.total_ms = max(self.total_ms, span.end_ms)

    def add_part(self, outer: str, inner: str, length_ms: float) -> None:
        """Note how long the beginning of the last step ``outer`` took."""
        start_ms = next((s.start_ms for s in reversed(self.spans) if s.name == outer), 0.0)
        self.add(f"{outer}{PART}{inner}", start_ms, length_ms)

    def progressed(self, _origin: str, done: int, total: int) -> None:
        """Told by a pull (``gpu_worker.pull.Progress``)."""
        self.missing_bytes = total - done

    def add_pull(
        self,
        report: PullReport,
        before: tuple[SourceStats, ...],
        after: tuple[SourceStats, ...],
    ) -> None:
        """Take over what a pull found; the sources' counters tell who gave what."""
        self.model = report.model
        self.revision = report.revision
        self.size = report.size
        self.from_disk = report.resumed_bytes
        self.from_seeds = report.seeded_bytes
        self.from_network = report.fetched_bytes
        for step, (start_s, end_s) in report.spans_s.items():
            self.ran(f"pull{PART}{step}", start_s, end_s)
        earlier = {stats.name: stats for stats in before}
        for stats in after:
            old = earlier.get(stats.name, SourceStats(stats.name))
            self.by_source[stats.name] = stats.bytes - old.bytes
            self.mismatches[stats.name] = stats.mismatches - old.mismatches
