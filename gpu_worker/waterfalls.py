"""The waterfalls of one model on this worker: that of its boot, and those of its latest rolls.

A worker's boot begins with its process: what the interpreter and the imports take, a caller waits
for as well.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import overload

import structlog

from gpu_worker.telling import RollTelling, told_spans
from gpu_worker.waterfall import Waterfall
from wire.workers import BootSpan, WorkerRoll

_log = structlog.get_logger("waterfall")
_KEPT_ROLLS = 8
_AT_ONCE_S = 5.0
"""What begins so soon after the process has is a part of its start."""
_STAT = Path("/proc/self/stat")
_START_TIME = 19
"""Of the fields behind the command's name (proc(5): field 22)."""


class Waterfalls(Sequence[Waterfall]):
    """The boot's first, then the latest rolls', bounded.

    Args:
        started_s: on ``clock``, when the process began; None: the boot begins when it is begun.
        clock: monotonic seconds.
    """

    def __init__(
        self,
        *,
        model: str = "",
        started_s: float | None = None,
        clock: Callable[[], float] = time.perf_counter,
    ) -> None:
        self._model = model
        self._started_s = started_s
        self._made_s = clock()
        self._listens_s: float | None = None
        self._clock = clock
        self._kept: list[Waterfall] = []
        self._told: tuple[int, tuple[BootSpan, ...]] | None = None
        """How many spans the boot had when heartbeats were told of them, and what."""
        self._roll: RollTelling | None = None

    def begin(self) -> Waterfall:
        """A new one. Until one is kept it is the boot's, and the process's start is in it; not so
        where the model had to wait for its source or for somebody who wants it."""
        if self._kept:
            return Waterfall.begin("roll", model=self._model, clock=self._clock)
        now_s = self._clock()
        if self._started_s is None or now_s - self._made_s > _AT_ONCE_S:
            return Waterfall.begin("boot", model=self._model, clock=self._clock)
        ago_s = now_s - self._started_s
        boot = Waterfall.begin("boot", model=self._model, ago_s=ago_s, clock=self._clock)
        boot.ran("start", self._started_s, self._made_s)
        return boot

    def listens(self) -> None:
        """The worker's socket is bound, while its first model is still on its way."""
        self._listens_s = self._listens_s or self._clock()

    def rolls(self, waterfall: Waterfall, revision: str, *, previous: str) -> None:
        """It brings a revision from here on, which is told if it is no boot's."""
        waterfall.revision = revision
        if waterfall.kind == "roll":
            self._roll = RollTelling(waterfall, previous)

    def failed(self, waterfall: Waterfall, why: str) -> None:
        """It came to nothing, unless its engine serves already."""
        if self._roll is not None and self._roll.waterfall is waterfall:
            self._roll.failed(why)

    def told_roll(self) -> WorkerRoll | None:
        """The latest roll, as heartbeats tell it."""
        return self._roll.told() if self._roll is not None else None

    def keep(self, waterfall: Waterfall) -> None:
        """It led to an engine that serves. One line in the log says all of it."""
        if self._roll is not None and self._roll.waterfall is waterfall:
            self._roll.serves()
        whole = "start" in waterfall.steps_ms
        if whole and waterfall.kind == "boot" and self._listens_s is not None:
            waterfall.ran("listen", self._made_s, self._listens_s)
        self._kept.append(waterfall)
        del self._kept[1:-_KEPT_ROLLS]
        _log.info(
            "waterfall",
            kind=waterfall.kind,
            model=waterfall.model,
            revision=waterfall.revision,
            total_ms=round(waterfall.total_ms, 1),
            spans={s.name: [round(s.start_ms, 1), round(s.length_ms, 1)] for s in waterfall.spans},
            bytes={
                "disk": waterfall.from_disk,
                "seeds": waterfall.from_seeds,
                **waterfall.by_source,
            },
            decisions=waterfall.decisions,
        )

    @property
    def boot(self) -> Waterfall | None:
        return self._kept[0] if self._kept else None

    def boot_spans(self) -> tuple[BootSpan, ...]:
        """The boot's steps, as heartbeats tell them: to a tenth of a millisecond."""
        boot = self.boot
        if boot is None:
            return ()
        if self._told is None or self._told[0] != len(boot.spans):
            self._told = len(boot.spans), told_spans(boot.spans)
        return self._told[1]

    @property
    def last_roll(self) -> Waterfall | None:
        return self._kept[-1] if len(self._kept) > 1 else None

    @overload
    def __getitem__(self, index: int) -> Waterfall: ...

    @overload
    def __getitem__(self, index: slice) -> list[Waterfall]: ...

    def __getitem__(self, index: int | slice) -> Waterfall | list[Waterfall]:
        return self._kept[index]

    def __len__(self) -> int:
        return len(self._kept)

    def __iter__(self) -> Iterator[Waterfall]:
        return iter(self._kept)


def process_age_s(stat: Path = _STAT, now_s: Callable[[], float] | None = None) -> float | None:
    """Seconds since this process began, to the kernel's tick (10 ms); None where nobody tells.

    Args:
        now_s: seconds since the machine was booted, as ``stat`` counts them.
    """
    try:
        fields = stat.read_text().rpartition(")")[2].split()
        began_s = int(fields[_START_TIME]) / os.sysconf("SC_CLK_TCK")
    except (OSError, ValueError, IndexError):
        return None
    now = now_s() if now_s is not None else time.clock_gettime(time.CLOCK_BOOTTIME)
    return max(0.0, now - began_s)
