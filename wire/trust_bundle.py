"""The trust bundle: all current role files of The Update Framework in one answer.

A client of the specification asks once per file (TUF 1.0.33 section 5); a bundle holds what those
requests would have answered, so a cold client pays one round trip. The files stand in it as strings
and come out byte for byte, because signatures and hashes are over bytes. A bundle proves nothing:
``wire.trust`` verifies what is in it. All sizes are bounded before anything is believed.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

import msgspec

from wire.errors import NotFoundError, TrustError

FORMAT = "headwater.trust-bundle/1"
TIMESTAMP, SNAPSHOT, TARGETS = "timestamp", "snapshot", "targets"
REVISIONS, CHANNELS = "revisions", "channels"
ROLES = (TIMESTAMP, SNAPSHOT, TARGETS, REVISIONS, CHANNELS)
"""Every role but root, in the order in which a client verifies them."""


@dataclass(frozen=True, slots=True, kw_only=True)
class TrustLimits:
    """How much metadata a client takes before it has verified any of it."""

    bundle_bytes: int = 16 * 1024 * 1024
    roots: int = 256
    """Root rotations in one bundle."""
    root_bytes: int = 64 * 1024
    timestamp_bytes: int = 16 * 1024
    snapshot_bytes: int = 64 * 1024
    targets_bytes: int = 256 * 1024
    revisions_bytes: int = 8 * 1024 * 1024
    """About 30,000 revisions."""
    channels_bytes: int = 4 * 1024 * 1024
    """About 8,000 channels."""

    def of(self, role: str) -> int:
        """The limit of a role's file, in bytes."""
        limits = {
            TIMESTAMP: self.timestamp_bytes,
            SNAPSHOT: self.snapshot_bytes,
            TARGETS: self.targets_bytes,
            REVISIONS: self.revisions_bytes,
            CHANNELS: self.channels_bytes,
        }
        return limits[role]


@dataclass(frozen=True, slots=True)
class TrustBundle:
    """Role files as they were signed: ``roles`` has one for each of ``ROLES``."""

    roles: Mapping[str, bytes]
    roots: Mapping[int, bytes] = field(default_factory=dict)
    """By version, ascending."""

    def after(self, root_version: int) -> TrustBundle:
        """The same, with only the roots newer than ``root_version``."""
        return TrustBundle(
            self.roles, {v: data for v, data in self.roots.items() if v > root_version}
        )


class _Wire(msgspec.Struct, frozen=True, kw_only=True):
    format: str
    roots: dict[int, str]
    timestamp: str
    snapshot: str
    targets: str
    revisions: str
    channels: str


_decoder = msgspec.json.Decoder(_Wire)


def encode_bundle(bundle: TrustBundle) -> bytes:
    """The bundle's bytes."""
    roles = {role: bundle.roles[role].decode() for role in ROLES}
    roots = {version: bundle.roots[version].decode() for version in sorted(bundle.roots)}
    return msgspec.json.encode(_Wire(format=FORMAT, roots=roots, **roles))


def decode_bundle(data: bytes, limits: TrustLimits) -> TrustBundle:
    """Read bundle bytes, unverified.

    Raises:
        TrustError: malformed, or over a limit.
    """
    if len(data) > limits.bundle_bytes:
        raise TrustError(f"trust bundle of {len(data)} B is over {limits.bundle_bytes} B")
    try:
        wire = _decoder.decode(data)
    except (ValueError, RecursionError) as error:
        raise TrustError(f"trust bundle is malformed: {error}") from error
    if wire.format != FORMAT:
        raise TrustError(f"trust bundle format {wire.format[:80]!r} is not {FORMAT!r}")
    if len(wire.roots) > limits.roots:
        raise TrustError(f"trust bundle holds {len(wire.roots)} roots; at most {limits.roots}")
    roots = {
        version: _bounded(f"root {version}", wire.roots[version], limits.root_bytes)
        for version in sorted(wire.roots)
    }
    texts = (wire.timestamp, wire.snapshot, wire.targets, wire.revisions, wire.channels)
    roles = {
        role: _bounded(role, text, limits.of(role)) for role, text in zip(ROLES, texts, strict=True)
    }
    return TrustBundle(roles, roots)


def _bounded(what: str, text: str, limit: int) -> bytes:
    data = text.encode()
    if len(data) > limit:
        raise TrustError(f"trust bundle: {what[:40]} of {len(data)} B is over {limit} B")
    return data


class _Signed(msgspec.Struct, frozen=True):
    version: int


class _Document(msgspec.Struct, frozen=True):
    signed: _Signed


def role_document(bundle: TrustBundle, name: str) -> bytes:
    """A role file by the name that stock clients of the specification ask for: ``timestamp.json``,
    else ``VERSION.ROLE.json`` (consistent snapshots, TUF 1.0.33 section 6.2).

    Raises:
        NotFoundError: the bundle holds no such file, or another version of it.
    """
    if name == f"{TIMESTAMP}.json":
        return bundle.roles[TIMESTAMP]
    version, _, rest = name.partition(".")
    role = rest.removesuffix(".json")
    if rest.endswith(".json") and version.isascii() and version.isdigit() and len(version) < 10:
        found = bundle.roots.get(int(version)) if role == "root" else bundle.roles.get(role)
        if found is not None and _version_of(found) == int(version):
            return found
    raise NotFoundError("no such trust document")


def _version_of(document: bytes) -> int:
    try:
        return msgspec.json.decode(document, type=_Document).signed.version
    except msgspec.DecodeError as error:
        raise TrustError("a trust document is malformed") from error
