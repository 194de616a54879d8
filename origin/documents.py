"""Role files of The Update Framework, built and read one at a time (TUF 1.0.33 section 4).

No rules about who may sign what, and no order: those are ``origin.offline`` and ``origin.signing``.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TypeVar

from securesystemslib.signer import Signer
from tuf.api.exceptions import RepositoryError
from tuf.api.metadata import (
    Metadata,
    MetaFile,
    Root,
    Snapshot,
    TargetFile,
    Targets,
    Timestamp,
)

from wire.channel import ChannelPointer, channel_target, custom_field, encode_pointer
from wire.errors import ConfigError, RequestInvalidError
from wire.trust_bundle import CHANNELS, REVISIONS, SNAPSHOT, TARGETS, TIMESTAMP, TrustBundle

S = TypeVar("S", Root, Timestamp, Snapshot, Targets)

DAY_S = 86_400.0
LISTED = (TARGETS, REVISIONS, CHANNELS)
"""The roles that a snapshot lists."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Lifetimes:
    """How long a signed file counts. The online roles are renewed at half of it."""

    root_s: float = 365 * DAY_S
    targets_s: float = 365 * DAY_S
    revisions_s: float = 365 * DAY_S
    channels_s: float = 7 * DAY_S
    snapshot_s: float = 7 * DAY_S
    timestamp_s: float = DAY_S
    """How long a withheld roll (a freeze) can go unnoticed."""


def expiry(now: float, lifetime_s: float) -> datetime:
    """``lifetime_s`` after ``now`` (seconds since 1970), in whole seconds."""
    return datetime.fromtimestamp(int(now + lifetime_s), UTC)


def sign(signed: S, *signers: Signer) -> bytes:
    """A role file, signed by each of the signers."""
    metadata = Metadata(signed)
    for signer in signers:
        metadata.sign(signer, append=True)
    return metadata.to_bytes()


def read(data: bytes, kind: type[S]) -> Metadata[S]:
    """A role file of this type, unverified. Revisions and channels are of the type ``Targets``.

    Raises:
        RequestInvalidError: it is something else.
    """
    try:
        metadata = Metadata[S].from_bytes(data)
    except RepositoryError as error:
        raise RequestInvalidError(f"not a signed role file: {error}") from error
    if metadata.signed.type != kind.type:
        raise RequestInvalidError(f"a {metadata.signed.type} file where {kind.type} is expected")
    return metadata


def file_name(role: str, version: int) -> str:
    """The name of a role file where snapshots are consistent (TUF 1.0.33 section 6.2)."""
    return f"{role}.json" if role == TIMESTAMP else f"{version}.{role}.json"


def stored_bundle(documents: Mapping[str, bytes]) -> TrustBundle:
    """The current files out of stored ones, unverified: the timestamp names the snapshot, and that
    names the others. Only the names that are needed are looked up.

    Raises:
        ConfigError: a file is missing or damaged.
    """
    roots, version = {}, 2
    while (root := documents.get(file_name(Root.type, version))) is not None:
        roots[version] = root
        version += 1
    roles = {TIMESTAMP: stored(documents, f"{TIMESTAMP}.json")}
    try:
        snapshot_meta = read(roles[TIMESTAMP], Timestamp).signed.snapshot_meta
        roles[SNAPSHOT] = stored(documents, file_name(SNAPSHOT, snapshot_meta.version))
        meta = read(roles[SNAPSHOT], Snapshot).signed.meta
        for role in LISTED:
            roles[role] = stored(documents, file_name(role, meta[f"{role}.json"].version))
    except (RequestInvalidError, KeyError) as error:
        raise ConfigError(
            f"the stored trust documents are damaged ({error}); restore them"
        ) from error
    return TrustBundle(roles, roots)


def stored(documents: Mapping[str, bytes], name: str) -> bytes:
    """A stored file.

    Raises:
        ConfigError: it is missing.
    """
    data = documents.get(name)
    if data is None:
        raise ConfigError(f"trust document {name} is not in the store; restore it, or run init")
    return data


def sign_snapshot(
    roles: Mapping[str, bytes], version: int, key: Signer, expires: datetime
) -> bytes:
    """The snapshot of these files. Length and hash stand in it, so that a client need not parse
    what is not the right file."""
    meta = {
        f"{role}.json": MetaFile.from_data(
            read(roles[role], Targets).signed.version, roles[role], ["sha256"]
        )
        for role in LISTED
    }
    return sign(Snapshot(version=version, expires=expires, meta=meta), key)


def sign_timestamp(
    snapshot: bytes, snapshot_version: int, version: int, key: Signer, expires: datetime
) -> bytes:
    """The timestamp that makes this snapshot the newest."""
    meta = MetaFile.from_data(snapshot_version, snapshot, ["sha256"])
    return sign(Timestamp(version=version, expires=expires, snapshot_meta=meta), key)


def sign_channels(
    targets: Mapping[str, TargetFile], version: int, key: Signer, expires: datetime
) -> bytes:
    """The list of channels."""
    return sign(Targets(version=version, expires=expires, targets=dict(targets)), key)


def pointer_target(pointer: ChannelPointer) -> TargetFile:
    """The target of a channel: its bytes' hash, and the pointer itself beside it."""
    path = channel_target(pointer.model, pointer.channel)
    target = TargetFile.from_data(path, encode_pointer(pointer), ["sha256"])
    target.unrecognized_fields["custom"] = custom_field(pointer)
    return target
