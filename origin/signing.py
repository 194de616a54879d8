"""The origin's signed repository: what is published, and what the origin's online key may change.

Sans-IO: documents come in as bytes; every change gives a :class:`Commit`, the new repository with
the files to store, ``timestamp.json`` last. Until that one is stored nothing has happened, so the
caller stores the files in order and takes the new repository only then (TUF 1.0.33 section 6.2,
consistent snapshots).

Every change is first put through the verification that clients run (``wire.trust``), from the state
that clients are in. So what they would refuse, whether a mistake here or a bad document from a
publisher, is refused before it is published.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

from securesystemslib.signer import Signer
from tuf.api.exceptions import RepositoryError
from tuf.api.metadata import Root, TargetFile, Targets

from origin.documents import (
    Lifetimes,
    expiry,
    file_name,
    pointer_target,
    read,
    sign,
    sign_channels,
    sign_snapshot,
    sign_timestamp,
    stored,
    stored_bundle,
)
from origin.offline import make_root, sign_revisions, sign_targets
from wire.channel import (
    MAX_PREVIOUS,
    Canary,
    ChannelPointer,
    channel_target,
    encode_pointer,
    pointer_to,
)
from wire.errors import (
    ConfigError,
    ConflictError,
    ForbiddenError,
    NotFoundError,
    RequestInvalidError,
    TrustError,
)
from wire.trust import Trusted, TrustView, verify
from wire.trust_bundle import (
    CHANNELS,
    REVISIONS,
    ROLES,
    SNAPSHOT,
    TARGETS,
    TIMESTAMP,
    TrustBundle,
    TrustLimits,
    encode_bundle,
)

FIRST_ROOT = "1.root.json"


@dataclass(frozen=True, slots=True)
class Commit:
    """A change that takes effect when its files are stored."""

    repository: Repository
    """The repository after the change."""
    files: dict[str, bytes]
    """File name → bytes, to be stored in this order; empty where nothing changes."""
    obsolete: tuple[str, ...] = ()
    """Files that may be deleted once the others are stored: no client can still be asking."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Repository:
    """All current role files, verified. Made with :meth:`create` or :meth:`load`."""

    online_key: Signer
    first_root: bytes
    trusted: Trusted
    previous: Mapping[str, bytes] = field(default_factory=dict)
    """Files of the generation before, for clients that are in the middle of an update."""
    lifetimes: Lifetimes
    limits: TrustLimits

    @classmethod
    def create(
        cls,
        root_key: Signer,
        publisher_key: Signer,
        online_key: Signer,
        *,
        now: float,
        lifetimes: Lifetimes | None = None,
        limits: TrustLimits | None = None,
        more_root_keys: Sequence[Signer] = (),
        root_threshold: int = 1,
        grace_s: float | None = None,
    ) -> Repository:
        """A new repository, without revisions and channels. Store its ``files`` in order.

        Args:
            now: seconds since 1970.
            more_root_keys: beside ``root_key``, where several people hold one each.
            root_threshold: how many of the root keys a later root needs.
            grace_s: the offline grace, signed into the root.

        Raises:
            RequestInvalidError: the threshold cannot be met, or the grace is out of range.
        """
        lives, online = lifetimes or Lifetimes(), online_key.public_key
        root_keys = [root_key, *more_root_keys]
        first = make_root(
            [key.public_key for key in root_keys],
            root_threshold,
            publisher=publisher_key.public_key,
            online=online,
            now=now,
            lifetimes=lives,
            grace_s=grace_s,
        )
        root = sign(first, *root_keys)
        roles = {
            TARGETS: sign_targets(publisher_key, online=online, now=now, lifetimes=lives),
            REVISIONS: sign_revisions(None, publisher_key, now=now, lifetimes=lives),
            CHANNELS: sign_channels({}, 1, online_key, expiry(now, lives.channels_s)),
        }
        roles[SNAPSHOT] = sign_snapshot(roles, 1, online_key, expiry(now, lives.snapshot_s))
        roles[TIMESTAMP] = sign_timestamp(
            roles[SNAPSHOT], 1, 1, online_key, expiry(now, lives.timestamp_s)
        )
        bounds = limits or TrustLimits()
        trusted = verify(TrustBundle(roles), anchor=root, held=None, now=now, limits=bounds)
        return cls(
            online_key=online_key,
            first_root=root,
            trusted=trusted,
            lifetimes=lives,
            limits=bounds,
        )

    @classmethod
    def load(
        cls,
        documents: Mapping[str, bytes],
        online_key: Signer,
        *,
        spare_key: Signer | None = None,
        lifetimes: Lifetimes | None = None,
        limits: TrustLimits | None = None,
    ) -> Repository:
        """The stored repository, verified; expired files are taken, to be renewed.

        Args:
            documents: stored files by name. Only the names that are needed are looked up.
            spare_key: taken instead where the root names it: a rotation was cut off between its
                last file and the renaming of the keys.

        Raises:
            ConfigError: a file is missing, or the online key is not the repository's.
            TrustError: the files do not belong together, or are signed by other keys.
        """
        bounds = limits or TrustLimits()
        first = stored(documents, FIRST_ROOT)
        trusted = _verified_store(stored_bundle(documents), first, bounds)
        roots = trusted.bundle.roots
        newest = roots.get(max(roots, default=1), first)
        if spare_key is not None and spare_key.public_key.keyid in online_keyids(newest):
            online_key = spare_key
        _require_online(newest, online_key)
        before = [file_name(r, trusted.view.versions[r] - 1) for r in ROLES if r != TIMESTAMP]
        return cls(
            online_key=online_key,
            first_root=first,
            trusted=trusted,
            previous={name: documents[name] for name in before if name in documents},
            lifetimes=lifetimes or Lifetimes(),
            limits=bounds,
        )

    @property
    def view(self) -> TrustView:
        """What the current files say: channels, revisions, versions, expiries."""
        return self.trusted.view

    @property
    def files(self) -> dict[str, bytes]:
        """Every current file by name, in the order in which to store them."""
        roles, versions = self.trusted.bundle.roles, self.view.versions
        roots = {f"{v}.root.json": data for v, data in self.trusted.bundle.roots.items()}
        named = {file_name(role, versions[role]): roles[role] for role in reversed(ROLES)}
        return {FIRST_ROOT: self.first_root, **roots, **named}

    @property
    def renewal_due(self) -> float:
        """When :meth:`retimestamp` should run next, seconds since 1970."""
        return min(self._half_life(role) for role in (TIMESTAMP, SNAPSHOT, CHANNELS))

    def bundle(self, root_version: int) -> bytes:
        """All current role files in one answer, with the roots after ``root_version``."""
        current = self.trusted.bundle
        roots = {1: self.first_root, **current.roots}
        return encode_bundle(TrustBundle(current.roles, roots).after(root_version))

    def document(self, name: str) -> bytes:
        """A role file by its file name, as stock clients of the specification ask for it.

        Raises:
            NotFoundError: no such file, or no longer.
        """
        found = self.files.get(name) or self.previous.get(name)
        if found is None:
            raise NotFoundError("no such trust document")
        return found

    def pointer(self, model: str, channel: str) -> bytes:
        """The bytes of a channel's target. Raises as ``TrustView.pointer``."""
        return encode_pointer(self.view.pointer(model, channel))

    def set_channel(
        self, model: str, channel: str, revision: str, *, canary: Canary | None = None, now: float
    ) -> Commit:
        """Point a channel at a revision. Nothing changes where it points there already.

        Raises:
            NameInvalidError: a name that cannot be one.
            NotFoundError: the publisher has not signed the revision (or the canary's).
            RequestInvalidError: a canary of a static site.
        """
        current = self.view.channels.get((model, channel))
        sequence = current.sequence + 1 if current else 1
        if canary is not None and (model, canary.revision) in self.view.static:
            raise RequestInvalidError(f"{model} is a static site, which no worker could try")
        previous = self._previous(current, model, revision)
        pointer = pointer_to(
            model, channel, revision, sequence=sequence, canary=canary, previous=previous
        )
        if current and (current.revision, current.canary) == (revision, canary):
            return Commit(self, {})
        for wanted in pointer.revisions:
            if (model, wanted) not in self.view.revisions:
                raise NotFoundError(f"revision {wanted} of {model} is not signed; publish it first")
        targets = self._channel_targets()
        targets[channel_target(model, channel)] = pointer_target(pointer)
        return self._commit({CHANNELS: self._sign_channels(targets, now)}, now)

    def _previous(
        self, current: ChannelPointer | None, model: str, revision: str
    ) -> tuple[str, ...]:
        """Where the channel of a static site pointed before. Of a model nobody asks; and a reader
        from before there were sites takes no pointer that says it."""
        if current is None or (model, revision) not in self.view.static:
            return ()
        before = dict.fromkeys((current.revision, *current.previous))
        return tuple(old for old in before if old != revision)[:MAX_PREVIOUS]

    def remove_channel(self, model: str, channel: str, *, now: float) -> Commit:
        """Take a channel away.

        Raises:
            NotFoundError: no such channel.
        """
        targets = self._channel_targets()
        if targets.pop(channel_target(model, channel), None) is None:
            raise NotFoundError(f"no channel {model}@{channel}")
        return self._commit({CHANNELS: self._sign_channels(targets, now)}, now)

    def retimestamp(self, *, now: float) -> Commit:
        """Renew the timestamp, and what else of the online roles is past half its life.

        Raises:
            TrustExpiredError: a role of an offline key has expired; only that key can renew it.
        """
        changed = {}
        if now >= self._half_life(CHANNELS):
            changed[CHANNELS] = self._sign_channels(self._channel_targets(), now)
        return self._commit(changed, now, new_snapshot=now >= self._half_life(SNAPSHOT))

    def accept_revisions(self, signed: bytes, *, now: float, allow_removal: bool = False) -> Commit:
        """Take a new list of revisions from the publisher. Raises as :meth:`accept`."""
        return self.accept(revisions=signed, now=now, allow_removal=allow_removal)

    def accept(
        self,
        *,
        root: bytes | None = None,
        targets: bytes | None = None,
        revisions: bytes | None = None,
        online_key: Signer | None = None,
        now: float,
        allow_removal: bool = False,
    ) -> Commit:
        """Take documents that the offline keys signed (``origin.offline``), all in one change.

        A rotation gives ``root``, with the documents that the new keys sign; a new ``online_key``
        signs the online roles anew, and clients then forget the versions that the old one set,
        which is how they recover from one that was fast-forwarded.

        Args:
            allow_removal: let revisions go that were signed before.

        Raises:
            ConflictError: not the next version, revisions would be lost, or a channel needs one.
            ForbiddenError: not signed by the key that the role belongs to.
            ConfigError: the online key is not the one that the root names.
            TrustError: clients would refuse it.
        """
        offered = {TARGETS: targets, REVISIONS: revisions}
        changed = {role: data for role, data in offered.items() if data is not None}
        self._check_offered(root, changed)
        key = online_key or self.online_key
        _require_online(root or self._newest_root(), key)
        renewed = replace(self, online_key=key)
        if online_key is not None or now >= self._half_life(CHANNELS):
            changed[CHANNELS] = renewed._sign_channels(self._channel_targets(), now)
        commit = renewed._commit(changed, now, root=root)
        _check_losses(self.view, commit.repository.view, allow_removal=allow_removal)
        return commit

    def _commit(
        self,
        changed: Mapping[str, bytes],
        now: float,
        *,
        root: bytes | None = None,
        new_snapshot: bool = False,
    ) -> Commit:
        """Sign what follows from the change, and verify it as a client would."""
        versions, lives = self.view.versions, self.lifetimes
        roles = {**self.trusted.bundle.roles, **changed}
        snapshot = versions[SNAPSHOT]
        if changed or new_snapshot or root is not None:
            snapshot += 1
            expires = expiry(now, lives.snapshot_s)
            roles[SNAPSHOT] = sign_snapshot(roles, snapshot, self.online_key, expires)
        roles[TIMESTAMP] = sign_timestamp(
            roles[SNAPSHOT],
            snapshot,
            versions[TIMESTAMP] + 1,
            self.online_key,
            expiry(now, lives.timestamp_s),
        )
        roots = {versions[Root.type] + 1: root} if root is not None else {}
        return self._followed_by(self._verified(TrustBundle(roles, roots), now))

    def _followed_by(self, after: Repository) -> Commit:
        old, new = self.files, after.files
        replaced = {name: data for name, data in old.items() if name not in new}
        after = replace(after, previous=replaced or self.previous)
        kept = {*new, *after.previous}
        return Commit(
            after,
            {name: data for name, data in new.items() if old.get(name) != data},
            tuple(name for name in self.previous if name not in kept),
        )

    def _verified(self, bundle: TrustBundle, now: float) -> Repository:
        held = self.trusted.bundle
        found = verify(bundle, anchor=self._newest_root(), held=held, now=now, limits=self.limits)
        roots = {**held.roots, **found.bundle.roots}
        return replace(self, trusted=Trusted(TrustBundle(found.bundle.roles, roots), found.view))

    def _newest_root(self) -> bytes:
        roots = self.trusted.bundle.roots
        return roots[max(roots)] if roots else self.first_root

    def _channel_targets(self) -> dict[str, TargetFile]:
        return read(self.trusted.bundle.roles[CHANNELS], Targets).signed.targets

    def _sign_channels(self, targets: Mapping[str, TargetFile], now: float) -> bytes:
        version = self.view.versions[CHANNELS] + 1
        expires = expiry(now, self.lifetimes.channels_s)
        return sign_channels(targets, version, self.online_key, expires)

    def _half_life(self, role: str) -> float:
        lives = {
            TIMESTAMP: self.lifetimes.timestamp_s,
            SNAPSHOT: self.lifetimes.snapshot_s,
            CHANNELS: self.lifetimes.channels_s,
        }
        return self.view.expires[role] - lives[role] / 2

    def _check_offered(self, root: bytes | None, changed: Mapping[str, bytes]) -> None:
        """That each offered file is signed by its role's key, as named in what is then current,
        and that it is the next version."""
        newest_root = read(root if root is not None else self._newest_root(), Root).signed
        targets = read(changed.get(TARGETS, self.trusted.bundle.roles[TARGETS]), Targets).signed
        for role, data in changed.items():
            metadata, owner = read(data, Targets), newest_root if role == TARGETS else targets
            try:
                owner.verify_delegate(role, metadata.signed_bytes, metadata.signatures)
            except (RepositoryError, ValueError) as error:
                raise ForbiddenError(f"{role} is not signed by the key it belongs to") from error
            found, wanted = metadata.signed.version, self.view.versions[role] + 1
            if found != wanted:
                raise ConflictError(
                    f"{role} comes as version {found}, but {wanted} is next; sign on top of the "
                    "current one"
                )


def _check_losses(before: TrustView, after: TrustView, *, allow_removal: bool) -> None:
    for channel in sorted(after.refused.keys() - before.refused.keys()):
        reason = after.refused[channel]
        raise ConflictError(f"{channel} would break: {reason}; move or remove the channel first")
    lost = sorted(before.revisions.keys() - after.revisions.keys())
    if lost and not allow_removal:
        model, revision = lost[0]
        raise ConflictError(
            f"{len(lost)} signed revisions would be lost, {revision} of {model} first; sign on top "
            "of the current list, or allow the removal"
        )


def online_keyids(root: bytes) -> list[str]:
    """The ids of the keys that a root names for the online roles. Raises as ``documents.read``."""
    return list(read(root, Root).signed.roles[SNAPSHOT].keyids)


def _verified_store(bundle: TrustBundle, first: bytes, limits: TrustLimits) -> Trusted:
    """A root that was stored, but whose timestamp was not, has not been published: a rotation was
    cut off before its last file, and the roles are still those of the root before."""
    try:
        return verify(bundle, anchor=first, held=None, now=None, limits=limits)
    except TrustError:
        if not bundle.roots:
            raise
        newest = max(bundle.roots)
        before = {v: data for v, data in bundle.roots.items() if v != newest}
        without = TrustBundle(bundle.roles, before)
        return verify(without, anchor=first, held=None, now=None, limits=limits)


def _require_online(root: bytes, key: Signer) -> None:
    if key.public_key.keyid not in online_keyids(root):
        raise ConfigError(
            "the online key is not the one that the root names; use the key that init made, or "
            "rotate it with a new root"
        )
