"""Rotations and renewals: what changes in the documents of the offline keys, who has to sign it,
and whose signatures are still missing.

A :class:`Rotation` is a file that travels: it is prepared where the origin can be reached, signed
wherever a key is, and handed over once enough have signed (TUF 1.0.33 section 6.1: a root counts
when a threshold of the root before it and a threshold of its own have signed). It carries the
published documents it follows, so every signer checks it against a root of their own and not
against the word of whoever prepared it: beyond its keys, thresholds and expiries it can change
nothing. A rotation of publisher or online key signs what follows from it in the same change.

Sans-IO. ``infra.trust_desk`` reads and writes the files, ``origin.trust_routes`` takes the result.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace

from securesystemslib.signer import Key, Signer
from tuf.api.metadata import Metadata, Root, Targets
from tuf.api.metadata import VerificationResult as Signatures

from origin.documents import Lifetimes, expiry, read
from origin.offline import make_root, make_targets
from origin.rotation import Rotation
from wire.errors import ConflictError, ForbiddenError, RequestInvalidError
from wire.trust import DELEGATED_PATHS, TrustView, offline_grace_s, root_version, verify
from wire.trust_bundle import (
    CHANNELS,
    REVISIONS,
    TARGETS,
    TIMESTAMP,
    TrustLimits,
    decode_bundle,
)


@dataclass(frozen=True, slots=True)
class Current:
    """What is published now, verified."""

    root: bytes
    targets: bytes
    revisions: bytes
    view: TrustView

    @property
    def signed_root(self) -> Root:
        """The newest root."""
        return read(self.root, Root).signed

    def key(self, role: str) -> Key:
        """The one key of a role that has one. Raises ``ConflictError`` where it has several."""
        return only_key(self.signed_root, role)


@dataclass(frozen=True, slots=True, kw_only=True)
class Changes:
    """What a rotation changes; what is not given stays, and every expiry starts anew."""

    root_keys: tuple[Key, ...] = ()
    """All root keys of the next root; empty: the same ones."""
    root_threshold: int | None = None
    publisher: Key | None = None
    online: Key | None = None
    grace_s: float | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Missing:
    """A threshold that is not reached."""

    role: str
    by: str
    """Whose threshold: ``old root``, ``new root`` or ``publisher``."""
    needed: int
    """So many more signatures."""
    keys: tuple[str, ...]
    """Ids of the keys that have not signed yet and may."""

    def __str__(self) -> str:
        keys = ", ".join(key[:12] for key in self.keys)
        return f"{self.role}: {self.needed} more of the {self.by} keys ({keys})"


def read_current(bundle: bytes, anchor: bytes, limits: TrustLimits | None = None) -> Current:
    """The published documents, verified from a root that is trusted. Expiry is not judged: what has
    expired must still be renewable.

    Args:
        bundle: with every root after the anchor's.
        anchor: ``root.json``.

    Raises:
        TrustError: the bundle does not verify.
    """
    bounds = limits or TrustLimits()
    decoded = decode_bundle(bundle, bounds).after(root_version(anchor))
    trusted = verify(decoded, anchor=anchor, held=None, now=None, limits=bounds)
    roots, roles = trusted.bundle.roots, trusted.bundle.roles
    root = roots[max(roots)] if roots else anchor
    return Current(root, roles[TARGETS], roles[REVISIONS], trusted.view)


def prepare_rotation(
    bundle: bytes,
    anchor: bytes,
    changes: Changes,
    *,
    now: float,
    lifetimes: Lifetimes | None = None,
) -> Rotation:
    """The next root and what follows from it, unsigned.

    Raises:
        TrustError: the bundle does not verify.
        RequestInvalidError: the threshold cannot be met, or the grace is out of range.
    """
    current = read_current(bundle, anchor)
    before = current.signed_root
    publisher = changes.publisher or current.key(TARGETS)
    online = changes.online or current.key(TIMESTAMP)
    old_role = before.roles[Root.type]
    root_keys = changes.root_keys or tuple(before.keys[keyid] for keyid in old_role.keyids)
    root = make_root(
        root_keys,
        changes.root_threshold or old_role.threshold,
        publisher=publisher,
        online=online,
        now=now,
        lifetimes=lifetimes,
        previous=current.root,
        grace_s=changes.grace_s,
    )
    rotation = Rotation(current=bundle, root=Metadata(root).to_bytes())
    if changes.publisher or changes.online:
        targets = make_targets(
            publisher, online=online, now=now, lifetimes=lifetimes, previous=current.targets
        )
        rotation = replace(rotation, targets=Metadata(targets).to_bytes())
    if changes.publisher:
        rotation = replace(rotation, revisions=_renewed_revisions(current, now, lifetimes))
    return rotation


def prepare_renewal(
    bundle: bytes, anchor: bytes, *, now: float, lifetimes: Lifetimes | None = None
) -> Rotation:
    """Targets and revisions as they are, with a new expiry, unsigned. The root stays, so the
    publisher's key alone signs them.

    Raises:
        TrustError: the bundle does not verify.
    """
    current = read_current(bundle, anchor)
    targets = make_targets(
        current.key(TARGETS),
        online=current.key(TIMESTAMP),
        now=now,
        lifetimes=lifetimes,
        previous=current.targets,
    )
    return Rotation(
        current=bundle,
        targets=Metadata(targets).to_bytes(),
        revisions=_renewed_revisions(current, now, lifetimes),
    )


def add_signatures(rotation: Rotation, anchor: bytes, keys: Iterable[Signer]) -> Rotation:
    """Sign, with each key, the documents that it has a say in.

    Args:
        anchor: the signer's own ``root.json``.

    Raises:
        ForbiddenError: a key has no say in any of the documents, or they change what a rotation
            may not.
        ConflictError: the documents do not follow the published ones.
        TrustError: the published documents in the file do not verify.
    """
    check_follows(rotation, anchor)
    documents = rotation.documents
    for key in keys:
        wanted = [role for role, ids in _signers(rotation, anchor).items() if _id(key) in ids]
        if not wanted:
            raise ForbiddenError(
                f"key {_id(key)[:12]} has no say in this rotation; its keys are "
                + ", ".join(sorted({i[:12] for i in _all_signers(rotation, anchor)}))
            )
        for role in wanted:
            documents[role] = _signed_too(documents[role], key)
    return Rotation(
        current=rotation.current,
        root=documents.get(Root.type),
        targets=documents.get(TARGETS),
        revisions=documents.get(REVISIONS),
    )


def missing_signatures(rotation: Rotation, anchor: bytes) -> list[Missing]:
    """The thresholds that are not reached yet; empty where the rotation can be handed over.

    A key that signs twice counts once. Raises as :func:`check_follows`.
    """
    check_follows(rotation, anchor)
    return [
        Missing(role=role, by=by, needed=found.missing, keys=tuple(sorted(found.unsigned)))
        for role, by, found in _thresholds(rotation, anchor)
        if not found.verified
    ]


def check_follows(rotation: Rotation, anchor: bytes) -> None:
    """That the documents are the next ones and change nothing but keys, thresholds and expiries.

    Raises:
        ForbiddenError: they change something else, such as the list of revisions.
        ConflictError: they are not the versions that come next.
        TrustError: the published documents in the file do not verify.
        RequestInvalidError: a document is malformed, or there is none.
    """
    current = read_current(rotation.current, anchor)
    if not rotation.documents:
        raise RequestInvalidError("the rotation holds no document")
    root = _root_after(rotation, current)
    for role, data in rotation.documents.items():
        found = root.version if role == Root.type else read(data, Targets).signed.version
        if found != current.view.versions[role] + 1:
            raise ConflictError(
                f"{role} comes as version {found}, but {current.view.versions[role]} is published; "
                "prepare the rotation anew"
            )
    if rotation.root is not None and not root.consistent_snapshot:
        raise ForbiddenError("the root gives up consistent snapshots")
    if rotation.targets is not None:
        _check_targets(read(rotation.targets, Targets).signed, root)
    if rotation.revisions is not None:
        before, after = (read(d, Targets).signed for d in (current.revisions, rotation.revisions))
        if before.targets != after.targets or after.delegations is not None:
            raise ForbiddenError("the rotation changes the list of revisions; publish does that")


def describe_rotation(rotation: Rotation, anchor: bytes) -> dict[str, object]:
    """What a signer should look at: the next root's keys against those in force.

    Raises as :func:`check_follows`.
    """
    check_follows(rotation, anchor)
    current = read_current(rotation.current, anchor)
    before, after = current.signed_root, _root_after(rotation, current)
    changed: dict[str, object] = {}
    for role in (Root.type, TARGETS, TIMESTAMP):
        old, new = (root.roles[role] for root in (before, after))
        changed[role] = {
            "kept": sorted(set(old.keyids) & set(new.keyids)),
            "added": sorted(set(new.keyids) - set(old.keyids)),
            "removed": sorted(set(old.keyids) - set(new.keyids)),
            "threshold": new.threshold,
        }
    return {
        "root_version": after.version,
        "root_expires": after.expires.timestamp(),
        "grace_s": offline_grace_s(after),
        "documents": sorted(rotation.documents),
        "keys": changed,
        "missing": [str(missing) for missing in missing_signatures(rotation, anchor)],
    }


def only_key(root: Root, role: str) -> Key:
    """The one key of a role.

    Raises:
        ConflictError: it has several, or it is not in the root.
    """
    keyids = root.roles[role].keyids
    if len(keyids) != 1:
        raise ConflictError(f"the {role} role has {len(keyids)} keys; only root may have several")
    if keyids[0] not in root.keys:
        raise ConflictError(f"the root does not hold the key of its {role} role")
    return root.keys[keyids[0]]


def _renewed_revisions(current: Current, now: float, lifetimes: Lifetimes | None) -> bytes:
    before = read(current.revisions, Targets).signed
    after = Targets(
        version=before.version + 1,
        expires=expiry(now, (lifetimes or Lifetimes()).revisions_s),
        targets=before.targets,
    )
    return Metadata(after).to_bytes()


def _root_after(rotation: Rotation, current: Current) -> Root:
    return read(rotation.root, Root).signed if rotation.root is not None else current.signed_root


def _check_targets(targets: Targets, root: Root) -> None:
    """The only delegations there may be, to the keys that the root names."""
    owners = {REVISIONS: only_key(root, TARGETS), CHANNELS: only_key(root, TIMESTAMP)}
    delegations = targets.delegations
    roles = (delegations.roles if delegations else None) or {}
    if delegations is None or roles.keys() != owners.keys() or targets.targets:
        raise ForbiddenError(f"targets must delegate exactly {sorted(owners)} and name no files")
    for name, owner in owners.items():
        keyids, key = roles[name].keyids, delegations.keys.get(owner.keyid)
        if roles[name].paths != DELEGATED_PATHS[name] or keyids != [owner.keyid] or key != owner:
            raise ForbiddenError(f"targets delegate {name} to other keys than the root names")


def _thresholds(rotation: Rotation, anchor: bytes) -> Sequence[tuple[str, str, Signatures]]:
    """For every document: which threshold it needs, and how far it is."""
    current = read_current(rotation.current, anchor)
    after = _root_after(rotation, current)
    found: list[tuple[str, str, Signatures]] = []
    if rotation.root is not None:
        root = read(rotation.root, Root)
        for by, judge in (("old root", current.signed_root), ("new root", after)):
            result = judge.get_verification_result(Root.type, root.signed_bytes, root.signatures)
            found.append((Root.type, by, result))
    targets = read(rotation.targets or current.targets, Targets)
    if rotation.targets is not None:
        result = after.get_verification_result(TARGETS, targets.signed_bytes, targets.signatures)
        found.append((TARGETS, "publisher", result))
    if rotation.revisions is not None:
        listed = read(rotation.revisions, Targets)
        result = targets.signed.get_verification_result(
            REVISIONS, listed.signed_bytes, listed.signatures
        )
        found.append((REVISIONS, "publisher", result))
    return found


def _signers(rotation: Rotation, anchor: bytes) -> dict[str, set[str]]:
    """Role → ids of the keys that may sign its document."""
    signers: dict[str, set[str]] = {}
    for role, _, found in _thresholds(rotation, anchor):
        signers.setdefault(role, set()).update(found.signed, found.unsigned)
    return signers


def _all_signers(rotation: Rotation, anchor: bytes) -> set[str]:
    return set().union(*_signers(rotation, anchor).values())


def _signed_too(document: bytes, key: Signer) -> bytes:
    metadata = Metadata.from_bytes(document)
    metadata.sign(key, append=True)
    return metadata.to_bytes()


def _id(key: Signer) -> str:
    return key.public_key.keyid
