"""A rollout as it is written down, what its next step goes by, and what that step asks for.

The rules are in ``origin.rollout``.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

import msgspec

from origin.rollout_figures import Window
from wire.channel import Canary, ChannelPointer
from wire.fleet import Preheat, Preheated
from wire.workers import WorkerReport

Stage = Literal[
    "preheating",
    "canary",
    "observing",
    "promoting",
    "rolling",
    "aborting",
    "done",
    "aborted",
    "superseded",
]
OVER = frozenset({"done", "aborted", "superseded"})


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


class Rollout(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """One rollout, as it is written down."""

    id: str
    model: str
    channel: str
    revision: str
    """Where the channel is to point."""
    previous: str
    """Where it pointed before; empty: it is new."""
    kind: Literal["roll", "rollback"] = "roll"
    percent: int = 0
    """Share that tries it first; 0: no canary."""
    by: Literal["workers", "callers"] = "workers"
    preheat: bool = True
    abort_on_failure: bool = True
    who: str = ""
    why: str = ""
    started: float
    """Seconds since 1970."""
    ended: float = 0.0
    stage: Stage = "preheating"
    stage_s: float = 0.0
    """Watched seconds of this stage."""
    looked: float = 0.0
    """When the last step was, seconds since 1970."""
    sequence: int = 0
    """Of the channel's pointer as this rollout last knew it; 0: there is none yet."""
    seed: int = 0
    trial: Window = Window()
    """Requests of the new revision while it was observed."""
    stable: Window = Window()
    """Those of the old one in the same time."""
    trial_before: Window = Window()
    """All of the new revision's requests when observing began."""
    stable_before: Window = Window()
    served: frozenset[str] = frozenset()
    """Workers of the canary that have served it."""
    faults: dict[str, str] = {}
    """Worker → the fault that it had before it served the revision."""
    excused: frozenset[str] = frozenset()
    """Workers that had refused the revision before this rollout."""
    refused: dict[str, str] = {}
    """Worker → why it does not serve the revision."""
    waiting: tuple[str, ...] = ()
    """Workers that do not serve it yet."""
    serving: int = 0
    """How many do."""
    notes: tuple[str, ...] = ()
    reason: str = ""
    """Why it ended other than well."""

    @property
    def over(self) -> bool:
        return self.stage in OVER

    @property
    def canary(self) -> Canary | None:
        """The canary of its pointer, while there is one."""
        if self.stage not in {"canary", "observing"}:
            return None
        return Canary(revision=self.revision, percent=self.percent, by=self.by, seed=self.seed)

    @property
    def target(self) -> str:
        """What the channel should point at in this stage, its canary aside."""
        return self.revision if self.stage in {"promoting", "rolling", "done"} else self.previous


@dataclass(frozen=True, slots=True, kw_only=True)
class Facts:
    """What is known at one look."""

    pointer: ChannelPointer | None
    """Where the channel points now."""
    workers: tuple[WorkerReport, ...] = ()
    """Of this model and channel, each once."""
    preheated: Mapping[str, Preheated | None]
    """Edge → how far it is with the revision; None: it has not said."""
    figures: Mapping[str, Window]
    """Revision → its requests so far."""
    settled: bool = True
    """Whether everybody who is there has had time to say so."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Point:
    """Sign a pointer, if the channel's is still the one with ``sequence`` (0: none)."""

    revision: str
    canary: Canary | None
    sequence: int


Action = Preheat | Point
