"""What can happen in a boot or a roll, and what can be asked for: the values that pass between
its rules (``gpu_worker.roll_rules``) and who carries them out (``gpu_worker.roll``)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TypeAlias

from wire.channel import ChannelPointer
from wire.workers import Fault

# What happened


@dataclass(frozen=True, slots=True, kw_only=True)
class Looked:
    """What the trust metadata says now."""

    pointer: ChannelPointer
    signed: frozenset[str]
    """The revisions of this model that the publisher signed."""
    stale: str = ""
    """Why nothing may be started; empty where it may."""
    doubt: str = ""
    """What is to be told although nothing is wrong with the revision."""


@dataclass(frozen=True, slots=True)
class LookFailed:
    """There is no metadata, or no such channel in it."""

    why: str


@dataclass(frozen=True, slots=True)
class Restart:
    """An operator wants the engine new; with ``fresh``, its files too."""

    news: Looked
    fresh: bool = False


@dataclass(frozen=True, slots=True)
class Pulled:
    """The files stand on disk, checked; ``room`` for two models at once."""

    room: bool


@dataclass(frozen=True, slots=True)
class RoomMade:
    """The old one has drained and stopped."""


@dataclass(frozen=True, slots=True)
class Proven:
    """An engine has loaded the revision and answered its probe."""


@dataclass(frozen=True, slots=True)
class Flipped:
    """It serves."""


@dataclass(frozen=True, slots=True)
class Tidied:
    """What need not be kept is gone."""


@dataclass(frozen=True, slots=True)
class OnDisk:
    """Whole revisions, the newest first."""

    revisions: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class GivenUp:
    """The worker says that it has failed."""


@dataclass(frozen=True, slots=True)
class MovedOn:
    """The pointer no longer names what is being brought; the engine, if any, is closed."""


@dataclass(frozen=True, slots=True)
class Failed:
    """A step failed; ``refuses``: because of the revision, so trying again soon is no use."""

    why: str
    refuses: bool = False
    fault: Fault = ""


Event: TypeAlias = (
    Looked
    | LookFailed
    | Restart
    | Pulled
    | RoomMade
    | Proven
    | Flipped
    | Tidied
    | OnDisk
    | GivenUp
    | MovedOn
    | Failed
)


# What to do


@dataclass(frozen=True, slots=True)
class Pull:
    """Bring the files; ``fresh``: forget those on disk first."""

    revision: str
    fresh: bool = False


@dataclass(frozen=True, slots=True)
class MakeRoom:
    """Take nothing new, drain the engine that serves to a deadline, stop it."""


@dataclass(frozen=True, slots=True)
class Load:
    """Start an engine on the files, and probe it."""

    revision: str


@dataclass(frozen=True, slots=True)
class Flip:
    """Put that engine in service; the old one drains and stops in the background."""

    revision: str


@dataclass(frozen=True, slots=True)
class Tidy:
    """Remove older revisions, but keep ``previous`` first, and ``also`` whatever the count."""

    serving: str
    previous: str
    also: frozenset[str]


@dataclass(frozen=True, slots=True)
class ListDisk:
    """Say what is on disk."""


@dataclass(frozen=True, slots=True)
class GiveUp:
    """Say that the worker has failed."""

    why: str


@dataclass(frozen=True, slots=True)
class Rest:
    """Nothing until the next look; ``again``: which is now."""

    again: bool = False


Action: TypeAlias = Pull | MakeRoom | Load | Flip | Tidy | ListDisk | GiveUp | Rest
