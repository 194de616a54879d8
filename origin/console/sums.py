"""The console's sums: of a region, and of everything. Pure."""

from __future__ import annotations

from collections.abc import Mapping

from msgspec import UNSET, UnsetType

from origin.console.figures import first_token_ms, hit_ratio
from origin.console.state import EdgeRow, RegionRow, Totals, WorkerRow
from origin.console.window import Lately

SERVING = frozenset({"ready", "asleep"})


def region_rows(
    edges: Mapping[str, EdgeRow],
    workers: Mapping[str, WorkerRow],
    lately: Mapping[str, Lately],
    minute: Mapping[str, Lately],
) -> dict[str, RegionRow]:
    """By name; ``lately`` and ``minute`` are what each edge counted in the last seconds and in the
    last minute."""
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
    ready = [worker for worker in workers if worker.state in SERVING]
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


def totals(
    edges: Mapping[str, EdgeRow],
    lately: Mapping[str, Lately],
    minute: Mapping[str, Lately],
    *,
    problems: tuple[str, ...],
    sent_per_s: float,
    trust: str,
) -> Totals:
    """Of all edges; ``sent_per_s`` are bytes that leave this origin."""
    return Totals(
        healthy=not problems,
        problems=problems,
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
        origin_bytes_per_s=round(sent_per_s),
        first_token_p50_ms=_rounded(first_token_ms(minute.values(), 0.5)),
        first_token_p95_ms=_rounded(first_token_ms(minute.values(), 0.95)),
        trust=trust,
    )


def _rounded(value: float | None) -> float | UnsetType:
    return UNSET if value is None else round(value, 1)
