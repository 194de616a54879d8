"""A rotation as a file: documents on their way from key to key (``origin.rotate``)."""

from __future__ import annotations

from dataclasses import dataclass

import msgspec
from tuf.api.metadata import Root

from wire.errors import RequestInvalidError
from wire.trust_bundle import REVISIONS, TARGETS

FORMAT = "headwater.rotation/1"
MAX_ROTATION_BYTES = 48 * 1024 * 1024


@dataclass(frozen=True, slots=True, kw_only=True)
class Rotation:
    """Documents on their way to be signed."""

    current: bytes
    """The published bundle that they follow, with every root since the first."""
    root: bytes | None = None
    targets: bytes | None = None
    revisions: bytes | None = None

    @property
    def documents(self) -> dict[str, bytes]:
        """The documents there are, by role."""
        found = {Root.type: self.root, TARGETS: self.targets, REVISIONS: self.revisions}
        return {role: data for role, data in found.items() if data is not None}


class _Wire(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    format: str
    current: str
    root: str | None = None
    targets: str | None = None
    revisions: str | None = None


def encode_rotation(rotation: Rotation) -> bytes:
    """The rotation's bytes, to be carried from key to key. No secret is in them."""
    texts = {role: data.decode() for role, data in rotation.documents.items()}
    wire = _Wire(format=FORMAT, current=rotation.current.decode(), **texts)
    return msgspec.json.format(msgspec.json.encode(wire), indent=1)


def decode_rotation(data: bytes) -> Rotation:
    """Read a rotation, unverified.

    Raises:
        RequestInvalidError: malformed, or too large.
    """
    if len(data) > MAX_ROTATION_BYTES:
        raise RequestInvalidError(f"a rotation of over {MAX_ROTATION_BYTES} B is none")
    try:
        wire = msgspec.json.decode(data, type=_Wire)
    except (ValueError, RecursionError) as error:
        raise RequestInvalidError(f"not a rotation file: {error}") from error
    if wire.format != FORMAT:
        raise RequestInvalidError(f"rotation format {wire.format[:80]!r} is not {FORMAT!r}")
    parts = {role: getattr(wire, role) for role in (Root.type, TARGETS, REVISIONS)}
    return Rotation(
        current=wire.current.encode(),
        **{role: text.encode() if text is not None else None for role, text in parts.items()},
    )
