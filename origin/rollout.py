"""A rollout: how a channel moves to another revision, and when it goes back. Pure.

    preheating → canary → observing → promoting → rolling → done
         └─────── without a canary ──────↑
    any of these → aborting → aborted          any of these → superseded

The rules, all of them here.

1.  *preheating*: edges are asked to bring the revision into their caches. The roll goes on as soon
    as each has it or has failed, or after ``preheat_timeout_s`` (``preheat_begin_s`` where an edge
    does not even begin); which ones had not is noted.
2.  *canary*: the channel is pointed at the old revision with a canary of the new one, under a seed
    that takes some of the known workers and leaves some. Once one of them serves it, observing
    begins; where none does within ``canary_start_timeout_s``, or no worker is known at all, the
    rollout is aborted.
3.  *observing*: requests of both revisions are compared in the same window. The canary is promoted
    after ``observe_min_s`` and ``min_requests``, if it is not worse (``rollout_figures``) and is
    still being served; at ``observe_max_s`` at the latest it is decided by what there is.
4.  A worker of the canary that refuses the revision (it does not load, it fails its golden probe),
    or whose engine ends while it serves it, aborts at once. What was so before the rollout began,
    and has not happened anew, does not count.
5.  *promoting*: the channel is pointed at the new revision, for all.
6.  *rolling*: until every worker that can be reached serves it. Where more than
    ``max_refused_share`` of them refuse, the rollout is aborted, unless it was asked not to be.
    After ``rolling_timeout_s`` it is done, and those that do not serve it are named.
7.  *aborting*: the channel is pointed back at the old revision. A channel without one stays.
8.  A channel that somebody else moved is theirs: the rollout ends as *superseded*.
9.  Only watched time counts: of a longer pause between two looks (the origin was away) no stage
    lasts more than a few ticks, whatever the clock says.
10. That nobody is there is believed only of an origin that has been up for ``settle_s``.

What the channel should point at follows from the stage, and is compared with where it does point.
So whatever step was cut off by a crash is found out and done again, and no step is done twice.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Literal

import msgspec

from origin.rollout_config import RolloutConfig
from origin.rollout_figures import Window, why_worse
from origin.rollout_seed import choose_seed
from origin.rollout_state import Action, Facts, Point, Rollout, Stage
from wire.channel import MAX_SEED, ChannelPointer
from wire.fleet import Preheat
from wire.workers import WorkerReport

_TRYING = frozenset({"preheating", "canary", "observing"})
_SERVING = frozenset({"ready", "asleep"})
_MAX_NAMED = 64
"""Workers that a record names; beyond, only counts grow."""
_MAX_NOTES = 16
_MAX_EDGES_NOTED = 8
"""Edges that are each noted with their reason; of more the number."""
_MAX_TOLD = 300
"""Characters of what a worker or an edge says."""


def step(
    rollout: Rollout, facts: Facts, now: float, config: RolloutConfig
) -> tuple[Rollout, tuple[Action, ...]]:
    """One look: the rollout as it is then, and what is to be done. What is to be done is said again
    at every look until the facts show that it was.

    Args:
        now: seconds since 1970.
    """
    if rollout.over:
        return rollout, ()
    rollout = _watched(rollout, facts, now, config)
    where, stage = _where(rollout, facts.pointer), ""
    if where == "elsewhere":
        return _lost(rollout, now), ()
    while where == "there" and not rollout.over and rollout.stage != stage:
        stage = rollout.stage
        rollout = _with(rollout, sequence=facts.pointer.sequence if facts.pointer else 0)
        rollout = _STEPS[stage](rollout, facts, now, config)
        where = _where(rollout, facts.pointer)
    if rollout.over:
        return rollout, ()
    actions: list[Action] = []
    if rollout.stage == "preheating" and rollout.preheat:
        actions.append(Preheat(model=rollout.model, revision=rollout.revision))
    if where == "behind":
        actions.append(
            Point(revision=rollout.target, canary=rollout.canary, sequence=rollout.sequence)
        )
    return rollout, tuple(actions)


def abort(rollout: Rollout, reason: str, now: float) -> Rollout:
    """Give it up. The next step points the channel back."""
    if rollout.over or rollout.stage == "aborting":
        return rollout
    return _enter(rollout, "aborting", now, reason=reason[:_MAX_TOLD])


def promote(rollout: Rollout, now: float, who: str = "") -> Rollout:
    """Go on to all workers now, whatever is still to be observed."""
    if rollout.stage not in _TRYING:
        return rollout
    return _noted(_enter(rollout, "promoting", now), f"promoted by {who or 'an operator'}")


def cannot_point(rollout: Rollout, why: str, now: float) -> Rollout:
    """The channel cannot be pointed where the stage wants it, now or ever: its revision was taken
    down, or is signed no longer."""
    if rollout.stage == "aborting":
        return _ended(_noted(rollout, f"the channel stays where it is: {why}"), "aborted", now)
    return abort(rollout, why, now)


def taken_over(rollout: Rollout, facts: Facts) -> Rollout:
    """As another origin goes on with it. That one counts for itself, from another beginning: what
    was observed stays, and it counts on from where its own counters stand."""
    if rollout.stage != "observing":
        return rollout
    return _with(
        rollout,
        trial_before=_figures(facts, rollout.revision).before(rollout.trial),
        stable_before=_figures(facts, rollout.previous).before(rollout.stable),
    )


def supersede(rollout: Rollout, reason: str, now: float) -> Rollout:
    """Leave the channel to somebody else."""
    if rollout.over:
        return rollout
    return _with(rollout, stage="superseded", ended=now, reason=reason[:_MAX_TOLD])


def same_but_for_time(one: Rollout, other: Rollout) -> bool:
    """Whether nothing happened between the two but time, requests, and workers that came to serve
    the revision: all of that is seen again at the next look."""
    still = {"looked": 0.0, "stage_s": 0.0, "trial": Window(), "stable": Window()}
    counts = {"serving": 0, "waiting": ()}
    return _with(one, **still, **counts) == _with(other, **still, **counts)


# The stages: each is asked only while the channel points where the stage wants it.


def _preheating(rollout: Rollout, facts: Facts, now: float, config: RolloutConfig) -> Rollout:
    if not facts.settled:
        return rollout
    if rollout.preheat:
        late = rollout.stage_s >= config.preheat_begin_s
        waiting = [
            edge
            for edge, done in sorted(facts.preheated.items())
            if (done is None and not late) or (done is not None and done.state == "running")
        ]
        if waiting and rollout.stage_s < config.preheat_timeout_s:
            return rollout
        if waiting:
            named = ", ".join(waiting[:8])
            rollout = _noted(rollout, f"went on without {len(waiting)} edges preheated: {named}")
        without = {
            edge: done.reason if done is not None else "it does not say that it has begun"
            for edge, done in sorted(facts.preheated.items())
            if done is None or done.state == "failed"
        }
        for edge in list(without)[:_MAX_EDGES_NOTED]:
            rollout = _noted(rollout, f"edge {edge} is not preheated: {without[edge]}")
        if (more := len(without) - _MAX_EDGES_NOTED) > 0:
            rollout = _noted(rollout, f"{more} more edges are not preheated")
    if not rollout.percent or rollout.previous in {"", rollout.revision}:
        return _enter(rollout, "promoting", now)
    names = [report.worker for report in facts.workers]
    if not names:
        why = (
            "no worker of this channel is known here, so nobody could try it; roll without a canary"
        )
        return abort(rollout, why, now)
    seed = choose_seed(names, rollout.percent, first=int(rollout.started) % (MAX_SEED // 2))
    return _enter(rollout, "canary", now, seed=seed)


def _canary(rollout: Rollout, facts: Facts, now: float, config: RolloutConfig) -> Rollout:
    if why := _trouble(rollout, facts):
        return abort(rollout, why, now)
    if _tried(rollout, facts):
        return _enter(
            rollout,
            "observing",
            now,
            trial_before=_figures(facts, rollout.revision),
            stable_before=_figures(facts, rollout.previous),
        )
    if rollout.stage_s >= config.canary_start_timeout_s:
        named = ", ".join(r.worker for r in _chosen(rollout, facts.workers)) or "nobody"
        return abort(rollout, f"no worker of the canary ({named}) came to serve it in time", now)
    return rollout


def _observing(rollout: Rollout, facts: Facts, now: float, config: RolloutConfig) -> Rollout:
    if why := _trouble(rollout, facts):
        return abort(rollout, why, now)
    trial, spent_s = rollout.trial, rollout.stage_s
    at_the_end = spent_s >= config.observe_max_s
    enough = spent_s >= config.observe_min_s and trial.requests >= config.min_requests
    final = enough or at_the_end
    if why := why_worse(trial, rollout.stable, config, final=final):
        return abort(rollout, why, now)
    if not final:
        return rollout
    if not _tried(rollout, facts):
        if at_the_end:
            return abort(rollout, "no worker of the canary serves it any more", now)
        return rollout
    if trial.requests < config.min_requests:
        few = f"the canary saw {trial.requests} requests in {spent_s:.0f} s"
        if config.require_requests:
            return abort(rollout, f"{few}; {config.min_requests} were wanted", now)
        rollout = _noted(rollout, f"promoted on little evidence: {few}")
    return _enter(rollout, "promoting", now)


def _promoting(rollout: Rollout, _facts: Facts, now: float, _config: RolloutConfig) -> Rollout:
    return _enter(rollout, "rolling", now)


def _rolling(rollout: Rollout, facts: Facts, now: float, config: RolloutConfig) -> Rollout:
    refused = _refusals(rollout, facts.workers)
    served = [r.worker for r in facts.workers if _serves(r, rollout.revision)]
    waiting = [
        r.worker
        for r in facts.workers
        if not _serves(r, rollout.revision) and r.worker not in refused
    ]
    rollout = _with(
        rollout,
        refused=dict(sorted(refused.items())[:_MAX_NAMED]),
        serving=len(served),
        waiting=tuple(waiting[:_MAX_NAMED]),
    )
    share = len(refused) / len(facts.workers) if facts.workers else 0.0
    if share > config.max_refused_share and rollout.abort_on_failure:
        worker, why = min(refused.items())
        return abort(
            rollout,
            f"{len(refused)} of {len(facts.workers)} workers refused it: {worker}: {why}",
            now,
        )
    if not facts.workers and facts.settled and rollout.stage_s >= config.settle_s:
        return _ended(_noted(rollout, "no worker of this channel can be reached"), "done", now)
    if facts.workers and not waiting and facts.settled:
        return _ended(rollout, "done", now)
    if rollout.stage_s >= config.rolling_timeout_s:
        named = ", ".join(waiting[:8])
        return _ended(
            _noted(rollout, f"{len(waiting)} workers do not serve it: {named}"), "done", now
        )
    return rollout


def _aborting(rollout: Rollout, _facts: Facts, now: float, _config: RolloutConfig) -> Rollout:
    return _ended(rollout, "aborted", now)


_STEPS = {
    "preheating": _preheating,
    "canary": _canary,
    "observing": _observing,
    "promoting": _promoting,
    "rolling": _rolling,
    "aborting": _aborting,
}


# What is seen at every look.


def _watched(rollout: Rollout, facts: Facts, now: float, config: RolloutConfig) -> Rollout:
    """Time, requests, and what workers were like before they came to serve the revision."""
    passed_s = min(max(0.0, now - rollout.looked), 5 * config.tick_s) if rollout.looked else 0.0
    changed = _with(rollout, looked=now, stage_s=rollout.stage_s + passed_s)
    if rollout.stage == "observing":
        changed = _with(
            changed,
            trial=_figures(facts, rollout.revision).since(rollout.trial_before),
            stable=_figures(facts, rollout.previous).since(rollout.stable_before),
        )
    return _remembering(changed, facts.workers, config)


def _remembering(
    rollout: Rollout, workers: Iterable[WorkerReport], config: RolloutConfig
) -> Rollout:
    if rollout.stage not in _TRYING:
        faults, served = dict[str, str](), set[str]()
    else:
        faults, served = dict(rollout.faults), set(rollout.served)
    excused = set(rollout.excused)
    for report in workers:
        name, refuses = report.worker, report.refused == rollout.revision
        if refuses and rollout.stage == "preheating":
            excused.add(name)
        elif not refuses or report.target == rollout.revision:
            excused.discard(name)
        if not report.fault:
            faults.pop(name, None)  # whatever comes from here on is new
        if name in served or rollout.stage not in _TRYING:
            continue
        if report.revision == rollout.revision and rollout.canary is not None:
            served.add(name)
        elif report.fault:
            faults[name] = report.fault
    if rollout.stage != "preheating" and rollout.stage_s >= config.stale_refusal_s:
        excused.clear()
    return _with(rollout, faults=faults, served=frozenset(served), excused=frozenset(excused))


def _trouble(rollout: Rollout, facts: Facts) -> str:
    """What a worker of the canary says against the revision; empty: nothing."""
    chosen = _chosen(rollout, facts.workers)
    for worker, why in sorted(_refusals(rollout, chosen).items()):
        return f"worker {worker} refused it: {why}"
    for report in chosen:
        fault, before = report.fault, rollout.faults.get(report.worker, "")
        if fault and fault != before and report.worker in rollout.served:
            return f"worker {report.worker} failed with it: {_told(fault, report.reason)}"
    return ""


def _refusals(rollout: Rollout, workers: Iterable[WorkerReport]) -> dict[str, str]:
    return {
        report.worker: _told(report.fault or "refused", report.reason)
        for report in workers
        if report.refused == rollout.revision
        and rollout.revision not in {report.revision, report.target}
        and report.worker not in rollout.excused
    }


def _chosen(rollout: Rollout, workers: Iterable[WorkerReport]) -> list[WorkerReport]:
    """The workers of the canary."""
    canary = rollout.canary
    return [r for r in workers if canary is not None and canary.takes(r.worker)]


def _tried(rollout: Rollout, facts: Facts) -> bool:
    """Whether a worker of the canary serves the revision now."""
    return any(_serves(report, rollout.revision) for report in _chosen(rollout, facts.workers))


def _figures(facts: Facts, revision: str) -> Window:
    return facts.figures.get(revision, Window())


def _serves(report: WorkerReport, revision: str) -> bool:
    return report.revision == revision and report.state in _SERVING


# Where the channel points, against where it should.


def _where(
    rollout: Rollout, pointer: ChannelPointer | None
) -> Literal["there", "behind", "elsewhere"]:
    """``behind``: as this rollout last knew it, so that it is this rollout's to move."""
    if not rollout.target:
        # A new channel: not there before, and kept as it is when the rollout is aborted.
        return "there" if pointer is None or rollout.stage == "aborting" else "elsewhere"
    if pointer is None:
        return "elsewhere" if rollout.sequence else "behind"
    if (pointer.revision, pointer.canary) == (rollout.target, rollout.canary):
        return "there"
    return "behind" if pointer.sequence == rollout.sequence else "elsewhere"


def _lost(rollout: Rollout, now: float) -> Rollout:
    if rollout.stage == "aborting":
        return _ended(_noted(rollout, "the channel was moved by somebody else"), "aborted", now)
    return supersede(rollout, "the channel was moved by somebody else", now)


def _enter(rollout: Rollout, stage: Stage, now: float, **changes: object) -> Rollout:
    return _with(rollout, stage=stage, stage_s=0.0, looked=now, **changes)


def _ended(rollout: Rollout, stage: Stage, now: float) -> Rollout:
    return _with(rollout, stage=stage, ended=now)


def _noted(rollout: Rollout, note: str) -> Rollout:
    if note in rollout.notes:
        return rollout
    return _with(rollout, notes=(*rollout.notes, note[:_MAX_TOLD])[-_MAX_NOTES:])


def _told(fault: str, reason: str) -> str:
    return f"{fault}: {reason}"[:_MAX_TOLD] if reason else fault


def _with(rollout: Rollout, **changes: object) -> Rollout:
    return msgspec.structs.replace(rollout, **changes)
