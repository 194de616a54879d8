"""Which metrics the tiers really have, and which ones an expression of PromQL asks for."""

from __future__ import annotations

import re
from collections.abc import Mapping

from openai.types.chat import ChatCompletionUserMessageParam
from prometheus_client.metrics_core import Metric
from prometheus_client.parser import text_string_to_metric_families

from tests.fakes.fleet import Fleet, get
from wire.paths import METRICS

PAGE_HEAD = """# Metrics

What `/metrics` of each tier tells, read off a running system (`make docs-metrics`). `headwater_`
are ours, `gen_ai_` follow OpenTelemetry's GenAI conventions, `process_` are Prometheus's own.
Counters begin anew with their process. Alerts and dashboards: [monitor](../how-to/monitor.md).

What labels say is bounded: nothing of a prompt, a key or a request becomes one, and models,
channels and revisions only where they are signed or served. Left out are `le` of histograms, and
what a scrape adds: `job`, `instance`, `region`.
"""
Labels = Mapping[str, set[str]]
"""Family → its labels."""
_SUFFIXES = ("_bucket", "_sum", "_count", "_total", "_created")
_WORDS = frozenset(
    [
        "abs",
        "absent",
        "and",
        "avg",
        "bool",
        "changes",
        "clamp_min",
        "count",
        "delta",
        "group",
        "histogram_quantile",
        "increase",
        "max",
        "max_over_time",
        "min",
        "offset",
        "or",
        "rate",
        "sum",
        "time",
        "timestamp",
        "topk",
        "unless",
        "vector",
    ]
)
_STRING = re.compile(r'"[^"]*"')
_BRACES = re.compile(r"\{[^}]*\}")
_RANGE = re.compile(r"\[[^]]*\]")
_GROUPING = re.compile(r"\b(by|without|on|ignoring|group_left)\s*\(([^)]*)\)")
_SELECTOR = re.compile(r"([a-zA-Z_:][a-zA-Z0-9_:]*)\s*\{([^}]*)\}")
_MATCHER = re.compile(r"([a-zA-Z_][a-zA-Z0-9_]*)\s*(?:=~|!~|!=|=)")
_NAME = re.compile(r"(?<![a-zA-Z0-9_:])[a-zA-Z_:][a-zA-Z0-9_:]*")


def families(text: str) -> Mapping[str, Metric]:
    """Families of an exposition by name, without the moments at which counters were made."""
    found = {family.name: family for family in text_string_to_metric_families(text)}
    return {name: family for name, family in found.items() if not name.endswith("_created")}


def scrape(fleet: Fleet) -> dict[str, Mapping[str, Metric]]:
    """What each tier of a fleet tells."""
    urls = {tier: getattr(fleet.urls, tier) for tier in ("origin", "edge", "worker")}
    return {tier: families(get(url, METRICS, 1 << 22).decode()) for tier, url in urls.items()}


def ask(fleet: Fleet, model: str) -> None:
    """One streamed answer."""
    question: ChatCompletionUserMessageParam = {"role": "user", "content": "What is a river?"}
    with fleet.openai() as client:
        answer = client.chat.completions.create(
            model=model, messages=[question], max_tokens=16, stream=True
        )
        assert list(answer)


def labels_of(family: Metric) -> set[str]:
    """The labels of a family's series, ``le`` apart; empty too where it has no series yet."""
    return {label for sample in family.samples for label in sample.labels} - {"le"}


def draw(tiers: Mapping[str, Mapping[str, Metric]], labels: Mapping[str, Labels]) -> str:
    """``docs/reference/metrics.md``."""
    parts = [PAGE_HEAD]
    for tier, found in tiers.items():
        parts.append(f"## {tier}\n\n| metric | type | labels | |\n|---|---|---|---|")
        for name, family in sorted(found.items()):
            shown = f"{name}_total" if family.type == "counter" else name
            text = family.documentation.replace("|", "\\|")
            named = " ".join(f"`{label}`" for label in sorted(labels[tier].get(name, ())))
            parts.append(f"| `{shown}` | {family.type} | {named} | {text} |")
        parts.append("")
    return "\n".join(parts)


def on_page(page: str) -> dict[str, set[str]]:
    """Tier → the names on the page."""
    found: dict[str, set[str]] = {}
    for line in page.splitlines():
        if line.startswith("## "):
            names = found[line[3:]] = set()
        elif row := re.match(r"\| `([a-z_0-9]+)` \|", line):
            names.add(row[1])
    return found


def labels_on_page(page: str) -> dict[str, dict[str, set[str]]]:
    """Tier → family → its labels on the page."""
    found: dict[str, dict[str, set[str]]] = {}
    for line in page.splitlines():
        if line.startswith("## "):
            labels = found[line[3:]] = {}
        elif row := re.match(r"\| `([a-z_0-9]+)` \| \w+ \| ([^|]*)\|", line):
            labels[family_of(row[1])] = set(re.findall(r"\w+", row[2]))
    return found


def asked_for(expression: str) -> set[str]:
    """The metrics that an expression names, as families: without ``_bucket`` and the like."""
    bare = _STRING.sub("", expression)
    for pattern in (_BRACES, _RANGE, _GROUPING):
        bare = pattern.sub(" ", bare)
    return {family_of(name) for name in _NAME.findall(bare) if name not in _WORDS}


def matched(expression: str) -> set[tuple[str, str]]:
    """Family and label, of every matcher."""
    return {
        (family_of(name), label)
        for name, matchers in _SELECTOR.findall(_STRING.sub("", expression))
        for label in _MATCHER.findall(matchers)
    }


def grouped(expression: str) -> set[str]:
    """The labels by which an expression sums up or joins."""
    found = _GROUPING.findall(_STRING.sub("", expression))
    return {label for _, labels in found for label in re.findall(r"\w+", labels)}


def family_of(name: str) -> str:
    """A sample's family."""
    for suffix in _SUFFIXES:
        if name.endswith(suffix):
            return name.removesuffix(suffix)
    return name
