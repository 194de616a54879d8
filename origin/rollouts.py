"""Drives the rollouts of an origin: sees, steps, writes down, and only then acts.

``origin.rollout`` decides; here are the clock, the fleet and the signatures. A rollout is written
down before what follows from it is done, so an origin that was killed in between does it when it is
back. Two origins that drove one rollout at once would do no harm: both the record and the pointer
are written on condition.
"""

from __future__ import annotations

import asyncio
import secrets
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import replace

import structlog

from origin.announce import Publisher
from origin.errors import StoreError
from origin.fleet import FleetView
from origin.rollout import (
    abort,
    cannot_point,
    promote,
    same_but_for_time,
    step,
    supersede,
    taken_over,
)
from origin.rollout_config import RolloutConfig
from origin.rollout_records import ChannelRecord, Kind
from origin.rollout_shelf import Held, Shelf
from origin.rollout_state import Action, Point, Rollout, RolloutRequest
from origin.rollout_status import standing
from origin.rollout_watch import Watch
from wire.channel import ChannelPointer
from wire.errors import (
    ConflictError,
    GoneError,
    HeadwaterError,
    NotFoundError,
    RequestInvalidError,
)
from wire.fleet import MAX_PREHEATS, Preheat
from wire.paths import revision_key
from wire.trust import TrustView

_log = structlog.get_logger("rollouts")
_CHAIN = 8
"""Steps at one look: each can ask for a pointer, and the next follows from it."""
_LEAST_PAUSE_S = 0.05
"""Between two looks, however many reports come in ..."""
_PAUSE_PER_LOOK = 4.0
"""... and so many times what the look took: of thousands of workers, each of which has news, one
takes long, and the origin has others to answer."""


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
        self._shelf = Shelf(publisher.store, config, clock=clock, ticking=ticking)
        self._watch = Watch(publisher, fleet, config, ticking=ticking)
        self._turn = asyncio.Lock()
        self._news = asyncio.Event()
        self._signed: dict[tuple[str, str, int], ChannelPointer] = {}
        """Pointers that are to be noted, by model, channel and sequence."""
        self._noted: TrustView | None = None
        self._version = fleet.version
        self._preheating = False
        """Whether a rollout waits for edges, whose progress is no news to others."""
        publisher.on_pointer = self._on_pointer

    def poke(self) -> None:
        """An edge has reported: look now, if it may have told something new."""
        if self._preheating or self._fleet.version != self._version:
            self._version = self._fleet.version
            self._news.set()

    async def run(self) -> None:
        """Drive what is to be driven, until cancelled."""
        while True:
            self._news.clear()
            began_s = time.monotonic()
            try:
                await self.look()
            except HeadwaterError as error:
                _log.error("rollouts not looked at", code=error.code, error=error.message)
            took_s = time.monotonic() - began_s
            await asyncio.sleep(max(_LEAST_PAUSE_S, _PAUSE_PER_LOOK * took_s))
            with suppress(TimeoutError):
                async with asyncio.timeout(self._config.tick_s):
                    await self._news.wait()

    async def look(self) -> None:
        """Take every running rollout as far as it goes now.

        Raises:
            StoreError: the records cannot be read or written; the next look tries again.
        """
        async with self._turn:
            await self._learn(fresh=False)
            for held in self._shelf.all():
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
            self._tell_edges()

    # What an operator asks for

    async def start(self, request: RolloutRequest) -> Rollout:
        """Begin a rollout, and take its first steps.

        Raises:
            NotFoundError: the publisher never signed the revision.
            GoneError: it was taken down.
            ConflictError: another one is on its way to all workers, and this one is not forced. One
                that has only workers left to wait for is superseded.
        """
        async with self._turn:
            await self._learn()
            return await self._start(request)

    async def abort(self, model: str, channel: str, reason: str) -> Rollout:
        """Give up the rollout that runs. Raises ``NotFoundError`` where none does."""
        async with self._turn:
            await self._learn()
            held, running = self._running(model, channel)
            return await self._told(held, abort(running, reason, self._clock()))

    async def promote(self, model: str, channel: str, who: str = "") -> Rollout:
        """Have it go on to all workers now. Raises ``NotFoundError`` where none runs."""
        async with self._turn:
            await self._learn()
            held, running = self._running(model, channel)
            return await self._told(held, promote(running, self._clock(), who))

    async def rollback(self, request: RolloutRequest) -> Rollout:
        """Back to ``request.revision``, or where that is empty to the revision before. A rollout
        that runs is aborted, which is all there is to do where that leads there.

        Raises:
            NotFoundError: there is no revision before; or as :meth:`start`.
        """
        async with self._turn:
            await self._learn()
            if request.revision:
                self._check(replace(request, force=True))
            held = self._shelf.holding(request.model, request.channel)
            if (running := held.record.current) is not None:
                reason = f"rolled back by {request.who or 'an operator'}"
                ended = await self._told(held, abort(running, reason, self._clock()))
                if request.revision in {"", running.previous}:
                    return ended
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
        return [held.record for held in self._shelf.all()]

    def describe(self, model: str, channel: str) -> dict[str, object]:
        """A channel's record, and how its rollout stands just now.

        Raises:
            NotFoundError: no such channel.
        """
        held, pointer = self._shelf.find(model, channel), self._watch.pointer(model, channel)
        if held is None and pointer is None:
            raise NotFoundError(f"no channel {model}@{channel}")
        record = held.record if held else ChannelRecord(model=model, channel=channel)
        latest = record.latest
        return {
            "record": record,
            "pointer": pointer,
            "before": record.before(),
            "now": standing(latest, self._watch.facts(latest)) if latest is not None else None,
        }

    # Inside; all of it in turn

    async def _start(self, request: RolloutRequest) -> Rollout:
        model, channel, revision = request.model, request.channel, request.revision
        self._check(request)
        held, now = self._shelf.holding(model, channel), self._clock()
        record, pointer = held.record, self._watch.pointer(model, channel)
        if record.current is not None:
            over = supersede(record.current, f"a {request.kind} to {revision[:12]}", now)
            record = record.with_rollout(over, self._config)
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
        await self._shelf.save(held, record.with_rollout(rollout, self._config), take=True)
        _log.info(request.kind, model=model, channel=channel, revision=revision, who=request.who)
        await self._drive(held)
        return _of(held, rollout)

    def _check(self, request: RolloutRequest) -> None:
        """Raises as :meth:`start`."""
        model, channel, revision = request.model, request.channel, request.revision
        if (model, revision) not in self._publisher.repository.view.revisions:
            raise NotFoundError(f"revision {revision} of {model} is not signed; publish it first")
        self._publisher.refuse_gone(revision_key(revision))
        if not 0 <= request.percent < 100:
            raise RequestInvalidError(f"a canary takes 1 to 99 percent, not {request.percent}")
        if request.percent and (model, revision) in self._publisher.repository.view.static:
            raise RequestInvalidError(
                f"{model} is a static site, which no worker could try; roll it without a canary, "
                "or try it on another channel first"
            )
        held = self._shelf.find(model, channel)
        running = held.record.current if held is not None else None
        if running is not None and running.stage != "rolling" and not request.force:
            raise ConflictError(
                f"a {running.kind} of {model}@{channel} to {running.revision[:12]} is "
                f"{running.stage}; abort it first, or force this one over it"
            )

    def _running(self, model: str, channel: str) -> tuple[Held, Rollout]:
        held = self._shelf.find(model, channel)
        if held is None or held.record.current is None:
            raise NotFoundError(f"no rollout of {model}@{channel} is running")
        return held, held.record.current

    async def _told(self, held: Held, changed: Rollout) -> Rollout:
        """What an operator wants of a running rollout, written down and followed at once."""
        record = held.record.with_rollout(changed, self._config)
        await self._shelf.save(held, record, take=True)
        await self._drive(held)
        return _of(held, changed)

    async def _drive(self, held: Held) -> None:
        """Step and act until there is nothing more to do now."""
        if held.record.driver != self._shelf.name and not await self._take_over(held):
            return
        for _ in range(_CHAIN):
            before = held.record.current
            if before is None:
                return
            after, actions = step(before, self._watch.facts(before), self._clock(), self._config)
            await self._keep(held, before, after)
            self._tell_edges()
            if not await self._point(held, after, actions):
                return

    async def _take_over(self, held: Held) -> bool:
        """Go on with another origin's rollout, if that one does no longer; or with that of an
        earlier life of this one."""
        shared = self._publisher.store.shared
        if shared and not self._watch.settled():
            return False
        if not await self._shelf.mine(held):
            return False
        running = held.record.current
        if shared and running is not None:
            changed = taken_over(running, self._watch.facts(running))
            held.record = held.record.with_rollout(changed, self._config)
        return True

    async def _keep(self, held: Held, before: Rollout, after: Rollout) -> None:
        """Write down what changed; mere figures only now and then."""
        record = held.record.with_rollout(after, self._config)
        if not same_but_for_time(before, after) or self._shelf.due(held):
            await self._shelf.save(held, record)
        else:
            held.record = record
        if before.stage != after.stage:
            (_log.warning if after.reason else _log.info)(
                "rollout",
                model=after.model,
                channel=after.channel,
                revision=after.revision[:12],
                stage=after.stage,
                reason=after.reason,
            )

    def _tell_edges(self) -> None:
        """Have the edges bring what rollouts wait for, and nothing else: not what one waited for
        that was put aside, ended by another origin, or cut off by the end of an earlier life."""
        running = [h.record.current for h in self._shelf.all() if h.record.current is not None]
        waiting = [one for one in running if one.stage == "preheating"]
        self._preheating = bool(waiting)
        asking = [Preheat(model=o.model, revision=o.revision) for o in waiting if o.preheat]
        wanted = set(asking[:MAX_PREHEATS])
        for asked in set(self._fleet.to_preheat()) - wanted:
            self._fleet.stop_preheat(asked.model, asked.revision)
        for missing in wanted - set(self._fleet.to_preheat()):
            self._fleet.preheat(missing.model, missing.revision)

    async def _point(self, held: Held, rollout: Rollout, actions: tuple[Action, ...]) -> bool:
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
            await self._shelf.save(held, held.record.with_rollout(changed, self._config))
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

    async def _learn(self, *, fresh: bool = True) -> None:
        """Read what others wrote, and note the pointers that no rollout signed."""
        await self._shelf.read(fresh=fresh)
        view = self._publisher.repository.view
        if view is not self._noted:
            self._noted = view
            for pointer in view.pointers():
                self._to_note(pointer)
        for key, pointer in list(self._signed.items()):
            try:
                await self._shelf.note(pointer)
            except StoreError as error:
                # It stays, behind the others; all of them would only fail as this one did.
                self._signed[key] = self._signed.pop(key)
                _log.warning("a pointer is not noted yet", channel=key[:2], error=error.message)
                return
            del self._signed[key]

    def _to_note(self, pointer: ChannelPointer) -> None:
        self._signed[pointer.model, pointer.channel, pointer.sequence] = pointer

    def _on_pointer(self, pointer: ChannelPointer) -> None:
        self._to_note(pointer)
        self._news.set()


def _of(held: Held, rollout: Rollout) -> Rollout:
    """The rollout as it stands in its record now."""
    current = (held.record.current,) if held.record.current is not None else ()
    return next((one for one in (*current, *held.record.past) if one.id == rollout.id), rollout)
