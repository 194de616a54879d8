"""Version consistency as a question: who serves the revision that a channel names, who does not and
why. A pure function of the signed pointer and the view of the fleet.

A worker's revision is the one that the pointer means for it, a canary's share included. A node that
is missing counts as apart, for nobody knows what it serves; one that left in good order does not.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Literal

import msgspec

from origin.fleet_nodes import EdgeNode, WorkerNode
from wire.channel import ChannelPointer
from wire.fleet import MAX_CHANNELS

_SERVING = frozenset({"ready", "asleep"})
_SHORT = 12
"""Digits of a revision in a reason."""


class Apart(msgspec.Struct, frozen=True, kw_only=True):
    """A node that is not where the channel points."""

    node: str
    kind: Literal["edge", "worker"]
    revision: str
    """What a worker serves; empty for an edge."""
    why: str


class Consistency(msgspec.Struct, frozen=True, kw_only=True):
    """How far a fleet is what a channel says."""

    model: str
    channel: str
    revision: str
    sequence: int
    canary: str
    """The second revision; empty where there is none."""
    workers: int
    """That follow the channel and did not leave."""
    serving: int
    """Of those: that serve what they should."""
    serving_canary: int
    """Of those: the second revision."""
    apart: tuple[Apart, ...]
    consistent: bool


def consistency(
    pointer: ChannelPointer, edges: Iterable[EdgeNode], workers: Iterable[WorkerNode]
) -> Consistency:
    """How far these nodes are what ``pointer`` says."""
    followers = [w for w in workers if _follows(w, pointer) and w.presence != "left"]
    apart, serving, canaries = [], 0, 0
    for worker in followers:
        wanted = pointer.revision_for(worker.name)
        why = why_apart(worker, wanted)
        if why:
            apart.append(
                Apart(node=worker.name, kind="worker", revision=worker.report.revision, why=why)
            )
        elif _serves(worker):
            serving += 1
            canaries += wanted != pointer.revision
    for edge in edges:
        why = "" if edge.presence == "left" else _why_behind(edge, pointer)
        if why:
            apart.append(Apart(node=edge.name, kind="edge", revision="", why=why))
    return Consistency(
        model=pointer.model,
        channel=pointer.channel,
        revision=pointer.revision,
        sequence=pointer.sequence,
        canary=pointer.canary.revision if pointer.canary is not None else "",
        workers=len(followers),
        serving=serving,
        serving_canary=canaries,
        apart=tuple(apart),
        consistent=not apart,
    )


def why_apart(worker: WorkerNode, wanted: str) -> str:
    """Why a worker does not serve the revision that it should; empty where it does."""
    report = worker.report
    if worker.presence == "missing":
        return f"missing, last seen {worker.age_s:.0f} s ago"
    if report.state == "failed":
        return f"failed: {report.reason or report.fault or 'it gave no reason'}"
    if report.revision == wanted:
        return ""
    if report.refused == wanted:
        return f"refused it: {report.reason or report.fault or 'it gave no reason'}"
    if report.target == wanted:
        left = f", {report.missing_bytes / 1e6:.1f} MB to come" if report.missing_bytes else ""
        return f"on its way: {report.phase or 'begun'}{left}"
    if report.reason:
        return report.reason
    if report.trust != "fresh":
        return f"its trust metadata is {report.trust}"
    return f"still serves {report.revision[:_SHORT]}" if report.revision else "serves nothing yet"


def behind(edge: EdgeNode, pointer: ChannelPointer) -> int:
    """How many rolls of a channel an edge does not know; 0 where it knows all, or does not say."""
    known = edge.report.channels.get(f"{pointer.model}@{pointer.channel}")
    if known is None:
        return 0 if len(edge.report.channels) >= MAX_CHANNELS else pointer.sequence
    return max(0, pointer.sequence - known)


def _why_behind(edge: EdgeNode, pointer: ChannelPointer) -> str:
    if edge.presence == "missing":
        return f"missing, last heard {edge.age_s:.0f} s ago"
    rolls = behind(edge, pointer)
    return f"{rolls} behind: it does not know roll {pointer.sequence} yet" if rolls else ""


def _follows(worker: WorkerNode, pointer: ChannelPointer) -> bool:
    return (worker.report.model, worker.report.channel) == (pointer.model, pointer.channel)


def _serves(worker: WorkerNode) -> bool:
    return worker.report.state in _SERVING and not worker.report.draining
