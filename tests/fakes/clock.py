"""A clock that moves when told to."""

from __future__ import annotations

import time


class ManualClock:
    """A clock that moves when told to; seconds."""

    def __init__(self, now_s: float = 1_000.0) -> None:
        self.now_s = now_s

    def __call__(self) -> float:
        return self.now_s

    def advance(self, seconds: float) -> None:
        self.now_s += seconds


class HeldClock(ManualClock):
    """A clock that may be let run as the real one does. While it is held nothing comes too late,
    however long the machine stands still; each look at it is counted."""

    def __init__(self) -> None:
        super().__init__()
        self.looks = 0
        self._since_s: float | None = None

    def __call__(self) -> float:
        self.looks += 1
        running_s = 0.0 if self._since_s is None else time.monotonic() - self._since_s
        return self.now_s + running_s

    def run(self) -> None:
        self._since_s = time.monotonic()

    def hold(self) -> None:
        self.now_s, self._since_s = self(), None
