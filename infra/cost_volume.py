"""Volumes of tokens: as people write them, and as edges meter them.

Edges count tokens in ``gen_ai_client_token_usage`` by ``gen_ai_token_type`` (input, output) and
``target`` (worker, cloud). One edge's own page has them since its process began; a Prometheus that
scrapes all edges has them for any time.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any
from urllib.parse import quote, urlsplit

from infra.cost import Volume
from infra.cost_prices import DAYS_PER_MONTH
from wire.errors import ConfigError, SourceUnavailableError

MAX_PAGE_BYTES = 32 << 20
_FAMILY = "gen_ai_client_token_usage"
_STARTED = "process_start_time_seconds"
_DAY_S = 86_400.0
_COUNT = re.compile(r"([0-9]+(?:\.[0-9]+)?)\s*([kKMGBT]?)")
_FACTORS = {"": 1.0, "k": 1e3, "K": 1e3, "M": 1e6, "G": 1e9, "B": 1e9, "T": 1e12}
_PERIODS = {"day": DAYS_PER_MONTH, "week": DAYS_PER_MONTH / 7, "month": 1.0, "year": 1 / 12}


@dataclass(frozen=True, slots=True, kw_only=True)
class Metered:
    """What edges counted over so many days."""

    days: float
    prompt: dict[str, float]
    output: dict[str, float]
    """By target."""
    source: str

    @property
    def share_local(self) -> float | None:
        """Of all tokens; None where there were none."""
        total = sum(self.prompt.values()) + sum(self.output.values())
        own = self.prompt.get("worker", 0.0) + self.output.get("worker", 0.0)
        return own / total if total > 0 else None

    def monthly(self, egress_gb: float = 0.0) -> Volume:
        """As a month of it."""
        scale = DAYS_PER_MONTH / self.days
        return Volume(
            prompt_tokens=sum(self.prompt.values()) * scale,
            output_tokens=sum(self.output.values()) * scale,
            egress_gb=egress_gb,
        )


def count(text: str) -> float:
    """``2B``, ``300M``, ``1.5k``, ``40000``.

    Raises:
        ConfigError: it is none of these.
    """
    match = _COUNT.fullmatch(text.strip().replace("_", ""))
    if match is None or len(text) > 40:
        raise ConfigError(f"not a number of tokens: {text!r}; write 40000, 300M or 2B")
    return float(match[1]) * _FACTORS[match[2]]


def per_month(value: float, period: str) -> float:
    """So much in a day, week, month or year, as a month's.

    Raises:
        ConfigError: another period.
    """
    if period not in _PERIODS:
        raise ConfigError(f"no period {period!r}; there are: {', '.join(_PERIODS)}")
    return value * _PERIODS[period]


def from_page(text: str, now_s: float, source: str, days: float = 0.0) -> Metered:
    """What a page of metrics says.

    Args:
        now_s: Unix time, to tell for how long it was counted.
        days: that, where it is known and the page does not say.

    Raises:
        ConfigError: it is no page of an edge's metrics, or does not say since when it counts.
    """
    from prometheus_client.parser import text_string_to_metric_families

    samples: list[tuple[str, str, float]] = []
    try:
        for family in text_string_to_metric_families(text):
            for sample in family.samples:
                if sample.name == f"{_FAMILY}_sum":
                    kind = sample.labels.get("gen_ai_token_type", "")
                    samples.append((kind, sample.labels.get("target", ""), sample.value))
                elif sample.name == _STARTED and not days:
                    days = (now_s - sample.value) / _DAY_S
    except ValueError as error:
        raise ConfigError(f"{source} is no page of metrics: {error}") from error
    if not days > 0:
        raise ConfigError(f"{source} does not say since when it counts: give --days")
    return _metered(samples, days, source)


def query(days: float) -> str:
    """What Prometheus is asked, for that many days until now."""
    return (
        f"sum by (gen_ai_token_type, target) (increase({_FAMILY}_sum[{max(round(days * 24), 1)}h]))"
    )


def from_answer(answer: Any, days: float, source: str) -> Metered:
    """What Prometheus answered to :func:`query`, decoded.

    Raises:
        ConfigError: it is no such answer.
    """
    try:
        found = [
            (
                str(row["metric"].get("gen_ai_token_type", "")),
                str(row["metric"].get("target", "")),
                float(row["value"][1]),
            )
            for row in answer["data"]["result"]
        ]
    except (KeyError, TypeError, ValueError, IndexError, AttributeError) as error:
        raise ConfigError(f"{source} did not answer as Prometheus does") from error
    return _metered(found, days, source)


def read_page(url: str, now_s: float, days: float = 0.0) -> Metered:
    """An edge's own counts. Raises what :func:`from_page` does, and SourceUnavailableError."""
    return from_page(_get(url, "/metrics").decode(errors="replace"), now_s, url, days)


def ask_prometheus(url: str, days: float) -> Metered:
    """All edges' counts. Raises what :func:`from_answer` does, and SourceUnavailableError."""
    import msgspec

    body = _get(url, "/api/v1/query", f"?query={quote(query(days))}")
    try:
        return from_answer(msgspec.json.decode(body), days, url)
    except msgspec.DecodeError as error:
        raise ConfigError(f"{url} did not answer as Prometheus does") from error


def _get(url: str, path: str, search: str = "") -> bytes:
    from wire.http_client import BlockingClient

    parts = urlsplit(url)
    given = parts.path.rstrip("/")
    client = BlockingClient(f"{parts.scheme}://{parts.netloc}")
    try:
        target = (given if given.endswith(path) else given + path) + search
        response = client.get(target, limit_bytes=MAX_PAGE_BYTES)
    finally:
        client.close()
    if response.status != 200:
        raise SourceUnavailableError(f"{url} answered {response.status}")
    return bytes(response.body)


def _metered(samples: Iterable[tuple[str, str, float]], days: float, source: str) -> Metered:
    totals: dict[str, dict[str, float]] = {"input": {}, "output": {}}
    for kind, target, value in samples:
        if kind in totals and 0 <= value < 1e18:
            totals[kind][target] = totals[kind].get(target, 0.0) + value
    if not totals["input"] and not totals["output"]:
        raise ConfigError(f"{source} has no {_FAMILY}: is it an edge that answered prompts?")
    return Metered(days=days, prompt=totals["input"], output=totals["output"], source=source)
