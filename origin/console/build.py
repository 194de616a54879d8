"""The console's state, built from what the origin knows at one look. Pure.

What every look would say anew in other words (how long ago a node was seen last) is said in words
that stay, so that only what changed is sent.
"""

from __future__ import annotations

import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from msgspec import UNSET, UnsetType

from origin.consistency import behind, why_apart
from origin.console.figures import first_token_ms, hit_ratio, routes, stages
from origin.console.problems import Standing, problems
from origin.console.state import (
    ChannelRow,
    ConsoleState,
    EdgeRow,
    RegionRow,
    RollRow,
    Totals,
    WorkerRow,
)
from origin.console.window import Lately, Window
from origin.fleet_nodes import EdgeNode, WorkerNode
from origin.fleet_status import MAX_CHANNELS_SHOWN, edge_state, worker_state
from origin.rollout_records import ChannelRecord
from origin.rollout_state import Rollout
from wire.channel import ChannelPointer

RATE_S = 5.0
"""Over how long rates are taken."""
MINUTE_S = 60.0
"""The same for ratios and times."""
NO_REGION = "unnamed"
_SERVING = frozenset({"ready", "asleep"})
_NAMED = 3
"""Workers that a reason names."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Look:
    """What the origin knows now."""

    at: float
    """Seconds since 1970."""
    version: str
    edges: Sequence[EdgeNode]
    workers: Sequence[WorkerNode]
    pointers: Iterable[ChannelPointer]
    records: Iterable[ChannelRecord]
    trust: str


@dataclass(slots=True)
class _Channel:
    """What is found of a channel's workers."""

    pointer: ChannelPointer
    serving: dict[str, int] = field(default_factory=dict)
    workers: int = 0
    apart: int = 0


def build(look: Look, window: Window) -> ConsoleState:
    """Everything on the page.

    Args:
        window: has noted the edges of this look.
    """
    lately, minute = window.lately(RATE_S), window.lately(MINUTE_S)
    pointers = sorted(look.pointers, key=lambda p: (p.model, p.channel))[:MAX_CHANNELS_SHOWN]
    channels = {(p.model, p.channel): _Channel(p) for p in pointers}
    regions = {edge.name: edge.report.region or NO_REGION for edge in look.edges}
    workers = {
        f"{worker.name}/{worker.report.model}": _worker(worker, channels, regions, look.at)
        for worker in look.workers
    }
    edges = _edges(look, pointers, lately, minute, _seen(look.workers))
    shown = {f"{m}@{c}": _channel(one, edges) for (m, c), one in channels.items()}
    rolls = _rolls(look.records, channels)
    found = problems(Standing(edges=edges, workers=workers, channels=shown, rolls=rolls), look)
    return ConsoleState(
        at=round(look.at, 3),
        version=look.version,
        totals=_totals(look, found, edges, window, (lately, minute)),
        regions=_regions(edges, workers, lately, minute),
        edges=edges,
        workers=workers,
        channels=shown,
        rolls=rolls,
        stages=stages(minute.values()),
        routes=routes(one.now for one in minute.values()),
    )


def _worker(
    worker: WorkerNode,
    channels: Mapping[tuple[str, str], _Channel],
    regions: Mapping[str, str],
    at: float,
) -> WorkerRow:
    report, state = worker.report, worker_state(worker)
    channel = channels.get((report.model, report.channel))
    apart, canary = "", False
    if channel is not None and worker.presence != "left":
        wanted = channel.pointer.revision_for(worker.name)
        canary = wanted != channel.pointer.revision
        missing = worker.presence == "missing"
        apart = _since(at - worker.age_s) if missing else why_apart(worker, wanted)
        channel.workers += 1
        channel.apart += bool(apart)
        if worker.presence == "here" and report.state in _SERVING:
            channel.serving[report.revision] = channel.serving.get(report.revision, 0) + 1
    return WorkerRow(
        region=regions.get(worker.edges[0], NO_REGION) if worker.edges else NO_REGION,
        state=state,
        model=report.model,
        channel=report.channel,
        revision=report.revision,
        target=report.target,
        phase=report.phase,
        missing_bytes=report.missing_bytes,
        slots=report.slots,
        busy=report.busy,
        queue=report.queue,
        variant=report.variant,
        canary=canary,
        apart=apart,
        reason=report.reason,
        fault=report.fault,
    )


def _since(at: float) -> str:
    return f"missing since {time.strftime('%Y-%m-%d %H:%M:%S', time.gmtime(at))} UTC"


def _seen(workers: Iterable[WorkerNode]) -> dict[str, int]:
    """Edge → how many workers it sees."""
    counts: dict[str, int] = {}
    for worker in workers:
        for edge in worker.edges:
            counts[edge] = counts.get(edge, 0) + 1
    return counts


def _edges(
    look: Look,
    pointers: Sequence[ChannelPointer],
    lately: Mapping[str, Lately],
    minute: Mapping[str, Lately],
    seen: Mapping[str, int],
) -> dict[str, EdgeRow]:
    signed = {f"{p.model}@{p.channel}": p.sequence for p in pointers}
    return {
        edge.name: _edge(
            edge,
            {} if edge.report.channels == signed else _behind(edge, pointers),
            lately.get(edge.name),
            minute.get(edge.name),
            seen.get(edge.name, 0),
            look.at,
        )
        for edge in look.edges
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
        reason = _since(at - edge.age_s)
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


def _channel(found: _Channel, edges: Mapping[str, EdgeRow]) -> ChannelRow:
    pointer = found.pointer
    name = f"{pointer.model}@{pointer.channel}"
    late = any(
        edge.state != "left" and (edge.state == "missing" or name in edge.behind)
        for edge in edges.values()
    )
    return ChannelRow(
        revision=pointer.revision,
        sequence=pointer.sequence,
        canary_revision=pointer.canary.revision if pointer.canary is not None else "",
        canary_percent=pointer.canary.percent if pointer.canary is not None else 0,
        consistent=not (late or found.apart),
        serving=found.serving,
    )


def _rolls(
    records: Iterable[ChannelRecord], channels: Mapping[tuple[str, str], _Channel]
) -> dict[str, RollRow]:
    rolls: dict[str, RollRow] = {}
    for record in records:
        channel, roll = channels.get((record.model, record.channel)), record.latest
        if channel is not None and roll is not None:
            rolls[f"{record.model}@{record.channel}"] = _roll(roll, channel)
    return rolls


def _roll(roll: Rollout, channel: _Channel) -> RollRow:
    tried = roll.trial.requests
    p95 = roll.trial.quantile_ms(0.95)
    return RollRow(
        stage=roll.stage,
        running=not roll.over,
        revision=roll.revision,
        previous=roll.previous,
        percent=roll.percent,
        since=round(roll.ended if roll.over else max(roll.started, roll.looked - roll.stage_s)),
        reason=_why(roll),
        taken=channel.serving.get(roll.revision, 0),
        total=channel.workers,
        failed_ratio=round(roll.trial.error_rate, 4) if tried else UNSET,
        first_token_p95_ms=round(p95, 1) if p95 is not None else UNSET,
    )


def _why(roll: Rollout) -> str:
    """Why it stands where it stands."""
    if roll.reason:
        return roll.reason
    if roll.over:
        return roll.why
    if roll.refused:
        name, why = next(iter(roll.refused.items()))
        more = f", and {len(roll.refused) - 1} more" if len(roll.refused) > 1 else ""
        return f"{name}{more}: {why}"
    if roll.waiting:
        more = f" and {len(roll.waiting) - _NAMED} more" if len(roll.waiting) > _NAMED else ""
        return f"waits for {', '.join(roll.waiting[:_NAMED])}{more}"
    return roll.notes[-1] if roll.notes else roll.why


def _regions(
    edges: Mapping[str, EdgeRow],
    workers: Mapping[str, WorkerRow],
    lately: Mapping[str, Lately],
    minute: Mapping[str, Lately],
) -> dict[str, RegionRow]:
    of_edges: dict[str, list[str]] = {}
    of_workers: dict[str, list[WorkerRow]] = {}
    for name, edge in edges.items():
        of_edges.setdefault(edge.region, []).append(name)
    for worker in workers.values():
        of_workers.setdefault(worker.region, []).append(worker)
    return {
        region: _region(
            [edges[name] for name in of_edges.get(region, ())],
            of_workers.get(region, []),
            [lately[name] for name in of_edges.get(region, ()) if name in lately],
            [minute[name] for name in of_edges.get(region, ()) if name in minute],
        )
        for region in sorted(of_edges.keys() | of_workers.keys())
    }


def _region(
    edges: list[EdgeRow], workers: list[WorkerRow], lately: list[Lately], minute: list[Lately]
) -> RegionRow:
    ready = [worker for worker in workers if worker.state in _SERVING]
    return RegionRow(
        edges=len(edges),
        edges_ready=sum(edge.state == "ready" for edge in edges),
        workers=len(workers),
        workers_ready=len(ready),
        slots=sum(worker.slots for worker in ready),
        busy=sum(worker.busy for worker in ready),
        queue=sum(worker.queue for worker in ready),
        requests_per_s=round(sum(edge.requests_per_s for edge in edges), 2),
        hit_ratio=hit_ratio(minute),
        origin_bytes_per_s=round(
            sum(
                one.rate(one.before.cache.fetched_bytes, one.now.cache.fetched_bytes)
                for one in lately
            )
        ),
    )


def _totals(
    look: Look,
    found: tuple[str, ...],
    edges: Mapping[str, EdgeRow],
    window: Window,
    counted: tuple[Mapping[str, Lately], Mapping[str, Lately]],
) -> Totals:
    lately, minute = counted
    return Totals(
        healthy=not found,
        problems=found,
        requests_per_s=round(sum(edge.requests_per_s for edge in edges.values()), 2),
        failed_per_s=round(
            sum(
                one.rate(one.before.prompts.failed, one.now.prompts.failed)
                for one in lately.values()
            ),
            2,
        ),
        streams=sum(edge.streams for edge in edges.values()),
        hit_ratio=hit_ratio(minute.values()),
        origin_bytes_per_s=round(window.sent_per_s(RATE_S)),
        first_token_p50_ms=_rounded(first_token_ms(minute.values(), 0.5)),
        first_token_p95_ms=_rounded(first_token_ms(minute.values(), 0.95)),
        trust=look.trust,
    )


def _rounded(value: float | None) -> float | UnsetType:
    return UNSET if value is None else round(value, 1)
