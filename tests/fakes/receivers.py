"""A receiver of remote write in memory, that is there or not, and keeps the rules of a real one."""

from __future__ import annotations

from collections import defaultdict

from tests.fakes.prometheus_messages import decode_body
from wire.errors import SourceUnavailableError
from wire.telemetry.pipeline import Answer


class MemoryReceiver:
    """Takes the samples of a series in order only, and the newest one again (Prometheus's rules).

    ``status``: None while nobody answers; what is answered otherwise. ``deaf``: it takes what comes
    but the answer is lost.
    """

    def __init__(self) -> None:
        self.status: int | None = 200
        self.deaf = False
        self.retry_after_s = 0.0
        self.tries = 0
        self.closed = False
        self.series: dict[tuple[tuple[str, str], ...], dict[int, float]] = defaultdict(dict)

    async def post(self, body: bytes) -> Answer:
        self.tries += 1
        if self.status is None:
            raise SourceUnavailableError("nobody listens")
        if self.status != 200:
            return Answer(self.status, self.retry_after_s, "not now")
        found = [(tuple(sorted(labels.items())), samples) for labels, samples in decode_body(body)]
        for key, samples in found:
            newest = max(self.series[key], default=0)
            if any(time < newest for _, time in samples):
                return Answer(400, 0.0, "out of order sample")
        for key, samples in found:
            self.series[key].update({time: value for value, time in samples})
        if self.deaf:
            raise SourceUnavailableError("the answer was lost")
        return Answer(200)

    async def aclose(self) -> None:
        self.closed = True

    def values(self, name: str) -> list[float]:
        """The values of all series of a metric, in order of time."""
        found: dict[int, float] = {}
        for key, samples in self.series.items():
            if dict(key)["__name__"] == name:
                found.update(samples)
        return [found[time] for time in sorted(found)]

    @property
    def samples(self) -> int:
        """How many it has."""
        return sum(len(samples) for samples in self.series.values())
