"""A channel's record: the rollout that runs, those that ended, and every pointer, with its reason.

One object in the store holds all of it, so that one conditional write keeps it whole. Of several
origins on one store the one whose name stands in it drives the rollout; ``beat`` counts its signs
of life.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Literal

import msgspec

from origin.errors import StoreError
from origin.rollout_config import RolloutConfig
from origin.rollout_figures import Window
from origin.rollout_state import Rollout
from wire.channel import ChannelPointer

Kind = Literal["roll", "rollback", "abort", "found"]
"""``found``: moved by no rollout; by a publish, for example."""
_BACK = frozenset({"rollback", "abort"})


class Moved(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """A pointer of the channel, and how it came about."""

    sequence: int
    revision: str
    canary: str = ""
    """The revision that a share tried; empty: none."""
    percent: int = 0
    at: float
    """Seconds since 1970."""
    kind: Kind = "found"
    who: str = ""
    why: str = ""


class ChannelRecord(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """All that is kept of a channel."""

    model: str
    channel: str
    current: Rollout | None = None
    past: tuple[Rollout, ...] = ()
    """The newest first."""
    moves: tuple[Moved, ...] = ()
    """The oldest first."""
    driver: str = ""
    beat: int = 0

    @property
    def latest(self) -> Rollout | None:
        """The rollout that runs, else the one that ended last."""
        return self.current or (self.past[0] if self.past else None)

    def with_rollout(self, rollout: Rollout, config: RolloutConfig) -> ChannelRecord:
        """The record after a step of its rollout; one that is over goes to the others."""
        if not rollout.over:
            return _with(self, current=rollout)
        past = (_archived(rollout), *self.past)[: config.keep_rollouts]
        return _with(self, current=None, past=past)

    def with_pointer(
        self,
        pointer: ChannelPointer,
        config: RolloutConfig,
        *,
        at: float,
        kind: Kind = "found",
        who: str = "",
        why: str = "",
    ) -> ChannelRecord:
        """The record with a pointer in it; the same where that is known, with its reason."""
        if kind == "found" and self.moves and self.moves[-1].sequence == pointer.sequence:
            return self
        move = Moved(
            sequence=pointer.sequence,
            revision=pointer.revision,
            canary=pointer.canary.revision if pointer.canary else "",
            percent=pointer.canary.percent if pointer.canary else 0,
            at=at,
            kind=kind,
            who=who,
            why=why,
        )
        known = {one.sequence: one for one in self.moves}
        before = known.get(move.sequence)
        if before is not None and (before.kind != "found" or kind == "found"):
            return self
        known[move.sequence] = move
        moves = sorted(known.values(), key=lambda one: one.sequence)
        return _with(self, moves=tuple(moves[-config.keep_moves :]))

    def before(self) -> str:
        """The revision to go back to from where the channel points; empty: none is known.

        Going back is no step forward: what was rolled back from, or aborted, is not a place to go
        back to, and a second rollback goes back further.
        """
        line = _line(self.moves)
        return line[-2] if len(line) > 1 else ""


def _line(moves: Iterable[Moved]) -> list[str]:
    line: list[str] = []
    for move in moves:
        if move.kind in _BACK and move.revision in line:
            del line[len(line) - line[::-1].index(move.revision) :]
        elif not line or line[-1] != move.revision:
            line.append(move.revision)
    return line


def _archived(rollout: Rollout) -> Rollout:
    """Without what only its steps needed."""
    return msgspec.structs.replace(
        rollout,
        served=frozenset(),
        faults={},
        excused=frozenset(),
        trial_before=Window(),
        stable_before=Window(),
    )


def _with(record: ChannelRecord, **changes: object) -> ChannelRecord:
    return msgspec.structs.replace(record, **changes)


encode_record = msgspec.json.Encoder(order="sorted").encode
_decode = msgspec.json.Decoder(ChannelRecord).decode


def decode_record(data: bytes, model: str, channel: str) -> ChannelRecord:
    """Read a record.

    Raises:
        StoreError: it is damaged; says which.
    """
    try:
        record = _decode(data)
    except (msgspec.DecodeError, RecursionError) as error:
        raise StoreError(f"the record of {model}@{channel} is damaged: {error}") from error
    if (record.model, record.channel) != (model, channel):
        raise StoreError(f"the record of {model}@{channel} is another channel's")
    return record
