"""What the offline keys sign: the root, the targets and the list of revisions.

Pure functions of documents and keys, run where the keys are (the publisher's machine, the root
ceremony); the origin takes the results through ``origin.signing.Repository.accept`` and holds none
of these keys. Roles and delegations as in TUF 1.0.33 section 4.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from securesystemslib.exceptions import UnverifiedSignatureError
from securesystemslib.signer import Key, Signer
from tuf.api.metadata import (
    DelegatedRole,
    Delegations,
    Role,
    Root,
    Snapshot,
    TargetFile,
    Targets,
    Timestamp,
)

from origin.documents import DAY_S, Lifetimes, expiry, read, sign
from wire.channel import revision_target
from wire.errors import ConflictError, ForbiddenError, NotFoundError, RequestInvalidError
from wire.manifest import Kind
from wire.paths import model_name, revision_id
from wire.static_file import MODEL
from wire.trust import (
    DEFAULT_GRACE_S,
    DELEGATED_PATHS,
    GRACE_FIELD,
    KIND_FIELD,
    MAX_GRACE_S,
    PRIVATE_FIELD,
    offline_grace_s,
)
from wire.trust_bundle import CHANNELS, REVISIONS


def make_root(
    root_keys: Sequence[Key],
    threshold: int = 1,
    *,
    publisher: Key,
    online: Key,
    now: float,
    lifetimes: Lifetimes | None = None,
    previous: bytes | None = None,
    grace_s: float | None = None,
) -> Root:
    """The root, not yet signed: which keys sign which role, and how many of the root's own.

    Args:
        threshold: how many of ``root_keys`` must sign this root and the one after it.
        previous: the root that this one follows; None for the first.
        grace_s: the offline grace; None leaves it as in ``previous``.

    Raises:
        RequestInvalidError: ``previous`` is no root, or the threshold cannot be met.
    """
    before = read(previous, Root).signed if previous is not None else None
    if grace_s is None:
        grace_s = offline_grace_s(before) if before else DEFAULT_GRACE_S
    if not 0 <= grace_s <= MAX_GRACE_S:
        raise RequestInvalidError(f"the offline grace is from 0 to {MAX_GRACE_S / DAY_S:.0f} days")
    ids = [key.keyid for key in root_keys]
    if len(set(ids)) != len(ids) or not 1 <= threshold <= len(ids):
        raise RequestInvalidError(
            f"a root threshold of {threshold} cannot be met by {len(set(ids))} different keys"
        )
    return Root(
        version=before.version + 1 if before else 1,
        expires=expiry(now, (lifetimes or Lifetimes()).root_s),
        keys={key.keyid: key for key in (*root_keys, publisher, online)},
        roles={
            Root.type: Role(ids, threshold),
            Targets.type: Role([publisher.keyid], 1),
            Snapshot.type: Role([online.keyid], 1),
            Timestamp.type: Role([online.keyid], 1),
        },
        consistent_snapshot=True,
        # Canonical JSON has no fractions.
        unrecognized_fields={GRACE_FIELD: int(grace_s)},
    )


def sign_root(
    root_key: Signer,
    *,
    publisher: Key,
    online: Key,
    now: float,
    lifetimes: Lifetimes | None = None,
    previous: bytes | None = None,
    previous_key: Signer | None = None,
) -> bytes:
    """A root of one key, signed.

    Args:
        previous_key: the root key of ``previous`` where it is another: a rotation needs both.

    Raises:
        RequestInvalidError: ``previous`` is no root.
    """
    root = make_root(
        [root_key.public_key],
        publisher=publisher,
        online=online,
        now=now,
        lifetimes=lifetimes,
        previous=previous,
    )
    return sign(root, root_key, *([previous_key] if previous_key else []))


def make_targets(
    publisher: Key,
    *,
    online: Key,
    now: float,
    lifetimes: Lifetimes | None = None,
    previous: bytes | None = None,
) -> Targets:
    """The targets, not yet signed: no files of their own, only the two delegations that divide the
    power.

    Args:
        previous: the file that this one follows; None for the first.

    Raises:
        RequestInvalidError: ``previous`` is no targets file.
    """
    version = read(previous, Targets).signed.version + 1 if previous is not None else 1
    owners = {REVISIONS: publisher, CHANNELS: online}
    return Targets(
        version=version,
        expires=expiry(now, (lifetimes or Lifetimes()).targets_s),
        delegations=Delegations(
            keys={key.keyid: key for key in owners.values()},
            roles={
                name: DelegatedRole(name, [owners[name].keyid], 1, True, paths=list(paths))
                for name, paths in DELEGATED_PATHS.items()
            },
        ),
    )


def sign_targets(
    publisher_key: Signer,
    *,
    online: Key,
    now: float,
    lifetimes: Lifetimes | None = None,
    previous: bytes | None = None,
) -> bytes:
    """The same, signed. Raises as :func:`make_targets`."""
    targets = make_targets(
        publisher_key.public_key, online=online, now=now, lifetimes=lifetimes, previous=previous
    )
    return sign(targets, publisher_key)


def sign_revisions(
    current: bytes | None,
    publisher_key: Signer,
    add: Iterable[tuple[str, str, int]] = (),
    *,
    private: bool = False,
    kind: Kind = MODEL,
    remove: Iterable[tuple[str, str]] = (),
    now: float,
    lifetimes: Lifetimes | None = None,
    previous: Key | None = None,
) -> bytes:
    """The list of revisions that the publisher stands for; also what renews its expiry.

    Args:
        current: the list so far; None for the first. Best the publisher's own copy: an origin
            could give an older one, with revisions that have been removed since.
        add: (model, revision, bytes of the manifest).
        private: those added need a pull token.
        kind: what those added are.
        remove: (model, revision).
        previous: the key that signed ``current`` where the publisher's key has been rotated.

    Raises:
        ForbiddenError: ``current`` is not the publisher's own: signing on top of it would put the
            publisher's name to what somebody else wrote.
        NotFoundError: a revision to remove is not in the list.
        NameInvalidError, RequestInvalidError: a name, size or file that cannot be one.
    """
    version, targets = 1, dict[str, TargetFile]()
    if current is not None:
        version, targets = _own_revisions(current, previous or publisher_key.public_key)
    for model, revision in remove:
        if targets.pop(revision_target(model, revision), None) is None:
            raise NotFoundError(f"revision {revision} of {model} is not in the signed list")
    for model, revision, size in add:
        target = _revision(model, revision, size, private=private, kind=kind)
        if targets.setdefault(target.path, target).length != size:
            raise ConflictError(f"revision {revision} of {model} is signed with another size")
    expires = expiry(now, (lifetimes or Lifetimes()).revisions_s)
    return sign(Targets(version=version, expires=expires, targets=targets), publisher_key)


def _own_revisions(current: bytes, key: Key) -> tuple[int, dict[str, TargetFile]]:
    """The next version, and the files so far."""
    metadata = read(current, Targets)
    signature = metadata.signatures.get(key.keyid)
    try:
        if signature is None:
            raise ForbiddenError("the current list of revisions is not signed by this publisher")
        key.verify_signature(signature, metadata.signed_bytes)
    except UnverifiedSignatureError as error:
        raise ForbiddenError(
            "the current list of revisions does not verify; do not sign on top of it"
        ) from error
    return metadata.signed.version + 1, dict(metadata.signed.targets)


def _revision(model: str, revision: str, size: int, *, private: bool, kind: Kind) -> TargetFile:
    if size < 1:
        raise RequestInvalidError(f"a manifest of {size} B is none")
    path = revision_target(model_name(model), revision_id(revision))
    custom: dict[str, object] = {PRIVATE_FIELD: True} if private else {}
    if kind != MODEL:
        custom[KIND_FIELD] = kind
    fields = {"custom": custom} if custom else None
    return TargetFile(size, {"sha256": revision}, path, fields)
