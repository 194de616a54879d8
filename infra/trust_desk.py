"""An operator's side of the trust metadata: key files, rotation files and the origin, together."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from securesystemslib.signer import Key, Signer
from tuf.api.metadata import Root

from origin.documents import read
from origin.keys import (
    ONLINE_KEY,
    PUBLISHER_KEY,
    is_encrypted,
    load_key,
    load_public,
    next_key,
    next_path,
    next_root_key,
    promote,
    promote_roots,
    root_key_files,
    root_key_names,
)
from origin.publish import OriginAdmin
from origin.rotate import (
    Changes,
    Current,
    add_signatures,
    missing_signatures,
    only_key,
    prepare_renewal,
    prepare_rotation,
    read_current,
)
from origin.rotation import (
    MAX_ROTATION_BYTES,
    Rotation,
    decode_rotation,
    encode_rotation,
)
from wire.errors import ConfigError, ForbiddenError
from wire.files import write_atomically
from wire.http_source import MAX_BUNDLE_BYTES
from wire.paths import TRUST_BUNDLE
from wire.trust_bundle import TARGETS


class TrustAdmin(OriginAdmin):
    """What an origin's administrative API has for the trust metadata."""

    def trust_bundle(self) -> bytes:
        """All published documents, with every root. Unverified."""
        answer = self._client.get(f"{TRUST_BUNDLE}?root=0", limit_bytes=MAX_BUNDLE_BYTES)
        self._json(answer)
        return bytes(answer.body)

    def submit(self, rotation: Rotation) -> dict[str, Any]:
        """Hand over signed documents. Raises what the origin's refusal means."""
        return self._post("trust", {r: data.decode() for r, data in rotation.documents.items()})


@dataclass(frozen=True, slots=True, kw_only=True)
class Wanted:
    """What a rotation is asked to change."""

    root: bool = False
    """Make new root keys here."""
    root_keys: int | None = None
    """How many; None for as many as there are."""
    root_threshold: int | None = None
    root_public: tuple[Path, ...] = ()
    """Or the public keys of all next root keys, made elsewhere."""
    publisher: bool = False
    publisher_public: Path | None = None
    online: bool = False
    grace_s: float | None = None


@dataclass(frozen=True, slots=True)
class TrustDesk:
    """An origin, a key folder, and the root that is trusted here.

    Args:
        keys: the folder of keys; where the online key is rotated, the origin's own.
        anchor: ``root.json``.
    """

    origin: TrustAdmin
    keys: Path
    anchor: bytes

    def current(self) -> Current:
        """What is published, verified. Raises ``TrustError`` where it does not verify."""
        return read_current(self.origin.trust_bundle(), self.anchor)

    def prepare(self, wanted: Wanted, passphrase: str) -> Rotation:
        """A rotation, unsigned; keys that are to be made are made.

        Args:
            passphrase: encrypts new root keys.

        Raises:
            ConfigError, RequestInvalidError: keys that cannot be made, read or counted.
            TrustError: what the origin publishes does not verify.
        """
        bundle = self.origin.trust_bundle()
        current = read_current(bundle, self.anchor)
        publisher: Key | None = None
        if wanted.publisher_public is not None:
            publisher = load_public(wanted.publisher_public)
        elif wanted.publisher:
            publisher = next_key(self.keys / PUBLISHER_KEY).public_key
        online = next_key(self.keys / ONLINE_KEY).public_key if wanted.online else None
        changes = Changes(
            root_keys=self._root_keys(wanted, current, passphrase),
            root_threshold=wanted.root_threshold,
            publisher=publisher,
            online=online,
            grace_s=wanted.grace_s,
        )
        return prepare_rotation(bundle, self.anchor, changes, now=time.time())

    def prepare_renewal(self) -> Rotation:
        """Targets and revisions with a new expiry, unsigned."""
        return prepare_renewal(self.origin.trust_bundle(), self.anchor, now=time.time())

    def sign_here(self, rotation: Rotation, passphrase: str) -> Rotation:
        """Sign with every key of the folder that has a say: old and next root keys, publisher."""
        files = root_key_files(self.keys)
        names = [*sorted(self.keys.glob("root*.next.key")), *files]
        publisher = self.keys / PUBLISHER_KEY
        names += [path for path in (next_path(publisher), publisher) if path.exists()]
        for path in names:
            key = load_key(path, passphrase if is_encrypted(path) else None)
            try:
                rotation = add_signatures(rotation, self.anchor, [key])
            except ForbiddenError:
                continue  # a key of another day
        return rotation

    def submit(self, rotation: Rotation) -> bool:
        """Hand over a rotation that enough have signed, and put its keys into place here.

        Returns:
            Whether it was new to the origin; a submit that was cut off may be repeated.

        Raises:
            ForbiddenError: signatures are missing; the message says whose.
            ConflictError: something else was signed in the meantime.
        """
        if lacking := missing_signatures(rotation, self.anchor):
            raise ForbiddenError(
                "signatures are missing: " + "; ".join(str(missing) for missing in lacking)
            )
        now = self.current()
        published = {Root.type: now.root, TARGETS: now.targets, "revisions": now.revisions}
        is_new = any(published[role] != data for role, data in rotation.documents.items())
        if is_new:
            self.origin.submit(rotation)
        if rotation.root is not None:
            self._promote(read(rotation.root, Root).signed)
        return is_new

    def _root_keys(self, wanted: Wanted, current: Current, passphrase: str) -> tuple[Key, ...]:
        if wanted.root_public:
            return tuple(load_public(path) for path in wanted.root_public)
        if not wanted.root:
            return ()
        if not passphrase:
            raise ConfigError("new root keys need a passphrase; give one that is not empty")
        count = wanted.root_keys or len(current.signed_root.roles[Root.type].keyids)
        names = root_key_names(count)
        return tuple(next_root_key(self.keys / n, passphrase).public_key for n in names)

    def _promote(self, root: Root) -> None:
        """The origin puts its own online key into place."""
        promote_roots(self.keys, root.roles[Root.type].keyids)
        publisher = self.keys / PUBLISHER_KEY
        following = next_path(publisher)
        if following.exists() and load_key(following).public_key == only_key(root, TARGETS):
            promote(publisher)


@contextmanager
def open_desk(url: str, token: str, keys: Path, anchor: bytes) -> Iterator[TrustDesk]:
    """A desk at an origin; its connections are closed at the end."""
    origin = TrustAdmin(url, token)
    try:
        yield TrustDesk(origin, keys, anchor)
    finally:
        origin.close()


def sign_file(path: Path, anchor: bytes, keys: list[Signer]) -> Rotation:
    """Add signatures to a rotation file. Raises as ``origin.rotate.add_signatures``."""
    signed = add_signatures(read_rotation(path), anchor, keys)
    write_rotation(path, signed)
    return signed


def read_rotation(path: Path) -> Rotation:
    """A rotation from a file.

    Raises:
        ConfigError: it cannot be read.
        RequestInvalidError: it is none.
    """
    try:
        with path.open("rb") as stream:
            data = stream.read(MAX_ROTATION_BYTES + 1)
    except OSError as error:
        raise ConfigError(f"cannot read the rotation {path}: {error.strerror}") from error
    return decode_rotation(data)


def write_rotation(path: Path, rotation: Rotation) -> None:
    """Write a rotation into a file, replacing it whole. Raises ``ConfigError`` where it cannot."""
    try:
        write_atomically(path, encode_rotation(rotation))
    except OSError as error:
        raise ConfigError(f"cannot write the rotation {path}: {error.strerror}") from error


def read_anchor(path: Path) -> bytes:
    """A ``root.json``. Raises ``ConfigError`` where it cannot be read."""
    try:
        return path.read_bytes()
    except OSError as error:
        raise ConfigError(
            f"cannot read the trust root {path}: {error.strerror}; give --trust-root"
        ) from error
