"""The console's rows of edges. Pure."""

from __future__ import annotations

import time
from collections.abc import Iterable, Mapping, Sequence

from origin.consistency import behind
from origin.console.figures import hit_ratio
from origin.console.state import EdgeRow
from origin.console.window import Lately
from origin.fleet_nodes import EdgeNode
from origin.fleet_status import edge_state
from wire.channel import ChannelPointer

NO_REGION = "unnamed"


def edge_rows(
    edges: Sequence[EdgeNode],
    pointers: Sequence[ChannelPointer],
    lately: Mapping[str, Lately],
    minute: Mapping[str, Lately],
    seen: Mapping[str, int],
    at: float,
) -> dict[str, EdgeRow]:
    """By name.

    Args:
        lately: what each counted in the last seconds.
        minute: in the last minute.
        seen: how many workers each sees.
        at: now, seconds since 1970.
    """
    signed = {f"{p.model}@{p.channel}": p.sequence for p in pointers}
    return {
        edge.name: _edge(
            edge,
            {} if edge.report.channels == signed else _behind(edge, pointers),
            lately.get(edge.name),
            minute.get(edge.name),
            seen.get(edge.name, 0),
            at,
        )
        for edge in edges
    }


def _edge(
    edge: EdgeNode,
    skew: dict[str, int],
    lately: Lately | None,
    minute: Lately | None,
    workers: int,
    at: float,
) -> EdgeRow:
    report, cache = edge.report, edge.report.cache
    reason = report.reason or cache.degraded
    if edge.presence == "missing":
        reason = missing_since(at - edge.age_s)
    elif edge.twins:
        reason = "two processes report under this name; give each its own edge.fleet.name"
    return EdgeRow(
        region=report.region or NO_REGION,
        state=edge_state(edge),
        reason=reason,
        workers=workers,
        requests_per_s=_requests_per_s(lately),
        streams=report.prompts.streams if edge.presence == "here" else 0,
        hit_ratio=hit_ratio([minute] if minute is not None else []),
        cache_used=cache.used_bytes,
        cache_capacity=cache.capacity_bytes,
        origin_bytes=cache.fetched_bytes,
        trust=report.trust,
        behind=skew,
    )


def _behind(edge: EdgeNode, pointers: Iterable[ChannelPointer]) -> dict[str, int]:
    found = {f"{p.model}@{p.channel}": behind(edge, p) for p in pointers}
    return {name: count for name, count in found.items() if count}


def _requests_per_s(lately: Lately | None) -> float:
    if lately is None:
        return 0.0
    before, now = lately.before.prompts, lately.now.prompts
    return round(
        lately.rate(
            before.answered + before.failed + before.gone, now.answered + now.failed + now.gone
        ),
        2,
    )


def missing_since(at: float) -> str:
    """In words that do not change while it is missing."""
    return f"missing since {time.strftime('%Y-%m-%d %H:%M:%S', time.gmtime(at))} UTC"
