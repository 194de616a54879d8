"""The gateway's metrics (Prometheus), named as OpenTelemetry's GenAI conventions where these have a
name, and with one of our own for what the gateway itself costs a request.

Labels are bounded: no key, prompt or model from outside. The families are counted in plain lists on
the event loop and only become samples when somebody asks, because a request passes a dozen of them.
"""

from __future__ import annotations

from bisect import bisect_left
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import accumulate

from prometheus_client import CollectorRegistry
from prometheus_client.core import CounterMetricFamily, HistogramMetricFamily
from prometheus_client.metrics_core import Metric
from prometheus_client.registry import Collector

from wire.fleet import (
    ANSWER_BOUNDS_MS,
    MAX_ROUTES,
    MAX_STAGES,
    STAGE_BOUNDS_MS,
    PromptFigures,
    RouteFigures,
    StageFigures,
)

_DURATION_S = (
    0.01,
    0.02,
    0.04,
    0.08,
    0.16,
    0.32,
    0.64,
    1.28,
    2.56,
    5.12,
    10.24,
    20.48,
    40.96,
    81.92,
)
"""As the GenAI conventions advise for ``gen_ai.client.operation.duration``."""
_FIRST_TOKEN_S = tuple(bound / 1_000 for bound in ANSWER_BOUNDS_MS)
"""As they advise for ``gen_ai.server.time_to_first_token``."""
_PER_TOKEN_S = (0.01, 0.025, 0.05, 0.075, 0.1, 0.15, 0.2, 0.3, 0.4, 0.5, 0.75, 1.0, 2.5)
"""As they advise for ``gen_ai.server.time_per_output_token``."""
_TOKENS = (1, 4, 16, 64, 256, 1_024, 4_096, 16_384, 65_536, 262_144, 1_048_576)
_OVERHEAD_S = tuple(bound / 1_000 for bound in STAGE_BOUNDS_MS)
_MAX_ROUTES = 256
"""Pairs of target and reason; policy files that change bring new rows."""

Labels = tuple[str, ...]


class _Count:
    """A counter family."""

    def __init__(self, name: str, text: str, labels: Labels = ()) -> None:
        self._name, self._text, self._labels = name, text, labels
        self._values: dict[Labels, float] = {} if labels else {(): 0.0}

    def add(self, labels: Labels = (), amount: float = 1.0) -> None:
        values = self._values
        values[labels] = values.get(labels, 0.0) + amount

    @property
    def values(self) -> Mapping[Labels, float]:
        """By labels."""
        return self._values

    def family(self) -> Metric:
        family = CounterMetricFamily(self._name, self._text, labels=self._labels)
        for labels, value in self._values.items():
            family.add_metric(labels, value)
        return family


class _Distribution:
    """A histogram family."""

    def __init__(self, name: str, text: str, bounds: Sequence[float], labels: Labels = ()) -> None:
        self._name, self._text, self._labels = name, text, labels
        self._bounds = tuple(bounds)
        self._names = [*map(str, map(float, bounds)), "+Inf"]
        self._counts: dict[Labels, list[float]] = {}

    def observe(self, value: float, labels: Labels = ()) -> None:
        counts = self._counts.get(labels)
        if counts is None:
            counts = self._counts[labels] = [0.0] * (len(self._bounds) + 2)
        counts[bisect_left(self._bounds, value)] += 1
        counts[-1] += value

    @property
    def counts(self) -> Mapping[Labels, Sequence[float]]:
        """By labels: how many fell into each bucket, and last the sum of the values."""
        return self._counts

    def family(self) -> Metric:
        family = HistogramMetricFamily(self._name, self._text, labels=self._labels)
        for labels, (*counts, total) in self._counts.items():
            buckets = list(zip(self._names, accumulate(counts), strict=True))
            family.add_metric(labels, buckets, total)
        return family


class GatewayMetrics(Collector):
    """Counts what the gateway did. Used from the event loop only."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self._answers = _Count(
            "headwater_gateway_answers",
            "Requests that a backend answered.",
            ("target", "outcome"),
        )
        self._routes = _Count(
            "headwater_gateway_routes",
            "Requests by what answered them and why they went there.",
            ("target", "reason"),
        )
        self._refusals = _Count("headwater_gateway_refusals", "Requests refused.", ("code",))
        self._tokens = _Count("headwater_gateway_tokens", "Tokens charged.", ("target",))
        self._fallbacks = _Count("headwater_gateway_fallbacks", "Backends passed over.")
        self._hedges = _Count(
            "headwater_gateway_hedges", "Answers that a second worker gave first."
        )
        self._broken = _Count("headwater_gateway_broken_streams", "Streams cut.", ("target",))
        self._resumed = _Count(
            "headwater_gateway_resumed_streams",
            "Streams that a worker broke off, by how they went on, or that they did not.",
            ("outcome",),
        )
        self._findings = _Count(
            "headwater_gateway_findings", "What sanitizing and filtering found.", ("kind", "action")
        )
        self._modes = _Count(
            "headwater_gateway_hybrid",
            "Answers by the confidence gate or by draft and verify, by how they ended.",
            ("mode", "outcome"),
        )
        self._overhead = _Distribution(
            "headwater_gateway_overhead_seconds",
            "What the gateway itself took of a request, without the backend.",
            _OVERHEAD_S,
        )
        self._stages = _Distribution(
            "headwater_gateway_stage_seconds", "Time in one stage.", _OVERHEAD_S, ("stage",)
        )
        self._first_token = _Distribution(
            "gen_ai_server_time_to_first_token_seconds",
            "Time to the first token of a streamed answer.",
            _FIRST_TOKEN_S,
            ("target",),
        )
        self._per_token = _Distribution(
            "gen_ai_server_time_per_output_token_seconds",
            "Time for each token after the first.",
            _PER_TOKEN_S,
            ("target",),
        )
        self._duration = _Distribution(
            "gen_ai_server_request_duration_seconds",
            "Duration of a request, its answer included.",
            _DURATION_S,
            ("gen_ai_operation_name", "target"),
        )
        self._usage = _Distribution(
            "gen_ai_client_token_usage",
            "Tokens of a request.",
            _TOKENS,
            ("gen_ai_token_type", "target"),
        )
        registry.register(self)

    def collect(self) -> Iterator[Metric]:
        """All families, as Prometheus's client asks for them."""
        for family in vars(self).values():
            if isinstance(family, (_Count, _Distribution)):
                yield family.family()

    def first_token(self, target: str, seconds: float) -> None:
        """A backend's first bytes arrived so long after the request."""
        self._first_token.observe(seconds, (target,))

    def admitted(self, stages: Sequence[tuple[str, float]]) -> None:
        """A request passed the pipeline; milliseconds by stage, the reading of its body aside."""
        total = 0.0
        for name, milliseconds in stages:
            seconds = milliseconds * 1e-3
            self._stages.observe(seconds, (name,))
            if name != "read":
                total += seconds
        self._overhead.observe(total)

    def answered(
        self,
        *,
        operation: str,
        target: str,
        outcome: str,
        why: str,
        usage: tuple[int, int],
        seconds: float,
        after_first_s: float,
    ) -> None:
        """An answer ended: ``whole``, ``broken``, ``failed`` or ``gone`` (the client).

        Args:
            why: what decided where it went, as ``Plan.why`` has it.
            usage: tokens of the prompt and of the answer.
            after_first_s: from the first event to the end.
        """
        tokens_in, tokens_out = usage
        self._answers.add((target, outcome))
        route = target, why
        known = self._routes.values
        self._routes.add(route if route in known or len(known) < _MAX_ROUTES else (target, "other"))
        self._tokens.add((target,), tokens_in + tokens_out)
        self._usage.observe(tokens_in, ("input", target))
        self._usage.observe(tokens_out, ("output", target))
        self._duration.observe(seconds, (operation, target))
        if tokens_out > 1 and after_first_s > 0:
            self._per_token.observe(after_first_s / (tokens_out - 1), (target,))

    def passed_over(self, fallbacks: int, *, hedged: bool) -> None:
        """So many backends failed before one answered; ``hedged``: a second worker was faster."""
        self._fallbacks.add((), fallbacks)
        self._hedges.add((), hedged)

    def broken(self, target: str) -> None:
        """A backend broke off after its first byte."""
        self._broken.add((target,))

    def resumed(self, outcome: str) -> None:
        """A stream went on after its worker broke it off, or did not (``not``)."""
        self._resumed.add((outcome,))

    def refused(self, code: str) -> None:
        """A request was refused; ``code`` is one of our own."""
        self._refusals.add((code,))

    def found(self, findings: Mapping[tuple[str, str], int]) -> None:
        """Findings by kind and action."""
        for labels, count in findings.items():
            self._findings.add(labels, count)

    def hybrid(self, mode: str, outcome: str) -> None:
        """How a gate or a verification ended."""
        self._modes.add((mode, outcome))

    def figures(self) -> PromptFigures:
        """What the origin is told of it."""
        outcomes: Counter[str] = Counter()
        for (_, outcome), count in self._answers.values.items():
            outcomes[outcome] += int(count)
        admitted = sum(int(sum(counts[:-1])) for counts in self._overhead.counts.values())
        routes = sorted(self._routes.values.items(), key=lambda one: -one[1])[:MAX_ROUTES]
        return PromptFigures(
            answered=outcomes["whole"],
            failed=outcomes["failed"] + outcomes["broken"],
            gone=outcomes["gone"],
            refused=int(sum(self._refusals.values.values())),
            streams=max(0, admitted - outcomes.total()),
            first_token=_added(self._first_token.counts.values()),
            stages=tuple(
                StageFigures(name=name, counts=_added([counts]), total_ms=counts[-1] * 1e3)
                for (name,), counts in list(self._stages.counts.items())[:MAX_STAGES]
            ),
            routes=tuple(
                RouteFigures(target=target, reason=reason, count=int(count))
                for (target, reason), count in routes
            ),
        )


def _added(rows: Iterable[Sequence[float]]) -> tuple[int, ...]:
    """Buckets of several distributions, without their sums."""
    return tuple(int(sum(column)) for column in zip(*(row[:-1] for row in rows), strict=True))
