"""What a client believes: signed metadata, verified by The Update Framework's client workflow.

python-tuf's ``Updater`` does the verifying (TUF 1.0.33 section 5); a fetcher of our own answers it
from a bundle in memory (``wire.trust_bundle``). Roles: root (offline), targets (publisher),
snapshot and timestamp (origin, online), and two delegated roles that divide the power:
``revisions`` is signed by the publisher, ``channels`` by the origin. Whoever takes over an origin
can only point channels at revisions that the publisher signed.

This file keeps nothing: ``wire.trust_store`` does.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import Literal, TypeAlias

from tuf.api.exceptions import (
    DownloadError,
    DownloadHTTPError,
    DownloadLengthMismatchError,
    ExpiredMetadataError,
    RepositoryError,
)
from tuf.api.metadata import Metadata, Root, Signed, Targets
from tuf.ngclient import FetcherInterface, Updater, UpdaterConfig

from wire.channel import (
    ChannelPointer,
    channel_target,
    encode_pointer,
    from_custom_field,
    revision_of_target,
)
from wire.errors import NotFoundError, TrustError, TrustExpiredError
from wire.static_file import STATIC
from wire.trust_bundle import (
    CHANNELS,
    REVISIONS,
    ROLES,
    SNAPSHOT,
    TARGETS,
    TrustBundle,
    TrustLimits,
)

DELEGATED_PATHS = {REVISIONS: ["revisions/*/*"], CHANNELS: ["channels/*/*"]}
"""The delegations that ``targets`` must make: role → the paths in which it has a say."""

PRIVATE_FIELD = "private"
"""In the ``custom`` object of a revision's target: true where it needs a pull token."""

KIND_FIELD = "kind"
"""In the same object: ``static`` where the revision is a static site and no model."""

GRACE_FIELD = "x-headwater-offline-grace-s"
"""In a root: how long past its expiry verified metadata may still be worked from, in seconds. The
root's keys sign it, so whoever has only the online key cannot stretch it."""
DEFAULT_GRACE_S = 7 * 86_400.0
"""Where a root does not say."""
MAX_GRACE_S = 366 * 86_400.0

TrustState: TypeAlias = Literal["fresh", "expired_within_grace", "beyond_grace"]

_NOWHERE = "/dev/null/trust"
"""A folder that cannot be: roots are looked for there before the bundle is asked."""
_BEFORE_ALL_EXPIRY = datetime(1, 1, 1, tzinfo=UTC)
_MAX_REASON = 300
"""Characters of a foreign error that are passed on."""


@dataclass(frozen=True, slots=True, kw_only=True)
class TrustView:
    """What the verified metadata says: where each channel points, and what the publisher signed."""

    versions: Mapping[str, int]
    """Role → version, root included."""
    expires: Mapping[str, float]
    """Role → expiry, seconds since 1970."""
    channels: Mapping[tuple[str, str], ChannelPointer]
    """(model, channel) → pointer; only those whose revisions the publisher signed."""
    refused: Mapping[str, str]
    """Target path of a channel that is signed but not believed → why."""
    revisions: Mapping[tuple[str, str], int]
    """(model, revision) → bytes of the manifest."""
    private: frozenset[tuple[str, str]] = frozenset()
    """(model, revision) of those that only whoever holds a pull token may have."""
    static: frozenset[tuple[str, str]] = frozenset()
    """(model, revision) of those that are static sites, for browsers and not for workers."""
    expired: bool = False
    """What is here was verified and keeps serving, but nothing vouches that it is the newest."""
    grace_s: float = DEFAULT_GRACE_S
    """How long after ``expires_at`` something may still be started from what is here."""
    beyond_grace: bool = False
    """Expired for longer than the root allows: what runs goes on, nothing new is started."""

    @property
    def expires_at(self) -> float:
        """When the first role expires, seconds since 1970."""
        return min(self.expires.values())

    @property
    def grace_until(self) -> float:
        """When the offline grace ends, seconds since 1970."""
        return self.expires_at + self.grace_s

    @property
    def state(self) -> TrustState:
        """How far what is here can be relied on, at the time of the last :meth:`at`."""
        if self.beyond_grace:
            return "beyond_grace"
        return "expired_within_grace" if self.expired else "fresh"

    def at(self, now: float) -> TrustView:
        """This view with its ``state`` as it is at ``now`` (seconds since 1970)."""
        flags = now >= self.expires_at, now >= self.grace_until
        if flags == (self.expired, self.beyond_grace):
            return self
        return replace(self, expired=flags[0], beyond_grace=flags[1])

    def require_grace(self) -> None:
        """That something new may be started from what is here.

        Raises:
            TrustExpiredError: the offline grace is over.
        """
        if self.beyond_grace:
            role = min(self.expires, key=lambda role: self.expires[role])
            raise TrustExpiredError(
                f"trust metadata has expired ({role}) and its offline grace of "
                f"{self.grace_s:.0f} s is over; reconnect to an origin that renews it, and check "
                "this machine's clock"
            )

    def pointer(self, model: str, channel: str) -> ChannelPointer:
        """Where the channel points; the publisher signed every revision in it.

        Raises:
            NotFoundError: no such channel.
            TrustError: the origin points it at something that the publisher did not sign.
        """
        found = self.channels.get((model, channel))
        if found is not None:
            return found
        reason = self.refused.get(channel_target(model, channel))
        if reason is not None:
            raise TrustError(f"channel {model}@{channel} is not believed: {reason}")
        raise NotFoundError(f"no channel {model}@{channel}")

    def pointers(self) -> tuple[ChannelPointer, ...]:
        """All believed channels, by model and channel."""
        return tuple(self.channels[key] for key in sorted(self.channels))

    def require_revision(self, model: str, revision: str) -> int:
        """The size in bytes of the revision's manifest, as the publisher signed it.

        Raises:
            TrustError: the publisher did not sign this revision of this model.
        """
        size = self.revisions.get((model, revision))
        if size is None:
            raise TrustError(f"revision {revision} of {model} is not signed by the publisher")
        return size


@dataclass(frozen=True, slots=True)
class Trusted:
    """Verified role files, and what they say."""

    bundle: TrustBundle
    """The newest file of each role, and the roots that came after the anchor."""
    view: TrustView


def root_version(root: bytes) -> int:
    """The version of a root that is its own anchor.

    Raises:
        TrustError: malformed, or not signed by its own keys.
    """
    with _translated():
        metadata = Metadata[Root].from_bytes(root)
        if metadata.signed.type != Root.type:
            raise TrustError(f"a {metadata.signed.type} file where a root is expected")
        metadata.signed.verify_delegate(Root.type, metadata.signed_bytes, metadata.signatures)
        return metadata.signed.version


def offline_grace_s(root: Root) -> float:
    """The offline grace that a root gives, in seconds. What is not a number of them is none."""
    grace = root.unrecognized_fields.get(GRACE_FIELD, DEFAULT_GRACE_S)
    if isinstance(grace, bool) or not isinstance(grace, int | float):
        return 0.0
    return min(max(float(grace), 0.0), MAX_GRACE_S)


def verify(
    bundle: TrustBundle,
    *,
    anchor: bytes,
    held: TrustBundle | None,
    now: float | None,
    limits: TrustLimits,
) -> Trusted:
    """Verify a bundle as the specification's client does.

    Args:
        bundle: the files that came in; roots that do not follow the anchor are ignored.
        anchor: the root that is trusted so far.
        held: the files that were verified last; against rollback.
        now: seconds since 1970; None does not judge expiry (for files that were verified before).

    Raises:
        TrustError: bad signature, rollback, mix-and-match, or over a limit.
        TrustExpiredError: a role is past its expiry.
    """
    at = _BEFORE_ALL_EXPIRY if now is None else datetime.fromtimestamp(now, UTC)
    with _translated():
        verifier = _Verifier(dict(held.roles) if held else {}, anchor, bundle, limits, at)
        verifier.refresh()
        for role in DELEGATED_PATHS:
            # Asking for a target that cannot exist loads the role that would hold it.
            verifier.get_targetinfo(f"{role}/-/-")
        accepted = {role: verifier.files[role] for role in ROLES}
        verifier.check_snapshot(accepted[SNAPSHOT])
        view = verifier.view()
    newest = view.versions[Root.type]
    roots = {v: data for v, data in bundle.roots.items() if v <= newest}
    return Trusted(TrustBundle(accepted, roots), view)


class _BundleFetcher(FetcherInterface):
    """Answers ``Updater``'s downloads from a bundle. Versions in names are the Updater's to check;
    only roots, which come as a sequence, are told apart by theirs."""

    def __init__(self, bundle: TrustBundle) -> None:
        self._bundle = bundle

    def _fetch(self, url: str) -> Iterator[bytes]:
        yield self._file(url)

    def download_bytes(self, url: str, max_length: int) -> bytes:
        """The file, without the temporary file that the base class goes through."""
        data = self._file(url)
        if len(data) > max_length:
            raise DownloadLengthMismatchError(f"{url} has {len(data)} B; at most {max_length}")
        return data

    def _file(self, url: str) -> bytes:
        name = url.rpartition("/")[2].removesuffix(".json")
        version, _, role = name.rpartition(".")
        data = (
            self._bundle.roots.get(int(version))
            if role == Root.type
            else self._bundle.roles.get(role)
        )
        if data is None:
            raise DownloadHTTPError(f"not in the bundle: {name}", 404)
        return data


class _Verifier(Updater):
    """python-tuf's client workflow, at a time of our choosing and in memory.

    This class is the only place that reaches below python-tuf's public interface: ``Updater`` takes
    its time from the system's clock, keeps its files in a folder, and the roles it verified to
    itself. Reading them here means that what we believe is what was verified, and not a second
    parse of it; the folder would be made and removed for each look, a third of what that costs.

    Args:
        files: what was verified last, by role; becomes what is verified now.
    """

    def __init__(
        self,
        files: dict[str, bytes],
        anchor: bytes,
        bundle: TrustBundle,
        limits: TrustLimits,
        at: datetime,
    ) -> None:
        self.files = files
        super().__init__(
            metadata_dir=_NOWHERE,
            metadata_base_url="bundle:",
            fetcher=_BundleFetcher(bundle),
            config=UpdaterConfig(
                max_root_rotations=limits.roots,
                max_delegations=len(DELEGATED_PATHS) + 1,
                root_max_length=limits.root_bytes,
                timestamp_max_length=limits.timestamp_bytes,
                snapshot_max_length=limits.snapshot_bytes,
                targets_max_length=max(map(limits.of, (TARGETS, REVISIONS, CHANNELS))),
            ),
            bootstrap=anchor,
        )
        self._trusted_set.reference_time = at

    def _load_local_metadata(self, rolename: str) -> bytes:
        try:
            return self.files[rolename]
        except KeyError:
            raise FileNotFoundError(rolename) from None

    def _persist_metadata(self, rolename: str, data: bytes) -> None:
        self.files[rolename] = data

    def _persist_root(self, version: int, data: bytes) -> None:
        """Roots are in the bundle, and kept with it."""

    def _update_root_symlink(self) -> None:
        """There is no folder."""

    def check_snapshot(self, data: bytes) -> None:
        """That the accepted snapshot is the one the timestamp names, by hash too: a held snapshot
        of the right version is taken without, and then could not be verified anew from disk."""
        self._trusted_set.timestamp.snapshot_meta.verify_length_and_hashes(data)

    def view(self) -> TrustView:
        """What the verified roles say."""
        roles: dict[str, Signed] = {role: self._trusted_set[role] for role in (Root.type, *ROLES)}
        targets, revisions, channels = (
            _targets(roles[role]) for role in (TARGETS, REVISIONS, CHANNELS)
        )
        _check_delegations(targets)
        signed = _signed_revisions(revisions)
        believed, refused = _believed_channels(channels, signed)
        return TrustView(
            versions={role: signed.version for role, signed in roles.items()},
            expires={role: signed.expires.timestamp() for role, signed in roles.items()},
            channels=believed,
            refused=refused,
            revisions=signed,
            private=_marked(revisions, lambda custom: bool(custom.get(PRIVATE_FIELD))),
            static=_marked(revisions, lambda custom: custom.get(KIND_FIELD) == STATIC),
            grace_s=offline_grace_s(self._trusted_set.root),
        )


def _targets(signed: Signed) -> Targets:
    if not isinstance(signed, Targets):
        raise TrustError(f"a {signed.type} file where targets are expected")
    return signed


def _check_delegations(targets: Targets) -> None:
    """The roles are read whole, so what TUF checks per target is checked once per role here."""
    roles = targets.delegations.roles if targets.delegations else None
    found = {name: role.paths for name, role in (roles or {}).items()}
    if found != DELEGATED_PATHS:
        raise TrustError(f"targets must delegate exactly {DELEGATED_PATHS}")


def _signed_revisions(revisions: Targets) -> dict[tuple[str, str], int]:
    signed = {}
    for path, target in revisions.targets.items():
        named = revision_of_target(path, target.hashes)
        if named is not None:
            signed[named] = target.length
    return signed


def _marked(
    revisions: Targets, says: Callable[[Mapping[str, object]], bool]
) -> frozenset[tuple[str, str]]:
    """Signed beside each target, so that no tier between can make a private model public."""
    named = {
        revision_of_target(path, target.hashes)
        for path, target in revisions.targets.items()
        if isinstance(target.custom, dict) and says(target.custom)
    }
    return frozenset(found for found in named if found is not None)


def _believed_channels(
    channels: Targets, signed: Mapping[tuple[str, str], int]
) -> tuple[dict[tuple[str, str], ChannelPointer], dict[str, str]]:
    """One bad pointer costs that channel, not the others."""
    believed, refused = {}, {}
    for path, target in channels.targets.items():
        try:
            pointer = from_custom_field(target.custom)
            if path != channel_target(pointer.model, pointer.channel):
                raise TrustError("the pointer is another channel's")
            target.verify_length_and_hashes(encode_pointer(pointer))
        except (TrustError, RepositoryError) as error:
            refused[path] = str(error)[:_MAX_REASON]
            continue
        unsigned = [r for r in pointer.revisions if (pointer.model, r) not in signed]
        if unsigned:
            refused[path] = f"revision {unsigned[0]} is not signed by the publisher"
        else:
            believed[pointer.model, pointer.channel] = pointer
    return believed, refused


@contextmanager
def _translated() -> Iterator[None]:
    """Errors of python-tuf become ours, here and nowhere else."""
    try:
        yield
    except ExpiredMetadataError as error:
        raise TrustExpiredError(
            f"trust metadata has expired: {_reason(error)}; ask a source that is up to date, "
            "and check this machine's clock"
        ) from error
    except (RepositoryError, DownloadError, ValueError, TypeError, KeyError, AttributeError) as e:
        raise TrustError(f"trust metadata does not verify: {_reason(e)}") from e


def _reason(error: Exception) -> str:
    return str(error)[:_MAX_REASON] or type(error).__name__
