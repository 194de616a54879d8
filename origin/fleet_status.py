"""What ``/admin/fleet`` and the metrics say of a fleet. Values in, values out."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import msgspec

from origin.consistency import Consistency, behind, consistency, why_apart
from origin.fleet_nodes import EdgeNode, WorkerNode
from origin.orders import Order
from wire.channel import ChannelPointer

MAX_CHANNELS_SHOWN = 256
"""Channels whose consistency is a metric and stands in the overview."""


def edge_state(edge: EdgeNode) -> str:
    """``ready``, ``not_ready``, ``draining``, ``unheard``, ``left`` or ``missing``."""
    if edge.presence != "here":
        return edge.presence
    if edge.report.draining:
        return "draining"
    return "ready" if edge.report.ready else "not_ready"


def worker_state(worker: WorkerNode) -> str:
    """As its report says, ``draining`` by command, ``unheard``, ``left`` or ``missing``."""
    if worker.presence != "here":
        return worker.presence
    report = worker.report
    return "draining" if report.draining and report.state != "failed" else report.state


def describe_fleet(
    edges: Sequence[EdgeNode],
    workers: Sequence[WorkerNode],
    pointers: Iterable[ChannelPointer],
    orders: Iterable[Order],
    *,
    now: float,
) -> dict[str, Any]:
    """The fleet for people and programs.

    Args:
        now: seconds since 1970; what tells ``last_seen``.
    """
    signed = {f"{p.model}@{p.channel}": p for p in pointers}
    shown = consistencies(signed.values(), edges, workers)
    of_edge: dict[str, int] = {}
    for name in (edge for worker in workers for edge in worker.edges):
        of_edge[name] = of_edge.get(name, 0) + 1
    return {
        "edges": [_edge(e, signed, of_edge.get(e.name, 0), now) for e in edges],
        "workers": [_worker(w, signed, now) for w in workers],
        "channels": shown,
        "commands": list(orders),
        "healthy": all(_is_well(e.presence, edge_state(e)) and not e.twins for e in edges)
        and all(_is_well(w.presence, worker_state(w)) for w in workers)
        and all(one.consistent for one in shown),
    }


def consistencies(
    pointers: Iterable[ChannelPointer], edges: Sequence[EdgeNode], workers: Iterable[WorkerNode]
) -> list[Consistency]:
    """Of as many channels as are shown."""
    followers: dict[tuple[str, str], list[WorkerNode]] = {}
    for worker in workers:
        followers.setdefault((worker.report.model, worker.report.channel), []).append(worker)
    return [
        consistency(pointer, edges, followers.get((pointer.model, pointer.channel), ()))
        for pointer in _first(pointers)
    ]


def _first(pointers: Iterable[ChannelPointer]) -> list[ChannelPointer]:
    return sorted(pointers, key=lambda p: (p.model, p.channel))[:MAX_CHANNELS_SHOWN]


def _is_well(presence: str, state: str) -> bool:
    return presence != "missing" and state not in {"failed", "not_ready"}


def _edge(
    edge: EdgeNode, signed: Mapping[str, ChannelPointer], workers: int, now: float
) -> dict[str, Any]:
    report = edge.report
    rolls = {name: behind(edge, pointer) for name, pointer in signed.items()}
    fields: dict[str, Any] = msgspec.to_builtins(report)
    for name in ("edge", "workers", "done", "figures", "prompts", "boots"):
        del fields[name]
    return {
        "name": edge.name,
        "state": edge_state(edge),
        "age_s": round(edge.age_s, 3),
        "last_seen": now - edge.age_s,
        "workers": workers,
        "twins": edge.twins,
        "behind": {name: count for name, count in rolls.items() if count},
        **fields,
    }


def _worker(worker: WorkerNode, signed: Mapping[str, ChannelPointer], now: float) -> dict[str, Any]:
    report = worker.report
    pointer = signed.get(f"{report.model}@{report.channel}")
    wanted = pointer.revision_for(worker.name) if pointer is not None else ""
    fields: dict[str, Any] = msgspec.to_builtins(report)
    for name in ("worker", "boot", "boot_spans", "roll", "done"):
        del fields[name]
    return {
        **fields,
        "name": worker.name,
        "state": worker_state(worker),
        "age_s": round(worker.age_s, 3),
        "last_seen": now - worker.age_s,
        "edges": worker.edges,
        "wanted": wanted,
        "apart": why_apart(worker, wanted) if wanted and worker.presence != "left" else "",
    }
