"""What the offline keys sign: the root, the targets and the list of revisions.

Pure functions of documents and keys, run where the keys are (the publisher's machine, the root
ceremony); the origin takes the results through ``origin.signing.Repository.accept`` and holds none
of these keys. Roles and delegations as in TUF 1.0.33 section 4.
"""

from __future__ import annotations

from collections.abc import Iterable

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

from origin.documents import Lifetimes, expiry, read, sign
from wire.channel import revision_target
from wire.errors import ConflictError, ForbiddenError, NotFoundError, RequestInvalidError
from wire.paths import model_name, revision_id
from wire.trust import DELEGATED_PATHS, PRIVATE_FIELD
from wire.trust_bundle import CHANNELS, REVISIONS


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
    """The root: which key signs which role.

    Args:
        previous: the root that this one follows; None for the first.
        previous_key: the root key of ``previous`` where it is another: a rotation needs both.

    Raises:
        RequestInvalidError: ``previous`` is no root.
    """
    version = read(previous, Root).signed.version + 1 if previous is not None else 1
    keys = {key.keyid: key for key in (root_key.public_key, publisher, online)}
    root = Root(
        version=version,
        expires=expiry(now, (lifetimes or Lifetimes()).root_s),
        keys=keys,
        roles={
            Root.type: Role([root_key.public_key.keyid], 1),
            Targets.type: Role([publisher.keyid], 1),
            Snapshot.type: Role([online.keyid], 1),
            Timestamp.type: Role([online.keyid], 1),
        },
        consistent_snapshot=True,
    )
    return sign(root, root_key, *([previous_key] if previous_key else []))


def sign_targets(
    publisher_key: Signer,
    *,
    online: Key,
    now: float,
    lifetimes: Lifetimes | None = None,
    previous: bytes | None = None,
) -> bytes:
    """The targets: no files of their own, only the two delegations that divide the power.

    Args:
        previous: the file that this one follows; None for the first.

    Raises:
        RequestInvalidError: ``previous`` is no targets file.
    """
    version = read(previous, Targets).signed.version + 1 if previous is not None else 1
    owners = {REVISIONS: publisher_key.public_key, CHANNELS: online}
    targets = Targets(
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
    return sign(targets, publisher_key)


def sign_revisions(
    current: bytes | None,
    publisher_key: Signer,
    add: Iterable[tuple[str, str, int]] = (),
    *,
    private: bool = False,
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
        target = _revision(model, revision, size, private=private)
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


def _revision(model: str, revision: str, size: int, *, private: bool) -> TargetFile:
    if size < 1:
        raise RequestInvalidError(f"a manifest of {size} B is none")
    path = revision_target(model_name(model), revision_id(revision))
    custom = {"custom": {PRIVATE_FIELD: True}} if private else None
    return TargetFile(size, {"sha256": revision}, path, custom)
