"""What a worker tells of one of its models: the heartbeat, from what its parts know."""

from __future__ import annotations

from dataclasses import dataclass

from gpu_worker.asleep import Asleep
from gpu_worker.resident import Resident
from wire.trust import TrustView
from wire.workers import Done, WorkerReport

_MAX_REASON = 500


@dataclass(slots=True)
class Identity:
    """Who this worker is to others; the URL is known once the socket is bound."""

    name: str
    url: str = ""


def report_of(
    resident: Resident,
    identity: Identity,
    view: TrustView | None,
    *,
    stopping: bool = False,
    done: tuple[Done, ...] = (),
) -> WorkerReport:
    """The heartbeat of one model.

    Args:
        view: the trust that the worker works from.
        stopping: the worker is about to end.
        done: the operator's last commands.
    """
    serving, roller, config = resident.serving, resident.roller, resident.config
    load = serving.load()
    engine = serving.engine
    # Several choices are the worker's own doing.
    features = engine.features | {"n"} if engine is not None else frozenset[str]()
    reason = roller.reason or serving.reason
    return WorkerReport(
        worker=identity.name,
        url=identity.url,
        model=resident.name,
        channel=config.channel,
        revision=roller.revision,
        # To the end, also once the engine is closed: that is no failure.
        state="draining" if stopping else serving.state,
        slots=load.slots or (config.engine.slots if isinstance(engine, Asleep) else 0),
        busy=load.busy,
        queue=load.queue,
        ttl_s=config.heartbeat_ttl_s,
        reason=reason[:_MAX_REASON],
        features=features,
        boot=roller.waterfalls[0].steps_ms if roller.waterfalls else {},
        boot_spans=roller.waterfalls.boot_spans(),
        roll=roller.waterfalls.told_roll(),
        variant=resident.prepare.variant(roller.revision),
        target=roller.target or (roller.revision if resident.waking else ""),
        phase=roller.phase or ("load" if resident.waking else ""),
        missing_bytes=roller.missing_bytes,
        fault=roller.fault or (engine.fault if engine is not None else ""),
        refused=roller.refused,
        canary=roller.canary,
        draining=stopping or bool(serving.held),
        trust=view.state if view is not None else "none",
        done=done,
    )
