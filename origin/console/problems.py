"""What is not well, in words for whoever looks at the console first. Pure.

What a running roll explains (a worker that is on its way, an edge that is one behind) is no problem
yet.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from origin.console.edge_rows import NO_REGION
from origin.console.state import ChannelRow, EdgeRow, RollRow, WorkerRow
from origin.console.window import Lately

MAX_PROBLEMS = 20
_NAMED = 3
"""Nodes that are named one by one; of more there is a number."""
_EDGE_ILLS = ("missing", "not_ready")
_WORKER_ILLS = ("missing", "failed")
_HERE = frozenset({"ready", "draining"})
_MAX_REASON = 160
_FAILING = 0.05
"""Share of a minute's requests, from which on their failing is told."""
_MIN_FAILED = 5
_RECENTLY_S = 3_600.0
"""How long a roll that was aborted is told of."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Standing:
    """The rows of a state, and what they are made of."""

    at: float
    """Seconds since 1970."""
    takes_reports: bool
    edges: Mapping[str, EdgeRow]
    workers: Mapping[str, WorkerRow]
    channels: Mapping[str, ChannelRow]
    rolls: Mapping[str, RollRow]
    minute: Mapping[str, Lately]
    """What each edge counted in the last one."""


def problems(standing: Standing, *, trust: str) -> tuple[str, ...]:
    """At most ``MAX_PROBLEMS`` of them, the worst first; ``trust`` is the origin's own."""
    found = list(_all(standing, trust))
    if len(found) <= MAX_PROBLEMS:
        return tuple(found)
    return (*found[: MAX_PROBLEMS - 1], f"and {len(found) - MAX_PROBLEMS + 1} more problems")


def _all(standing: Standing, trust: str) -> Iterator[str]:
    if trust != "fresh":
        yield f"the origin's own trust metadata is {trust.replace('_', ' ')}"
    if not standing.takes_reports:
        yield "no edge can report to this origin: give it origin.edge_token_file"
    elif not standing.edges:
        yield (
            "no edge has reported to this origin; one does that has edge.fleet.token_file and "
            "this origin in edge.origins"
        )
    yield from _unserved(standing)
    yield from _failing(standing.minute)
    edges, workers = standing.edges, standing.workers
    for state in _EDGE_ILLS:
        ill = {n: e.reason for n, e in edges.items() if e.state == state}
        yield from _nodes("edge", state, ill, edges)
    for state in _WORKER_ILLS:
        ill = {
            n: worker.apart or worker.reason or worker.fault
            for n, worker in workers.items()
            if worker.state == state
        }
        yield from _nodes("worker", state, ill, workers)
    # Ready, and yet there is something to say: its cache, or another process of its name.
    ill = {n: e.reason for n, e in edges.items() if e.state == "ready" and e.reason}
    yield from _nodes("edge", "impaired", ill, edges)
    stale = {n: e.trust for n, e in edges.items() if e.trust != "fresh" and e.state in _HERE}
    yield from _nodes("edge", "working from stale trust metadata", stale, edges)
    yield from _apart(standing)
    yield from _aborted(standing)


def _unserved(standing: Standing) -> Iterator[str]:
    """Channels that workers follow, none of which can answer."""
    followers = Counter(
        f"{worker.model}@{worker.channel}"
        for worker in standing.workers.values()
        if worker.state != "left"
    )
    unserved = {
        name: followers[name]
        for name, channel in standing.channels.items()
        if followers[name] and not channel.serving
    }
    if len(unserved) > _NAMED:
        yield f"nobody serves {_several(unserved)}: none of their workers is ready"
        return
    for name, count in unserved.items():
        whom = "its worker is not" if count == 1 else f"none of its {count} workers is"
        yield f"nobody serves {name}: {whom} ready"


def _failing(minute: Mapping[str, Lately]) -> Iterator[str]:
    """Requests that failed, if they are many."""
    failed, tried = Counter[str](), 0
    for name, one in minute.items():
        before, now = one.before.prompts, one.now.prompts
        failed[name] = max(0, now.failed - before.failed)
        tried += failed[name] + max(0, now.answered - before.answered)
    count = failed.total()
    if count < _MIN_FAILED or count < _FAILING * tried:
        return
    ((worst, its),) = failed.most_common(1)
    where = "all" if its == count else f"{round(100 * its / count)} % of them"
    yield (
        f"{round(100 * count / tried)} % of requests failed in the last minute, "
        f"{where} at edge {worst}"
    )


def _aborted(standing: Standing) -> Iterator[str]:
    """Rolls that went wrong lately."""
    for name, roll in standing.rolls.items():
        lately = roll.running or standing.at - roll.since < _RECENTLY_S
        if lately and roll.stage in {"aborting", "aborted"}:
            words = "is being" if roll.running else "was"
            why = f": {roll.reason}" if roll.reason else ""
            yield f"the roll of {name} to {roll.revision[:8]} {words} aborted{why}"[:_MAX_REASON]


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
        yield from _nodes("worker", f"not where {channel} points", workers, standing.workers)
        late = {
            n: f"by {e.behind[channel]}" for n, e in standing.edges.items() if channel in e.behind
        }
        late = {n: by for n, by in late.items() if standing.edges[n].state in _HERE}
        yield from _nodes("edge", f"behind on {channel}", late, standing.edges)


def _nodes(
    kind: str,
    state: str,
    ill: Mapping[str, str],
    rows: Mapping[str, EdgeRow] | Mapping[str, WorkerRow],
) -> Iterator[str]:
    """Of these nodes, by name and why: what they are, and where."""
    words = state.replace("_", " ")
    if len(ill) > _NAMED:
        where = _where({rows[name].region for name in ill})
        yield f"{len(ill)} {kind}s{where} are {words}: {_several(ill)}"
        return
    for name, why in ill.items():
        told = why if why.startswith(words) else f"{words}: {why}" if why else words
        yield f"{kind} {name}{_where({rows[name].region})} is {told[:_MAX_REASON]}"


def _where(regions: set[str]) -> str:
    if len(regions) > 1:
        return f" in {len(regions)} regions"
    (region,) = regions
    return f" in {region}" if region != NO_REGION else ""


def _several(names: Mapping[str, object]) -> str:
    return f"{', '.join(list(names)[:_NAMED])} and {len(names) - _NAMED} more"
