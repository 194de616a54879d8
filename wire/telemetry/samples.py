"""From a registry to the samples of one moment.

The number of series is bounded: a label that somebody outside can vary must not fill the spool. A
series that is not there any more gets one stale marker, as a scrape would give it.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from prometheus_client import CollectorRegistry
from prometheus_client.metrics_core import Metric

from wire.telemetry.config import MAX_LABEL_CHARS
from wire.telemetry.remote_write import STALE, encode_labels

MAX_STEP_BACK_MS = 60_000


@dataclass(frozen=True, slots=True)
class Scrape:
    """The samples of one moment."""

    series: tuple[tuple[bytes, float], ...]
    """Encoded labels, each once, and values."""
    over: int
    """Samples that are not among them, for they were too many."""

    def batches(self, most: int) -> Iterator[tuple[tuple[bytes, float], ...]]:
        """The series in parts of at most ``most``: no part has a series twice."""
        for begin in range(0, len(self.series), most):
            yield self.series[begin : begin + most]


class Sampler:
    """Reads a registry. Call it where the registry's collectors may be called: on the event loop.

    Args:
        labels: put on every series that has not one of that name itself.
        max_series: the most that are taken.
    """

    def __init__(
        self, registry: CollectorRegistry, labels: Mapping[str, str], *, max_series: int
    ) -> None:
        self._registry = registry
        self._labels = dict(labels)
        self._max_series = max_series
        self._encoded: dict[tuple[str, tuple[tuple[str, str], ...]], bytes] = {}
        """Labels repeat from scrape to scrape, and so need not be encoded anew."""
        self._before: frozenset[bytes] = frozenset()

    def take(self) -> Scrape:
        """What the registry says now. Raises whatever a collector raises."""
        found: dict[bytes, float] = {}
        over = 0
        for family in self._registry.collect():
            for name, labels, value in _samples(family):
                if len(found) < self._max_series:
                    found[self._key(name, labels)] = value
                else:
                    over += 1
        now = frozenset(found)
        ended = sorted(self._before - now)
        self._before = now
        return Scrape((*found.items(), *((labels, STALE) for labels in ended)), over)

    def _key(self, name: str, labels: Mapping[str, str]) -> bytes:
        key = (name, tuple(labels.items()))
        encoded = self._encoded.get(key)
        if encoded is None:
            own = {label: text[:MAX_LABEL_CHARS] for label, text in labels.items()}
            encoded = encode_labels({**self._labels, **own, "__name__": name})
            if len(self._encoded) >= 2 * self._max_series:
                self._encoded.clear()
            self._encoded[key] = encoded
        return encoded


def _samples(family: Metric) -> Iterator[tuple[str, Mapping[str, str], float]]:
    """All but the times of creation, which the client library adds as series of their own."""
    for sample in family.samples:
        if not sample.name.endswith("_created") or sample.name == family.name:
            yield sample.name, sample.labels, sample.value


class Stamps:
    """Times of scrapes, which a receiver wants in order.

    A clock that is set back a little (a step of NTP) is waited for: until it has caught up, stamps
    are a millisecond apart. A clock that is set back by more was wrong before; then it is believed,
    because whoever stays in the future is refused for as long as that lasts.

    Args:
        last_ms: the newest stamp that was given by an earlier process; 0: none.
    """

    def __init__(self, last_ms: int = 0) -> None:
        self._last_ms = last_ms
        self.corrected = 0
        """How often the clock was not after the last stamp."""

    def next(self, wall_s: float) -> int:
        """The stamp of a scrape at that time of the clock, in milliseconds."""
        now_ms = int(wall_s * 1000)
        if now_ms <= self._last_ms:
            self.corrected += 1
            if self._last_ms - now_ms <= MAX_STEP_BACK_MS:
                now_ms = self._last_ms + 1
        self._last_ms = now_ms
        return now_ms
