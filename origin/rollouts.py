"""Drives the rollouts of an origin: sees, steps, writes down, and only then acts.

``origin.rollout`` decides; here are the clock, the store and the signatures. A rollout is written
down before what follows from it is done, so an origin that was killed in between does it when it is
back. Of several origins on one store, the one that stands in the record drives; another one takes
over when it has seen no sign of life for ``lease_s``, by its own clock. Two that drive at once do
no harm: both the record and the pointer are written on condition.
"""

from __future__ import annotations

import asyncio
import secrets
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field, replace
from typing import Literal

import msgspec
import structlog

from origin.announce import Publisher
from origin.fleet import FleetView
from origin.rollout import (
    Action,
    Facts,
    Point,
    Rollout,
    abort,
    cannot_point,
    promote,
    same_but_for_time,
    step,
    supersede,
)
from origin.rollout_config import RolloutConfig
from origin.rollout_figures import Window, counted, told
from origin.rollout_records import ChannelRecord, Kind, decode_record, encode_record
from origin.stores.objects import Tag
from wire.channel import ChannelPointer
from wire.errors import (
    ConflictError,
    GoneError,
    HeadwaterError,
    NotFoundError,
    RequestInvalidError,
)
from wire.fleet import Preheat, Preheated
from wire.paths import revision_key
from wire.trust import TrustView
from wire.workers import WorkerReport

_log = structlog.get_logger("rollouts")
_CHAIN = 8
"""Steps at one look: each can ask for a pointer, and the next follows from it."""
_LEAST_PAUSE_S = 0.05
"""Between two looks, however many reports come in."""
_LISTED_WORKERS = 256
Channel = tuple[str, str]


@dataclass(frozen=True, slots=True, kw_only=True)
class RolloutRequest:
    """What is to be rolled. ``percent`` 0: to all workers at once."""

    model: str
    channel: str
    revision: str
    kind: Literal["roll", "rollback"] = "roll"
    percent: int = 0
    by: Literal["workers", "callers"] = "workers"
    preheat: bool = True
    abort_on_failure: bool = True
    force: bool = False
    """Over a rollout that still runs."""
    who: str = ""
    why: str = ""


@dataclass(slots=True)
class _Held:
    """A channel's record as this origin knows it."""

    record: ChannelRecord
    tag: Tag | None = None
    changed_s: float = 0.0
    """When it was last seen to change, by the monotonic clock."""
    saved_s: float = 0.0
    figures: dict[str, Window] = field(default_factory=dict)


class Rollouts:
    """The rollouts of one origin.

    Args:
        fleet: whom this origin hears from.
        clock: seconds since 1970.
        ticking: monotonic seconds.
    """

    def __init__(
        self,
        publisher: Publisher,
        fleet: FleetView,
        config: RolloutConfig,
        *,
        clock: Callable[[], float] = time.time,
        ticking: Callable[[], float] = time.monotonic,
    ) -> None:
        self._publisher = publisher
        self._fleet = fleet
        self._config = config
        self._clock = clock
        self._ticking = ticking
        self._name = secrets.token_hex(6)
        self._began = ticking()
        self._turn = asyncio.Lock()
        self._news = asyncio.Event()
        self._held: dict[Channel, _Held] = {}
        self._pointed: list[ChannelPointer] = []
        self._noted: TrustView | None = None
        self._listed_s = float("-inf")
        publisher.on_pointer = self._on_pointer

    def poke(self) -> None:
        """Something is new in the fleet: look now."""
        self._news.set()

    async def run(self) -> None:
        """Drive what is to be driven, until cancelled."""
        while True:
            self._news.clear()
            try:
                await self.look()
            except HeadwaterError as error:
                _log.error("rollouts not looked at", code=error.code, error=error.message)
            await asyncio.sleep(_LEAST_PAUSE_S)
            with suppress(TimeoutError):
                async with asyncio.timeout(self._config.tick_s):
                    await self._news.wait()

    async def look(self) -> None:
        """Take every running rollout as far as it goes now.

        Raises:
            StoreError: the records cannot be read or written; the next look tries again.
        """
        async with self._turn:
            await self._learn()
            for held in list(self._held.values()):
                if held.record.current is None:
                    continue
                try:
                    await self._drive(held)
                except HeadwaterError as error:  # one channel's trouble is not the others'
                    _log.warning(
                        "rollout not driven",
                        model=held.record.model,
                        channel=held.record.channel,
                        error=error.message,
                    )

    # What an operator asks for

    async def start(self, request: RolloutRequest) -> Rollout:
        """Begin a rollout, and take its first steps.

        Raises:
            NotFoundError: the publisher never signed the revision.
            GoneError: it was taken down.
            ConflictError: another one runs, and this one is not forced.
        """
        async with self._turn:
            await self._learn()
            return await self._start(request)

    async def abort(self, model: str, channel: str, reason: str) -> Rollout:
        """Give up the rollout that runs. Raises ``NotFoundError`` where none does."""
        return await self._told_to(
            model, channel, lambda rollout: abort(rollout, reason, self._clock())
        )

    async def promote(self, model: str, channel: str, who: str = "") -> Rollout:
        """Have it go on to all workers now. Raises ``NotFoundError`` where none runs."""
        return await self._told_to(
            model, channel, lambda rollout: promote(rollout, self._clock(), who)
        )

    async def rollback(self, request: RolloutRequest) -> Rollout:
        """Back to ``request.revision``, or where that is empty to the revision before. A rollout
        that runs is aborted, which is all there is to do where that leads there.

        Raises:
            NotFoundError: there is no revision before; or as :meth:`start`.
        """
        async with self._turn:
            await self._learn()
            held = self._holding(request.model, request.channel)
            running = held.record.current
            if running is not None:
                reason = f"rolled back by {request.who or 'an operator'}"
                ended = abort(running, reason, self._clock())
                changed = held.record.with_rollout(ended, self._config)
                await self._save(held, changed, driver=self._name)
                await self._drive(held)
                if request.revision in {"", running.previous}:
                    return held.record.latest or ended
            revision = request.revision or held.record.before()
            if not revision:
                raise NotFoundError(
                    f"no revision before the current one of {request.model}@{request.channel} is "
                    "known; name one with --to"
                )
            wanted = replace(request, revision=revision, kind="rollback", force=True)
            return await self._start(wanted)

    # What an operator sees

    def records(self) -> list[ChannelRecord]:
        """Every channel's record, by model and channel."""
        return [held.record for _, held in sorted(self._held.items())]

    def describe(self, model: str, channel: str) -> dict[str, object]:
        """A channel's record, and how its rollout stands just now.

        Raises:
            NotFoundError: no such channel.
        """
        held = self._held.get((model, channel))
        pointer = self._pointer(model, channel)
        if held is None and pointer is None:
            raise NotFoundError(f"no channel {model}@{channel}")
        record = held.record if held else ChannelRecord(model=model, channel=channel)
        latest = record.latest
        return {
            "record": record,
            "pointer": pointer,
            "before": record.before(),
            "now": self._now(latest) if latest is not None else None,
        }

    def _now(self, rollout: Rollout) -> dict[str, object]:
        workers = self._workers(rollout.model, rollout.channel)
        figures = {"trial": rollout.trial, "stable": rollout.stable}
        return {
            "preheated": self._preheated(rollout.revision),
            "workers": [
                {
                    "worker": report.worker,
                    "revision": report.revision,
                    "state": report.state,
                    "target": report.target,
                    "phase": report.phase,
                    "fault": report.fault,
                    "refused": report.refused,
                    "reason": report.reason,
                    "canary": rollout.canary is not None and rollout.canary.takes(report.worker),
                }
                for report in workers[:_LISTED_WORKERS]
            ],
            "workers_by_revision": _tally(workers),
            "figures": told(figures),
        }

    # Inside; all of it in turn

    async def _start(self, request: RolloutRequest) -> Rollout:
        model, channel, revision = request.model, request.channel, request.revision
        view = self._publisher.repository.view
        if (model, revision) not in view.revisions:
            raise NotFoundError(f"revision {revision} of {model} is not signed; publish it first")
        self._publisher.refuse_gone(revision_key(revision))
        if not 0 <= request.percent < 100:
            raise RequestInvalidError(f"a canary takes 1 to 99 percent, not {request.percent}")
        held, now = self._holding(model, channel), self._clock()
        record = held.record
        if record.current is not None:
            if not request.force:
                running = record.current
                raise ConflictError(
                    f"a {running.kind} of {model}@{channel} to {running.revision[:12]} is "
                    f"{running.stage}; abort it first, or force this one over it"
                )
            over = supersede(record.current, f"a {request.kind} to {revision[:12]}", now)
            record = record.with_rollout(over, self._config)
        pointer = self._pointer(model, channel)
        rollout = Rollout(
            id=secrets.token_hex(6),
            model=model,
            channel=channel,
            revision=revision,
            previous=pointer.revision if pointer is not None else "",
            sequence=pointer.sequence if pointer is not None else 0,
            kind=request.kind,
            percent=request.percent,
            by=request.by,
            preheat=request.preheat,
            abort_on_failure=request.abort_on_failure,
            who=request.who,
            why=request.why,
            started=now,
        )
        await self._save(held, record.with_rollout(rollout, self._config), driver=self._name)
        _log.info(request.kind, model=model, channel=channel, revision=revision, who=request.who)
        await self._drive(held)
        return _of(held, rollout.id) or rollout

    async def _told_to(
        self, model: str, channel: str, change: Callable[[Rollout], Rollout]
    ) -> Rollout:
        async with self._turn:
            await self._learn()
            held = self._held.get((model, channel))
            running = held.record.current if held is not None else None
            if held is None or running is None:
                raise NotFoundError(f"no rollout of {model}@{channel} is running")
            changed = held.record.with_rollout(change(running), self._config)
            await self._save(held, changed, driver=self._name)
            await self._drive(held)
            return _of(held, running.id) or running

    async def _drive(self, held: _Held) -> None:
        """Step and act until there is nothing more to do now."""
        if not await self._mine(held):
            return
        for _ in range(_CHAIN):
            before = held.record.current
            if before is None:
                return
            after, actions = step(before, self._facts(before), self._clock(), self._config)
            await self._keep(held, before, after)
            self._tell_edges(after)
            if not await self._point(held, after, actions):
                return

    async def _keep(self, held: _Held, before: Rollout, after: Rollout) -> None:
        """Write down what changed; mere figures only now and then."""
        record = held.record.with_rollout(after, self._config)
        late = self._ticking() - held.saved_s >= self._save_every_s
        if late or not same_but_for_time(before, after):
            await self._save(held, record)
        else:
            held.record = record
        if before.stage != after.stage:
            log = _log.warning if after.reason else _log.info
            log(
                "rollout",
                model=after.model,
                channel=after.channel,
                revision=after.revision[:12],
                stage=after.stage,
                reason=after.reason,
            )

    @property
    def _save_every_s(self) -> float:
        if self._publisher.store.shared:
            return min(self._config.save_s, self._config.lease_s / 3)
        return self._config.save_s

    def _tell_edges(self, rollout: Rollout) -> None:
        asked = Preheat(model=rollout.model, revision=rollout.revision)
        asks = rollout.stage == "preheating" and rollout.preheat
        if asks == (asked in self._fleet.to_preheat()):
            return
        if asks:
            self._fleet.preheat(rollout.model, rollout.revision)
        else:
            self._fleet.stop_preheat(rollout.model, rollout.revision)

    async def _point(self, held: _Held, rollout: Rollout, actions: tuple[Action, ...]) -> bool:
        """Sign the pointer that is asked for; whether another step follows."""
        wanted = next((action for action in actions if isinstance(action, Point)), None)
        if wanted is None:
            return False
        try:
            pointer = await self._publisher.roll(
                rollout.model,
                rollout.channel,
                wanted.revision,
                canary=wanted.canary,
                sequence=wanted.sequence,
            )
        except ConflictError:
            return True  # the next step sees where the channel points now
        except (NotFoundError, GoneError) as error:
            changed = cannot_point(rollout, error.message, self._clock())
            await self._save(held, held.record.with_rollout(changed, self._config))
            return True
        kind: Kind = "abort" if rollout.stage == "aborting" else rollout.kind
        held.record = held.record.with_pointer(
            pointer,
            self._config,
            at=self._clock(),
            kind=kind,
            who=rollout.who,
            why=rollout.reason or rollout.why,
        )
        return True

    # The records

    async def _learn(self) -> None:
        """Read what others wrote, and note the pointers that no rollout signed."""
        await self._read()
        for pointer in self._take_pointed():
            held = self._holding(pointer.model, pointer.channel)
            record = held.record.with_pointer(pointer, self._config, at=self._clock())
            if record is not held.record:
                with suppress(ConflictError):  # whoever wrote it first notes it too
                    await self._save(held, record)

    def _take_pointed(self) -> list[ChannelPointer]:
        """Pointers signed here since the last time, and those in force."""
        signed, self._pointed = self._pointed, []
        view = self._publisher.repository.view
        if view is not self._noted:
            self._noted = view
            signed.extend(view.pointers())
        return signed

    def _on_pointer(self, pointer: ChannelPointer) -> None:
        self._pointed.append(pointer)
        self._news.set()

    async def _read(self) -> None:
        """The records in the store: all of them once, and where others write, again and again."""
        now, shared = self._ticking(), self._publisher.store.shared
        first = self._listed_s == float("-inf")
        if first or (shared and now - self._listed_s >= self._config.lease_s / 3):
            for key in await self._publisher.store.channel_records():
                await self._reread(self._holding(*key))
            self._listed_s = now
        elif shared:
            for held in list(self._held.values()):
                if held.record.current is not None:
                    await self._reread(held)

    async def _reread(self, held: _Held) -> None:
        model, channel = held.record.model, held.record.channel
        try:
            found = await self._publisher.store.channel_record(model, channel, held.tag)
        except NotFoundError:
            return
        if found is None:
            return
        data, held.tag = found
        held.changed_s = self._ticking()
        try:
            held.record = decode_record(data, model, channel)
        except HeadwaterError as error:
            _log.error("a record begins anew", error=error.message)

    async def _mine(self, held: _Held) -> bool:
        """Whether this origin drives the channel's rollout; taken over where nobody does."""
        if held.record.driver == self._name:
            return True
        silent_s = self._ticking() - held.changed_s
        if self._publisher.store.shared and silent_s < self._config.lease_s:
            return False
        _log.info("rollout taken over", model=held.record.model, channel=held.record.channel)
        try:
            await self._save(held, held.record, driver=self._name)
        except ConflictError:
            return False
        return True

    async def _save(self, held: _Held, record: ChannelRecord, *, driver: str = "") -> None:
        """Write a record. Raises ``ConflictError`` where another origin did, and it is read again
        then."""
        changes = {"beat": record.beat + 1, "driver": driver or record.driver}
        record = msgspec.structs.replace(record, **changes)
        try:
            held.tag = await self._publisher.store.put_channel_record(
                record.model, record.channel, encode_record(record), held.tag
            )
        except ConflictError:
            await self._reread(held)
            raise
        held.record = record
        held.changed_s = held.saved_s = self._ticking()

    def _holding(self, model: str, channel: str) -> _Held:
        held = self._held.get((model, channel))
        if held is None:
            held = _Held(ChannelRecord(model=model, channel=channel), changed_s=self._ticking())
            self._held[model, channel] = held
        return held

    # What is known

    def _facts(self, rollout: Rollout) -> Facts:
        figures = {
            revision: counted(self._fleet.figures(rollout.model, revision))
            for revision in (rollout.revision, rollout.previous)
            if revision
        }
        return Facts(
            pointer=self._pointer(rollout.model, rollout.channel),
            workers=tuple(self._workers(rollout.model, rollout.channel)),
            preheated=self._preheated(rollout.revision),
            figures=figures,
            settled=self._settled(),
        )

    def _settled(self) -> bool:
        if self._ticking() - self._began < self._config.settle_s:
            return False
        return all(edge.presence != "unheard" for edge in self._fleet.edges())

    def _preheated(self, revision: str) -> dict[str, Preheated | None]:
        begun = self._fleet.preheated(revision)
        here = [edge.name for edge in self._fleet.edges() if edge.presence == "here"]
        return {name: begun.get(name) for name in here}

    def _workers(self, model: str, channel: str) -> list[WorkerReport]:
        return [
            node.report
            for node in self._fleet.workers()
            if node.presence == "here"
            and (node.report.model, node.report.channel) == (model, channel)
        ]

    def _pointer(self, model: str, channel: str) -> ChannelPointer | None:
        return self._publisher.repository.view.channels.get((model, channel))


def _of(held: _Held, id: str) -> Rollout | None:  # noqa: A002
    """The rollout of this id in a record."""
    record = held.record
    found = [record.current] if record.current is not None else []
    return next((one for one in (*found, *record.past) if one.id == id), None)


def _tally(workers: list[WorkerReport]) -> dict[str, int]:
    counts: dict[str, int] = {}
    for report in workers:
        counts[report.revision] = counts.get(report.revision, 0) + 1
    return counts
