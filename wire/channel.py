"""A channel: the small mutable pointer from ``MODEL@CHANNEL`` to a revision.

A pointer has exactly one byte form (sorted keys, no white space). Those bytes are a target of The
Update Framework, ``channels/MODEL/CHANNEL.json``, and stand in the target's ``custom`` field as
well, so whoever holds verified metadata (``wire.trust``) knows every channel without asking again.
On its own a pointer proves nothing.

This file also names the targets, because a revision's target is what a pointer is checked against.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from typing import Any, Literal

import msgspec

from wire.chunk import is_digest
from wire.errors import NameInvalidError, TrustError
from wire.paths import channel_name, model_name, revision_id

FORMAT = "headwater.channel/1"
MAX_POINTER_BYTES = 4096
MAX_SEED = 2**31 - 1
MAX_PREVIOUS = 4

_SUFFIX = ".json"


class Canary(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """A second revision that a share of the workers tries first, and perhaps of the callers."""

    revision: str
    percent: int
    """Share of the workers (and callers), 1 to 99."""
    by: Literal["workers", "callers"] = "workers"
    """``callers``: requests of the same share of callers, and no others, go to those workers."""
    seed: int = 0
    """Chosen by the origin so that a small fleet too has a worker in the share, and one outside."""

    def takes(self, subject: str) -> bool:
        """Whether a worker or a caller, by its stable name, belongs to the share: the same answer
        everywhere and every time, for as long as the canary lasts."""
        digest = hashlib.blake2b(f"{self.seed}:{subject}".encode(), digest_size=8).digest()
        return int.from_bytes(digest, "big") % 10_000 < self.percent * 100


class ChannelPointer(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """Where a channel points."""

    format: str
    model: str
    channel: str
    revision: str
    sequence: int
    """Counts the rolls of this channel, from 1; tells two pointers apart in events and logs."""
    canary: Canary | None = None
    previous: tuple[str, ...] = ()
    """Of a static site: where the channel pointed before, the newest first. A page that somebody
    opened before a roll asks for these revisions' files after it (docs/adr/0035). They are no part
    of what the channel offers, and may have been taken down or pruned since."""

    @property
    def revisions(self) -> tuple[str, ...]:
        """Every revision this pointer can send a worker to."""
        return (self.revision, self.canary.revision) if self.canary else (self.revision,)

    def revision_for(self, worker: str) -> str:
        """The revision that this worker shall serve."""
        canary = self.canary
        return canary.revision if canary is not None and canary.takes(worker) else self.revision


_encoder = msgspec.json.Encoder(order="sorted")
_decoder = msgspec.json.Decoder(ChannelPointer)


def pointer_to(
    model: str,
    channel: str,
    revision: str,
    *,
    sequence: int,
    canary: Canary | None = None,
    previous: tuple[str, ...] = (),
) -> ChannelPointer:
    """A checked pointer.

    Raises:
        NameInvalidError: a name that cannot be one, or a number out of range.
    """
    pointer = ChannelPointer(
        format=FORMAT,
        model=model,
        channel=channel,
        revision=revision,
        sequence=sequence,
        canary=canary,
        previous=previous,
    )
    _check(pointer)
    return pointer


def encode_pointer(pointer: ChannelPointer) -> bytes:
    """The pointer's only byte form."""
    return _encoder.encode(pointer)


def decode_pointer(data: bytes) -> ChannelPointer:
    """Read pointer bytes. What they say counts only where ``wire.trust`` says the same.

    Raises:
        TrustError: too large, not canonical, or out of range.
    """
    if len(data) > MAX_POINTER_BYTES:
        raise TrustError(f"channel pointer of {len(data)} B is over {MAX_POINTER_BYTES} B")
    try:
        pointer = _decoder.decode(data)
        _check(pointer)
    except (ValueError, RecursionError, NameInvalidError) as error:
        raise TrustError(f"channel pointer is malformed: {error}") from error
    if encode_pointer(pointer) != data:
        raise TrustError("channel pointer is not in canonical form")
    return pointer


def custom_field(pointer: ChannelPointer) -> dict[str, Any]:
    """The pointer as it stands in its target's ``custom`` field."""
    fields: dict[str, Any] = msgspec.json.decode(encode_pointer(pointer))
    return fields


def from_custom_field(fields: object) -> ChannelPointer:
    """Read a target's ``custom`` field.

    Raises:
        TrustError: not a pointer.
    """
    try:
        pointer = msgspec.convert(fields, ChannelPointer)
        _check(pointer)
    except (ValueError, RecursionError, NameInvalidError) as error:
        raise TrustError(f"custom field is not a channel pointer: {error}") from error
    return pointer


def channel_target(model: str, channel: str) -> str:
    """The path of a channel's target."""
    return f"channels/{model}/{channel}{_SUFFIX}"


def revision_target(model: str, revision: str) -> str:
    """The path of a revision's target, whose bytes are the manifest."""
    return f"revisions/{model}/{revision}{_SUFFIX}"


def revision_of_target(path: str, hashes: Mapping[str, str]) -> tuple[str, str] | None:
    """The model and the revision that a target of the ``revisions`` role signs.

    None where the path is not a revision's, or where its hash is not the revision it claims: a
    role has no say outside its own paths.
    """
    parts = path.split("/")
    if len(parts) != 3 or parts[0] != "revisions" or not parts[2].endswith(_SUFFIX):
        return None
    revision = parts[2].removesuffix(_SUFFIX)
    if not is_digest(revision) or hashes.get("sha256") != revision:
        return None
    return parts[1], revision


def _check(pointer: ChannelPointer) -> None:
    if pointer.format != FORMAT:
        raise NameInvalidError(f"channel format {pointer.format[:80]!r} is not {FORMAT!r}")
    model_name(pointer.model)
    channel_name(pointer.channel)
    for revision in (*pointer.revisions, *pointer.previous):
        revision_id(revision)
    if len(pointer.previous) > MAX_PREVIOUS:
        raise NameInvalidError(
            f"a channel names {MAX_PREVIOUS} earlier revisions at most, not {len(pointer.previous)}"
        )
    if pointer.sequence < 1:
        raise NameInvalidError(f"sequence {pointer.sequence} of a channel starts at 1")
    if pointer.canary and not 0 < pointer.canary.percent < 100:
        raise NameInvalidError(f"a canary takes 1 to 99 percent, not {pointer.canary.percent}")
    if pointer.canary and not 0 <= pointer.canary.seed <= MAX_SEED:
        raise NameInvalidError(f"a canary's seed is 0 to {MAX_SEED}, not {pointer.canary.seed}")
