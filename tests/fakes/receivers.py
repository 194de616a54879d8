"""Receivers of remote write: one in memory with the rules of a real one, and one over HTTP."""

from __future__ import annotations

import asyncio
from collections import defaultdict
from collections.abc import Callable

from aiohttp import web

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


class HttpSink:
    """Remembers requests and answers as it is told."""

    def __init__(self) -> None:
        self.answer: Callable[[], web.Response] = lambda: web.Response(status=204)
        self.delay_s = 0.0
        self.headers: list[dict[str, str]] = []
        self.bodies: list[bytes] = []

    async def take(self, request: web.Request) -> web.Response:
        self.headers.append({name.lower(): value for name, value in request.headers.items()})
        self.bodies.append(await request.content.read())
        await asyncio.sleep(self.delay_s)
        return self.answer()

    @property
    def metrics(self) -> set[str]:
        """The names of all that came."""
        return {labels["__name__"] for body in self.bodies for labels, _ in decode_body(body)}

    def app(self) -> web.Application:
        app = web.Application()
        app.router.add_post("/write", self.take)
        return app
