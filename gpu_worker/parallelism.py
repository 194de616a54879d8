"""How many chunks to fetch at the same time: as many as make it faster, and no more. Pure.

A near source is saturated by two; a third only fights with them for cores. A far one needs more,
since each waits for a round trip. So the number climbs by doubling, as long as that pays:

* It is judged over windows of at least ``window_s`` seconds and two chunks for each fetch.
* A window that is better by ``gain`` than the one before the climb keeps the number and climbs on.
* One that is not takes the climb back, and then it rests for ``rest_windows`` before the next try.
"""

from __future__ import annotations

from dataclasses import dataclass

from wire.errors import ConfigError


@dataclass(frozen=True, slots=True, kw_only=True)
class ParallelismConfig:
    """Bounds of the climb."""

    start: int = 2
    """Chunks that are fetched at once when a pull begins; 1 to ``most``."""
    most: int = 6
    """Chunks in memory at once: memory is this many times the largest chunk (8 MiB)."""
    window_s: float = 0.25
    """The shortest time over which the throughput is judged."""
    gain: float = 1.15
    """By how much a climb must raise the throughput to be kept."""
    rest_windows: int = 8
    """So many windows pass between a climb that was taken back and the next one; at least 1."""

    def __post_init__(self) -> None:
        if not 1 <= self.start <= self.most:
            raise ConfigError("parallelism: 1 <= start <= most must hold")
        if self.window_s <= 0 or self.gain < 1 or self.rest_windows < 1:
            raise ConfigError("parallelism: window_s > 0, gain >= 1 and rest_windows >= 1")


class Parallelism:
    """The number for one pull.

    Args:
        now_s: monotonic, as in :meth:`delivered`.
    """

    def __init__(self, config: ParallelismConfig, now_s: float) -> None:
        self._config = config
        self._since_s = now_s
        self._bytes = 0
        self._chunks = 0
        self._before = 0.0
        """Bytes per second before the climb that is being judged; 0: none is."""
        self._lower = config.start
        self._rest = 0
        self.level = config.start
        """Chunks to fetch at the same time now."""

    def delivered(self, size_bytes: int, now_s: float) -> None:
        """A chunk has come."""
        self._bytes += size_bytes
        self._chunks += 1
        age_s = now_s - self._since_s
        if age_s >= self._config.window_s and self._chunks >= 2 * self.level:
            self._judge(self._bytes / age_s)
            self._since_s, self._bytes, self._chunks = now_s, 0, 0

    def _judge(self, rate: float) -> None:
        if self._rest:
            self._rest -= 1
        elif self._before and rate < self._before * self._config.gain:
            self.level, self._before = self._lower, 0.0
            self._rest = self._config.rest_windows
        elif self.level < self._config.most:
            self._lower, self._before = self.level, rate
            self.level = min(2 * self.level, self._config.most)
        else:
            self._before = 0.0
