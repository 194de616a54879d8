"""What a worker measures of its answers, in a registry of its own."""

from __future__ import annotations

from collections.abc import Collection

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram

from gpu_worker.engine import Finish
from gpu_worker.serving import Serving

_FIRST_TOKEN_S = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0)
_TOTAL_S = (0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 300.0)


class WorkerMetrics:
    """Counters and histograms of the routes; gauges are read from ``servings``, of all models
    together, when scraped."""

    def __init__(self, registry: CollectorRegistry, servings: Collection[Serving]) -> None:
        self._requests = Counter(
            "headwater_worker_requests",
            "Generations by how they ended: done, client_gone, or an error's code.",
            ["outcome"],
            registry=registry,
        )
        self._tokens = Counter(
            "headwater_worker_tokens",
            "Tokens by kind: prompt, prompt reused from the cache, completion.",
            ["kind"],
            registry=registry,
        )
        self._queued = Histogram(
            "headwater_worker_queue_seconds",
            "Wait for a slot.",
            buckets=_FIRST_TOKEN_S,
            registry=registry,
        )
        self._first_token = Histogram(
            "headwater_worker_first_token_seconds",
            "From the request to its first token, the queue included.",
            buckets=_FIRST_TOKEN_S,
            registry=registry,
        )
        self._total = Histogram(
            "headwater_worker_answer_seconds",
            "From the request to the end of a whole answer.",
            buckets=_TOTAL_S,
            registry=registry,
        )
        slots = Gauge(
            "headwater_worker_slots", "Requests the engine runs at once.", registry=registry
        )
        busy = Gauge("headwater_worker_busy", "Requests that run.", registry=registry)
        queue = Gauge("headwater_worker_queue", "Requests that wait.", registry=registry)
        slots.set_function(lambda: sum(s.load().slots for s in servings))
        busy.set_function(lambda: sum(s.load().busy for s in servings))
        queue.set_function(lambda: sum(s.load().queue for s in servings))

    def queued(self, seconds: float) -> None:
        self._queued.observe(seconds)

    def first_token(self, seconds: float) -> None:
        self._first_token.observe(seconds)

    def done(self, finish: Finish, seconds: float) -> None:
        """A whole answer."""
        self._requests.labels("done").inc()
        self._tokens.labels("prompt").inc(finish.prompt_tokens)
        self._tokens.labels("prompt_cached").inc(finish.cached_tokens)
        self._tokens.labels("completion").inc(finish.completion_tokens)
        self._total.observe(seconds)

    def failed(self, outcome: str) -> None:
        """No whole answer, and why: an error's code, or ``client_gone``."""
        self._requests.labels(outcome).inc()
