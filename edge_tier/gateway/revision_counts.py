"""How requests went by revision: what the origin compares a canary with, and Prometheus shows.

Only workers are counted, each request at each worker that it was sent to: an answer that a second
worker gave after a first one had failed is a failure of the one and an answer of the other. What is
the client's fault or choice (a refused request, hanging up) counts for neither.
"""

from __future__ import annotations

from bisect import bisect_left
from collections import Counter
from collections.abc import Iterator
from itertools import accumulate

from prometheus_client.core import CounterMetricFamily, HistogramMetricFamily
from prometheus_client.metrics_core import Metric
from prometheus_client.registry import Collector

from wire.fleet import FIRST_TOKEN_BOUNDS_MS, MAX_FIGURES, RevisionFigures

_BOUNDS_S = tuple(bound / 1_000 for bound in FIRST_TOKEN_BOUNDS_MS)
_NAMES = [*map(str, _BOUNDS_S), "+Inf"]
_SHORT = 12


class _Row:
    """One revision's counts."""

    __slots__ = ("answered", "failed", "first_token", "seconds", "used")

    def __init__(self) -> None:
        self.answered = 0
        self.failed = 0
        self.first_token = [0] * len(_NAMES)
        self.seconds = 0.0
        self.used = 0
        """The number of the event that was counted here last."""


class RevisionCounts(Collector):
    """Counts of the latest revisions. Used from the event loop only.

    Args:
        max_revisions: of all models together; beyond, the one that is unused for longest goes.
    """

    def __init__(self, max_revisions: int = MAX_FIGURES) -> None:
        self._max = max_revisions
        self._rows: dict[tuple[str, str], _Row] = {}
        self._events = 0
        self._fallbacks = 0

    def began(self, model: str, revision: str, seconds: float) -> None:
        """A worker's answer began so long after it was asked."""
        row = self._row(model, revision)
        row.first_token[bisect_left(_BOUNDS_S, seconds)] += 1
        row.seconds += seconds

    def answered(self, model: str, revision: str) -> None:
        """A worker's answer is whole."""
        self._row(model, revision).answered += 1

    def failed(self, model: str, revision: str) -> None:
        """A worker gave no answer, or broke off."""
        self._row(model, revision).failed += 1

    def fell_back(self) -> None:
        """A caller of a canary went to the stable revision: no worker with the canary's is left."""
        self._fallbacks += 1

    def figures(self) -> tuple[RevisionFigures, ...]:
        """All counts, for the report to the origin."""
        return tuple(
            RevisionFigures(
                model=model,
                revision=revision,
                answered=row.answered,
                failed=row.failed,
                first_token=tuple(row.first_token),
            )
            for (model, revision), row in self._rows.items()
        )

    def collect(self) -> Iterator[Metric]:
        """All families, as Prometheus's client asks for them."""
        labels = ("model", "revision")
        requests = CounterMetricFamily(
            "headwater_gateway_revision_requests",
            "Requests to workers by the revision that they served.",
            labels=(*labels, "outcome"),
        )
        times = HistogramMetricFamily(
            "headwater_gateway_revision_first_token_seconds",
            "From the request to a worker until its answer began.",
            labels=labels,
        )
        begin = Counter((model, revision[:_SHORT]) for model, revision in self._rows)
        for (model, revision), row in self._rows.items():
            alike = begin[model, revision[:_SHORT]] > 1
            names = (model, revision if alike else revision[:_SHORT])
            requests.add_metric((*names, "answered"), row.answered)
            requests.add_metric((*names, "failed"), row.failed)
            buckets = list(zip(_NAMES, map(float, accumulate(row.first_token)), strict=True))
            times.add_metric(names, buckets, row.seconds)
        yield requests
        yield times
        yield CounterMetricFamily(
            "headwater_gateway_canary_fallbacks",
            "Requests of a canary's callers that went to the stable revision.",
            value=self._fallbacks,
        )

    def _row(self, model: str, revision: str) -> _Row:
        self._events += 1
        key = model, revision
        row = self._rows.get(key)
        if row is None:
            row = self._added(key)
        row.used = self._events
        return row

    def _added(self, key: tuple[str, str]) -> _Row:
        if len(self._rows) >= self._max:
            del self._rows[min(self._rows, key=lambda one: self._rows[one].used)]
        row = self._rows[key] = _Row()
        return row
