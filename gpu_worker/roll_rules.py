"""The rules of a boot and of a roll, all of them here: one machine without clock, file or await.

1. The signed pointer says what a worker shall serve (``ChannelPointer.revision_for`` its name, so a
   canary takes the same workers every time). Events only say when to look. What the publisher did
   not sign is never brought.
2. A revision is pulled beside the one that serves, checked, loaded beside it where memory allows,
   else the old one drains to a deadline and stops first while the edge routes around.
3. It serves only after it has proven itself: every flip follows a proof of that very load, and one
   assignment is the flip. Streams finish on the engine they began on, to a deadline.
4. A failure at any step leaves the old one serving. Where nothing serves, because it had to make
   room, has died or there never was one, the last good revision comes back from the disk, or the
   stable one where a canary failed, or an older one that the publisher still stands for; never the
   one that just failed.
5. A revision that would not load or failed its probe is refused: the same pointer is not tried
   again for a while, and for twice as long each time where that costs the one that serves. A
   pointer that moved, be it back and forth, is another one and is tried at once.
6. Where the pointer moves on while a revision is being brought (a canary is aborted), that is given
   up and the new pointer is followed at once.
7. Beyond the offline grace of the trust metadata what runs goes on, and nothing is started.
8. On disk stay the revision that served before, so many older ones as configured, and during a
   canary the stable one too: the way back costs no download.
9. An operator's restart brings the serving revision up once more in the same way; where nothing
   serves it makes the worker forget what it refused and try at once.

The steps, and the events that lead from one to the next::

    resting ──looked: another revision; or an operator's restart──► pulling
    pulling ──pulled, room for two──────────────────────────────────────────────► loading
       └──────pulled, no room──► making_room ──room made (the old one is gone)──► loading
    loading ──proven──► flipping ──flipped──► tidying ──tidied──► resting
                            └──a restart, or one that came back──► resting

    resting ──looked: it serves; it is refused for now; it may not be started──► resting
    pulling, loading ──moved on──► resting, and another look at once
    pulling, loading ──failed, and one serves──► resting
    pulling, loading ──failed, and nothing serves──► listing
    resting ──looked: it is refused for now, and nothing serves──► listing
    listing ──on disk──► pulling: the last good one, then the older ones, until one serves
       └──none is left──► giving_up ──given up──► resting
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Literal

from gpu_worker.roll_events import (
    Action,
    Event,
    Failed,
    Flip,
    Flipped,
    GivenUp,
    GiveUp,
    ListDisk,
    Load,
    Looked,
    LookFailed,
    MakeRoom,
    MovedOn,
    OnDisk,
    Proven,
    Pull,
    Pulled,
    Rest,
    Restart,
    RoomMade,
    Tidied,
    Tidy,
)
from wire.channel import ChannelPointer
from wire.errors import HeadwaterError
from wire.workers import Fault

Step = Literal[
    "resting", "pulling", "making_room", "loading", "flipping", "tidying", "listing", "giving_up"
]
Purpose = Literal["roll", "restart", "fallback"]
_MAX_DOUBLINGS = 5


class RuleBrokenError(HeadwaterError):
    """An event that cannot follow the action that was asked for: a fault of the driver."""

    code = "rule_broken"


@dataclass(frozen=True, slots=True)
class Refused:
    """A pointer whose revision would not load."""

    pointer: ChannelPointer
    revision: str
    why: str
    retry_at_s: float
    times: int = 1
    """In a row that it cost the one that served."""
    no_way_back: bool = False
    """Nothing on disk came up either."""


class RollRules:
    """The machine. Give every event to :meth:`on` and do what it returns, until that is ``Rest``.

    Args:
        worker: stable name in the fleet; decides who belongs to a canary's share.
        retry_failed_s: how long the same pointer is not tried again.
    """

    def __init__(self, worker: str, *, retry_failed_s: float) -> None:
        self._worker = worker
        self._retry_failed_s = retry_failed_s
        self._purpose: Purpose = "roll"
        self._news: Looked | None = None
        self._queue: list[str] = []
        self._previous = self._failed = ""
        self._room_made = False
        self.step: Step = "resting"
        self.target = ""
        """The revision that is being brought; empty while none is."""
        self.serving = ""
        """What the last flip put in service; empty before it, and when it had to make room."""
        self.good = ""
        """The last revision that served."""
        self.refused: Refused | None = None
        self.canary = False
        """Whether this worker belongs to the share that tries the canary of now."""
        self.reason = ""
        """Why the last boot or roll failed, or the trust is in doubt; empty when all is well."""
        self.fault: Fault = ""
        """What ended the last engine that did not come up."""
        self.failures = 0
        """Looks in a row that failed."""
        self.problem = ""
        """Why the last restart was not done; empty where it was."""

    def on(self, event: Event, *, alive: bool, now_s: float) -> Action:
        """What to do next.

        Args:
            alive: whether an engine serves, and has not been given up.
            now_s: monotonic seconds.

        Raises:
            RuleBrokenError: the event does not belong to the step.
        """
        if self.step == "resting":
            return self._at_rest(event, alive, now_s)
        if isinstance(event, Failed):
            return self._step_failed(event, alive, now_s)
        return self._under_way(event, alive)

    def abandon(self) -> None:
        """What is under way was cut off from outside; nothing came of it."""
        self.step, self.target = "resting", ""

    def has_moved(self, pointer: ChannelPointer) -> bool:
        """Whether this pointer makes what is being brought pointless (rule 6)."""
        rolling = self._purpose == "roll" and self.step in ("pulling", "loading")
        return rolling and pointer.revision_for(self._worker) != self.target

    def _at_rest(self, event: Event, alive: bool, now_s: float) -> Action:
        match event:
            case Looked():
                self._news, self.problem = event, ""
                return self._looked(event, alive, now_s)
            case LookFailed(why):
                self.problem = why
                return self._look_failed(why, alive)
            case Restart(news, fresh):
                self._news, self.problem = news, ""
                return self._restart(news, alive, now_s, fresh=fresh)
        raise RuleBrokenError(f"{type(event).__name__} while {self.step}")

    def _under_way(self, event: Event, alive: bool) -> Action:
        match self.step, event:
            case "pulling", Pulled(room):
                return self._pulled(room=room, alive=alive)
            case "making_room", RoomMade():
                self.serving, self._room_made = "", True
                return self._load()
            case "loading", Proven():
                return self._flip()
            case "flipping", Flipped():
                return self._flipped()
            case "tidying", Tidied():
                return self._rest()
            case "listing", OnDisk(revisions):
                return self._listed(revisions, alive)
            case "giving_up", GivenUp():
                return self._rest()
            case (("pulling" | "loading"), MovedOn()):
                return self._moved_on()
        raise RuleBrokenError(f"{type(event).__name__} while {self.step}")

    # Resting

    def _looked(self, news: Looked, alive: bool, now_s: float, *, fresh: bool = False) -> Action:
        pointer = news.pointer
        self.canary = pointer.canary is not None and pointer.canary.takes(self._worker)
        target = pointer.revision_for(self._worker)
        if target not in news.signed:
            return self._look_failed(f"trust_invalid: {target[:12]} is not signed", alive)
        if alive and target == self.serving:
            self.refused, self.fault = None, ""
            return self._content(news.doubt)
        if news.stale:
            return self._look_failed(news.stale, alive)
        refused = self.refused
        if refused is not None and refused.pointer == pointer and now_s < refused.retry_at_s:
            if not alive and not refused.no_way_back:
                self._failed = refused.revision
                return self._list()
            return self._content(refused.why)
        return self._bring(target, "roll", fresh=fresh)

    def _look_failed(self, why: str, alive: bool) -> Action:
        self._told(why)
        if self.refused is not None and not alive:
            return self._give_up()
        return self._rest()

    def _restart(self, news: Looked, alive: bool, now_s: float, *, fresh: bool) -> Action:
        if not alive:
            self.refused = None
            return self._looked(news, alive, now_s, fresh=fresh)
        self.problem = news.stale
        if self.serving not in news.signed:
            self.problem = "the revision that serves is no longer signed"
        if self.problem:
            return self._rest()
        return self._bring(self.serving, "restart", fresh=fresh)

    # Bringing

    def _bring(self, target: str, purpose: Purpose, *, fresh: bool = False) -> Action:
        self._purpose, self.target, self.step = purpose, target, "pulling"
        if purpose != "fallback":
            self._previous, self._room_made = self.good, False
        return Pull(target, fresh)

    def _pulled(self, *, room: bool, alive: bool) -> Action:
        if room or not alive:
            return self._load()
        self.step = "making_room"
        return MakeRoom()

    def _load(self) -> Action:
        self.step = "loading"
        return Load(self.target)

    def _flip(self) -> Action:
        if self._purpose == "roll":
            # Before the flip: who sees the new revision must not read of an old failure.
            self.refused, self.reason, self.fault = None, "", ""
        self.step = "flipping"
        return Flip(self.target)

    def _flipped(self) -> Action:
        self.serving = self.good = self.target
        self.target = ""
        if self.refused is not None:
            self.refused = replace(self.refused, no_way_back=False)
        if self._purpose != "roll" or self._news is None:
            return self._rest()
        self._content(self._news.doubt)
        self.step = "tidying"
        return Tidy(self.serving, self._previous, frozenset(self._news.pointer.revisions))

    def _moved_on(self) -> Action:
        self.target, self.step = "", "resting"
        return Rest(again=True)

    # Failing

    def _step_failed(self, event: Failed, alive: bool, now_s: float) -> Action:
        if self.step == "tidying":
            self._told(event.why)
            return self._rest()
        if self.step == "listing":
            return self._listed((), alive)
        failed, self.target = self.target, ""
        if self._purpose == "fallback":
            return self._next_one(alive)
        self._failed, self.fault = failed, event.fault
        self._told(event.why)
        if self._purpose == "restart":
            self.problem = event.why
        elif event.refuses:
            self._refuse(failed, event.why, now_s)
        return self._rest() if alive else self._list()

    def _refuse(self, revision: str, why: str, now_s: float) -> None:
        if self._news is None:
            return
        pointer, before = self._news.pointer, self.refused
        again = before is not None and before.pointer == pointer
        times = before.times + 1 if before is not None and again and self._room_made else 1
        wait_s = self._retry_failed_s * 2.0 ** min(times - 1, _MAX_DOUBLINGS)
        self.refused = Refused(pointer, revision, why, now_s + wait_s, times)

    # Falling back

    def _list(self) -> Action:
        self.step = "listing"
        return ListDisk()

    def _listed(self, on_disk: tuple[str, ...], alive: bool) -> Action:
        news = self._news
        if news is not None:
            # The stable one too: a canary's first boot may have nothing else to come back to.
            known = dict.fromkeys([self.good, news.pointer.revision, *on_disk])
            self._queue = [r for r in known if r in news.signed and r != self._failed]
        return self._next_one(alive)

    def _next_one(self, alive: bool) -> Action:
        if self._queue:
            return self._bring(self._queue.pop(0), "fallback")
        if self.refused is None or alive:
            return self._rest()
        self.refused = replace(self.refused, no_way_back=True)
        return self._give_up()

    def _give_up(self) -> Action:
        self.step = "giving_up"
        return GiveUp(self.reason)

    # Telling

    def _told(self, why: str) -> None:
        self.reason = why
        self.failures += 1

    def _content(self, reason: str) -> Action:
        self.reason, self.failures = reason, 0
        return self._rest()

    def _rest(self) -> Action:
        self.step = "resting"
        return Rest()
