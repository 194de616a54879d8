"""What is not well, in words for whoever looks at the console first. Pure.

What a running roll explains (a worker that is on its way, an edge that is one behind) is no problem
yet.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from origin.console.state import ChannelRow, EdgeRow, RollRow, WorkerRow

MAX_PROBLEMS = 20
_NAMED = 3
"""Nodes that are named one by one; of more there is a number."""
_EDGE_ILLS = ("missing", "not_ready")
_WORKER_ILLS = ("missing", "failed")
_HERE = frozenset({"ready", "draining"})
_MAX_REASON = 160


@dataclass(frozen=True, slots=True, kw_only=True)
class Standing:
    """The rows of a state."""

    edges: Mapping[str, EdgeRow]
    workers: Mapping[str, WorkerRow]
    channels: Mapping[str, ChannelRow]
    rolls: Mapping[str, RollRow]


def problems(standing: Standing, *, trust: str) -> tuple[str, ...]:
    """At most ``MAX_PROBLEMS`` of them, the worst first; ``trust`` is the origin's own."""
    found = list(_all(standing, trust))
    if len(found) <= MAX_PROBLEMS:
        return tuple(found)
    return (*found[: MAX_PROBLEMS - 1], f"and {len(found) - MAX_PROBLEMS + 1} more problems")


def _all(standing: Standing, trust: str) -> Iterator[str]:
    if trust != "fresh":
        yield f"the origin's own trust metadata is {trust.replace('_', ' ')}"
    for state in _EDGE_ILLS:
        ill = {n: e.reason for n, e in standing.edges.items() if e.state == state}
        yield from _nodes("edge", state, ill)
    for state in _WORKER_ILLS:
        ill = {
            n: worker.apart or worker.reason or worker.fault
            for n, worker in standing.workers.items()
            if worker.state == state
        }
        yield from _nodes("worker", state, ill)
    stale = {n: e.trust for n, e in standing.edges.items() if e.trust != "fresh"}
    stale = {n: trust for n, trust in stale.items() if standing.edges[n].state in _HERE}
    yield from _nodes("edge", "working from stale trust metadata", stale)
    yield from _apart(standing)


def _apart(standing: Standing) -> Iterator[str]:
    """Of channels that nothing rolls: who is not where they point, and is well otherwise."""
    still = {
        name
        for name, channel in standing.channels.items()
        if not channel.consistent and not ((roll := standing.rolls.get(name)) and roll.running)
    }
    if not still:
        return
    astray: dict[str, dict[str, str]] = {name: {} for name in sorted(still)}
    for name, worker in standing.workers.items():
        channel = f"{worker.model}@{worker.channel}"
        if channel in still and worker.apart and worker.state not in _WORKER_ILLS:
            astray[channel][name] = worker.apart
    for channel, workers in astray.items():
        yield from _nodes("worker", f"not where {channel} points", workers)
        late = {
            n: f"by {e.behind[channel]}" for n, e in standing.edges.items() if channel in e.behind
        }
        late = {n: by for n, by in late.items() if standing.edges[n].state in _HERE}
        yield from _nodes("edge", f"behind on {channel}", late)


def _nodes(kind: str, state: str, ill: Mapping[str, str]) -> Iterator[str]:
    words = state.replace("_", " ")
    if len(ill) > _NAMED:
        first = ", ".join(list(ill)[:_NAMED])
        yield f"{len(ill)} {kind}s are {words}: {first} and {len(ill) - _NAMED} more"
        return
    for name, why in ill.items():
        told = why if why.startswith(words) else f"{words}: {why}" if why else words
        yield f"{kind} {name} is {told[:_MAX_REASON]}"
