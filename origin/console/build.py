"""The console's state, built from what the origin knows at one look. Pure.

What every look would say anew in other words (how long ago a node was seen last) is said in words
that stay, so that only what changed is sent.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from origin.consistency import why_apart
from origin.console.edge_rows import NO_REGION, edge_rows, missing_since
from origin.console.figures import routes, stages
from origin.console.problems import Standing, problems
from origin.console.roll_rows import roll_row
from origin.console.state import ChannelRow, ConsoleState, EdgeRow, RollRow, WorkerRow
from origin.console.sums import SERVING, region_rows, totals
from origin.console.window import Window
from origin.fleet_nodes import EdgeNode, WorkerNode
from origin.fleet_status import MAX_CHANNELS_SHOWN, worker_state
from origin.rollout_records import ChannelRecord
from wire.channel import ChannelPointer

RATE_S = 5.0
"""Over how long rates are taken."""
MINUTE_S = 60.0
"""The same for ratios and times."""


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
    takes_reports: bool = True
    """Whether edges may report to this origin at all."""


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
    edges = edge_rows(look.edges, pointers, lately, minute, _seen(look.workers), look.at)
    shown = {f"{m}@{c}": _channel(one, edges) for (m, c), one in channels.items()}
    rolls = _rolls(look.records, channels)
    standing = Standing(
        at=look.at,
        takes_reports=look.takes_reports,
        edges=edges,
        workers=workers,
        channels=shown,
        rolls=rolls,
        minute=minute,
    )
    return ConsoleState(
        at=round(look.at, 3),
        version=look.version,
        totals=totals(
            edges,
            lately,
            minute,
            problems=problems(standing, trust=look.trust),
            sent_per_s=window.sent_per_s(RATE_S),
            trust=look.trust,
        ),
        regions=region_rows(edges, workers, lately, minute),
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
        apart = missing_since(at - worker.age_s) if missing else why_apart(worker, wanted)
        channel.workers += 1
        channel.apart += bool(apart)
        if worker.presence == "here" and report.state in SERVING:
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


def _seen(workers: Iterable[WorkerNode]) -> dict[str, int]:
    """Edge → how many workers it sees."""
    counts: dict[str, int] = {}
    for worker in workers:
        for edge in worker.edges:
            counts[edge] = counts.get(edge, 0) + 1
    return counts


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
            rolls[f"{record.model}@{record.channel}"] = roll_row(
                roll, taken=channel.serving.get(roll.revision, 0), total=channel.workers
            )
    return rolls
