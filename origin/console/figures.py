"""What the gateways and caches of several edges counted, added up. Pure."""

from __future__ import annotations

from collections.abc import Iterable

from msgspec import UNSET, UnsetType

from origin.console.histogram import Counts, quantile, since, total
from origin.console.state import RouteRow, StageRow
from origin.console.window import Lately
from wire.fleet import ANSWER_BOUNDS_MS, STAGE_BOUNDS_MS, EdgeReport, StageFigures

MAX_ROUTES = 64
"""Pairs of target and reason; edges may name any number."""
MAX_STAGES = 32


def hit_ratio(edges: Iterable[Lately]) -> float | UnsetType:
    """Of chunk requests; absent where there were none."""
    hits = misses = 0
    for one in edges:
        before, now = one.before.cache, one.now.cache
        hits += max(0, now.hits - before.hits)
        misses += max(0, now.misses - before.misses)
    return round(hits / (hits + misses), 4) if hits + misses else UNSET


def first_token_ms(edges: Iterable[Lately], share: float) -> float | None:
    """How soon this share of the answers began; None where none did."""
    rows = [since(e.now.prompts.first_token, e.before.prompts.first_token) for e in edges]
    return quantile(ANSWER_BOUNDS_MS, total(rows), share)


def stages(edges: Iterable[Lately]) -> dict[str, StageRow]:
    """The stages over all edges, in the order in which most requests pass them."""
    known = list(edges)
    names: dict[str, int] = {}
    for edge in known:
        for order, stage in enumerate(edge.now.prompts.stages):
            names[stage.name] = max(names.get(stage.name, 0), order)
    ordered = sorted(names, key=lambda name: (names[name], name))[:MAX_STAGES]
    now = [{s.name: s for s in edge.now.prompts.stages} for edge in known]
    before = [{s.name: s for s in edge.before.prompts.stages} for edge in known]
    return {
        name: _stage(
            order,
            [(n[name], b.get(name)) for n, b in zip(now, before, strict=True) if name in n],
        )
        for order, name in enumerate(ordered)
    }


def _stage(order: int, edges: list[tuple[StageFigures, StageFigures | None]]) -> StageRow:
    ever = total(now.counts for now, _ in edges)
    ever_ms = sum(now.total_ms for now, _ in edges)
    counts: Counts = total(
        since(now.counts, before.counts if before is not None else ()) for now, before in edges
    )
    sum_ms = ever_ms - sum(before.total_ms for _, before in edges if before is not None)
    if not sum(counts):
        counts, sum_ms = ever, ever_ms
    many = sum(counts)
    return StageRow(
        order=order,
        count=sum(ever),
        mean_ms=round(max(0.0, sum_ms) / many, 4) if many else 0.0,
        p50_ms=round(quantile(STAGE_BOUNDS_MS, counts, 0.5) or 0.0, 4),
        p99_ms=round(quantile(STAGE_BOUNDS_MS, counts, 0.99) or 0.0, 4),
    )


def routes(edges: Iterable[EdgeReport]) -> dict[str, RouteRow]:
    """Where requests went and why; those that are most, by name."""
    counts: dict[tuple[str, str], int] = {}
    for edge in edges:
        for route in edge.prompts.routes:
            key = route.target, route.reason
            counts[key] = counts.get(key, 0) + route.count
    most = sorted(counts.items(), key=lambda one: (-one[1], one[0]))[:MAX_ROUTES]
    everything = sum(counts.values())
    return {
        f"{target}: {reason}": RouteRow(
            target=target,
            reason=reason,
            count=count,
            share=round(count / everything, 4) if everything else 0.0,
        )
        for (target, reason), count in most
    }
