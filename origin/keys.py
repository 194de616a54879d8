"""The origin's keys as files: PKCS#8 in PEM (RFC 5958, RFC 7468), Ed25519, mode 600.

Three keys with three homes. The root key is encrypted by a passphrase and belongs offline; the
publisher's key belongs where models are published, which may be offline too; only the online key
belongs on the origin. ``root.json`` is no secret: every client is installed with it.

A rotation makes its keys beside those in force, as ``NAME.next.key``, and moves them into place
once the origin has taken the change. What was in force is kept as ``NAME.retired.key``, because an
origin restored from an older backup needs it; destroy it when that can no longer be.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Collection
from dataclasses import dataclass
from pathlib import Path

import structlog
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric.ed25519 import (
    Ed25519PrivateKey,
    Ed25519PublicKey,
)
from cryptography.hazmat.primitives.serialization import (
    BestAvailableEncryption,
    Encoding,
    KeySerializationEncryption,
    NoEncryption,
    PrivateFormat,
    PublicFormat,
    load_pem_private_key,
    load_pem_public_key,
)
from securesystemslib.signer import CryptoSigner, Key, SSlibKey

from origin.documents import DAY_S, Lifetimes
from origin.signing import Repository
from wire.errors import ConfigError
from wire.files import open_to_others
from wire.trust import MAX_GRACE_S

_log = structlog.get_logger("keys")
ROOT_KEY, PUBLISHER_KEY, ONLINE_KEY = "root.key", "publisher.key", "online.key"
ROOT_FILE = "root.json"
_NEXT, _RETIRED = ".next.key", ".retired.key"
MAX_ROOT_KEYS = 16
_MAX_KEY_BYTES = 16 * 1024


@dataclass(frozen=True, slots=True)
class KeySet:
    """What :func:`init_keys` made."""

    roots: tuple[CryptoSigner, ...]
    publisher: CryptoSigner
    online: CryptoSigner
    repository: Repository
    """Empty; its ``files`` are to be stored by the origin. Its first root is ``root.json``."""

    @property
    def root(self) -> CryptoSigner:
        """The first root key."""
        return self.roots[0]


def root_key_names(count: int) -> list[str]:
    """The files of ``count`` root keys: ``root.key``, or ``root-1.key`` and so on."""
    return [ROOT_KEY] if count == 1 else [f"root-{number}.key" for number in range(1, count + 1)]


def init_keys(
    folder: Path,
    passphrase: str,
    *,
    now: float,
    lifetimes: Lifetimes | None = None,
    root_keys: int = 1,
    root_threshold: int = 1,
    grace_s: float | None = None,
) -> KeySet:
    """Make the keys and the first root, each in a file of its own in ``folder``.

    Args:
        passphrase: encrypts the root keys.
        now: seconds since 1970.
        root_keys: how many root keys.
        root_threshold: how many of them a later root needs.
        grace_s: the offline grace, signed into the root; None for a week.

    Raises:
        ConfigError: a file is there already, or cannot be written, the passphrase is empty, or the
            threshold cannot be met.
    """
    if not passphrase:
        raise ConfigError("the root key needs a passphrase; give one that is not empty")
    if not 1 <= root_threshold <= root_keys <= MAX_ROOT_KEYS:
        raise ConfigError(
            f"a root threshold of {root_threshold} of {root_keys} keys is none; there are 1 to "
            f"{MAX_ROOT_KEYS} keys, and the threshold is 1 to their number"
        )
    if grace_s is not None and not 0 <= grace_s <= MAX_GRACE_S:
        raise ConfigError(f"the offline grace is from 0 to {MAX_GRACE_S / DAY_S:.0f} days")
    _make_folder(folder)
    names = root_key_names(root_keys)
    for name in (*names, PUBLISHER_KEY, ONLINE_KEY, ROOT_FILE):
        if os.path.lexists(folder / name):
            raise ConfigError(f"{folder / name} is there already; keys are never overwritten")
    roots = tuple(new_key(folder / name, passphrase) for name in names)
    publisher = new_key(folder / PUBLISHER_KEY)
    online = new_key(folder / ONLINE_KEY)
    repository = Repository.create(
        roots[0],
        publisher,
        online,
        now=now,
        lifetimes=lifetimes,
        more_root_keys=roots[1:],
        root_threshold=root_threshold,
        grace_s=grace_s,
    )
    _write_new(folder / ROOT_FILE, repository.first_root, 0o644)
    return KeySet(roots, publisher, online, repository)


def new_key(path: Path, passphrase: str | None = None) -> CryptoSigner:
    """Make an Ed25519 key in a file of mode 600, encrypted where a passphrase is given.

    Raises:
        ConfigError: the file is there already or cannot be written.
    """
    key = Ed25519PrivateKey.generate()
    encryption: KeySerializationEncryption = NoEncryption()
    if passphrase:
        encryption = BestAvailableEncryption(passphrase.encode())
    _write_new(path, key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, encryption), 0o600)
    return CryptoSigner(key)


def load_key(path: Path, passphrase: str | None = None) -> CryptoSigner:
    """Read a key that :func:`new_key` wrote.

    Raises:
        ConfigError: unreadable, readable by others, encrypted and the passphrase does not fit, or
            not an Ed25519 key.
    """
    pem = _read_private(path)
    # Errors of the library are not passed on: nothing of a key or passphrase can be in ours.
    try:
        key = load_pem_private_key(pem, passphrase.encode() if passphrase else None)
    except TypeError:
        remedy = (
            "is not encrypted; leave the passphrase out"
            if passphrase
            else ("is encrypted; give its passphrase")
        )
        raise ConfigError(f"key file {path} {remedy}") from None
    except (ValueError, UnsupportedAlgorithm):
        cause = "the passphrase does not open it, or it" if passphrase else "it"
        raise ConfigError(
            f"key file {path} cannot be used: {cause} is not a PKCS#8 key in PEM"
        ) from None
    if not isinstance(key, Ed25519PrivateKey):
        raise ConfigError(f"key file {path} holds no Ed25519 key; make one with init")
    return CryptoSigner(key)


def write_public(path: Path, key: Key) -> None:
    """Write a public key as PEM (SubjectPublicKeyInfo), for whoever prepares a rotation.

    Raises:
        ConfigError: the file is there already or cannot be written.
    """
    public = Ed25519PublicKey.from_public_bytes(bytes.fromhex(key.to_dict()["keyval"]["public"]))
    _write_new(path, public.public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo), 0o644)


def load_public(path: Path) -> Key:
    """Read a public key that :func:`write_public` wrote.

    Raises:
        ConfigError: unreadable, or not an Ed25519 public key.
    """
    try:
        with path.open("rb") as stream:
            pem = stream.read(_MAX_KEY_BYTES)
    except OSError as error:
        raise ConfigError(f"cannot read public key {path}: {error.strerror}") from error
    try:
        key = load_pem_public_key(pem)
    except (ValueError, UnsupportedAlgorithm):
        raise ConfigError(
            f"{path} holds no public key in PEM; give the .pub file that belongs to the key"
        ) from None
    if not isinstance(key, Ed25519PublicKey):
        raise ConfigError(f"{path} holds no Ed25519 key; make one with `headwater origin new-key`")
    return SSlibKey.from_crypto(key)


def next_path(path: Path) -> Path:
    """Where a rotation makes the key that will take the place of ``path``."""
    return path.with_name(path.name.removesuffix(".key") + _NEXT)


def next_key(path: Path, passphrase: str | None = None) -> CryptoSigner:
    """The key that will take the place of ``path``; one that an unfinished rotation made is used.

    Raises:
        ConfigError: as :func:`new_key` and :func:`load_key`.
    """
    following = next_path(path)
    return (load_key if following.exists() else new_key)(following, passphrase)


def root_key_files(folder: Path) -> list[Path]:
    """The root keys in force that are in this folder; those of a rotation are not among them."""
    return sorted(
        path for path in folder.glob("root*.key") if not path.name.endswith((_NEXT, _RETIRED))
    )


def promote(path: Path) -> bool:
    """Put the next key in the place of ``path``, which is kept as retired.

    At no moment is there no key: a crash leaves the old one, with the next one beside it.

    Returns:
        Whether there was a next one.

    Raises:
        ConfigError: the folder cannot be written.
    """
    following = next_path(path)
    if not following.exists():
        return False
    retired = _retired(path)
    try:
        if path.exists():
            retired.unlink(missing_ok=True)
            os.link(path, retired)
        following.replace(path)
    except OSError as error:
        raise ConfigError(
            f"cannot move {following} to {path}: {error.strerror}; do it by hand"
        ) from error
    return True


def promote_if_writable(path: Path) -> None:
    """As :func:`promote`; a folder that cannot be written, as that of a mounted secret, keeps both
    keys, and the next start finds out again which of them is in force."""
    try:
        promote(path)
    except ConfigError as error:
        _log.warning("key not promoted", why=error.message)


def next_root_key(path: Path, passphrase: str) -> CryptoSigner:
    """As :func:`next_key`, with its public key beside it: which key an encrypted file holds must be
    readable without the passphrase, when the rotation is handed over."""
    key = next_key(path, passphrase)
    public = _public_path(next_path(path))
    if not public.exists():
        write_public(public, key.public_key)
    return key


def promote_roots(folder: Path, keyids: Collection[str]) -> bool:
    """Put next root keys in the place of all root keys that were in force.

    Args:
        keyids: those of the new root; next keys that it does not name stay where they are.

    Returns:
        Whether there were next ones that it names.

    Raises:
        ConfigError: as :func:`promote` and :func:`load_public`.
    """
    places = []
    for following in sorted(folder.glob(f"root*{_NEXT}")):
        public = _public_path(following)
        if public.exists() and load_public(public).keyid in keyids:
            places.append(following.with_name(following.name.removesuffix(_NEXT) + ".key"))
    if not places:
        return False
    for path in root_key_files(folder):
        if path not in places:
            path.replace(_retired(path))
    for place in places:
        promote(place)
        _public_path(next_path(place)).unlink(missing_ok=True)
    return True


def is_encrypted(path: Path) -> bool:
    """Whether a key file needs a passphrase. Raises as :func:`load_key`."""
    return b"BEGIN ENCRYPTED PRIVATE KEY" in _read_private(path)


def _public_path(path: Path) -> Path:
    return path.with_suffix(".pub")


def _retired(path: Path) -> Path:
    return path.with_name(path.name.removesuffix(".key") + _RETIRED)


def _make_folder(folder: Path) -> None:
    try:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    except OSError as error:
        raise ConfigError(
            f"cannot make the key folder {folder}: {error.strerror}; choose another"
        ) from error


def _read_private(path: Path) -> bytes:
    try:
        with path.open("rb") as stream:
            found = os.fstat(stream.fileno())
            if open_to_others(path, found):
                mode = stat.S_IMODE(found.st_mode)
                raise ConfigError(
                    f"key file {path} is open to others (mode {mode:o}); run: chmod 600 {path}"
                )
            return stream.read(_MAX_KEY_BYTES)
    except OSError as error:
        raise ConfigError(
            f"cannot read key file {path}: {error.strerror}; check the path and its owner"
        ) from error


def _write_new(path: Path, data: bytes, mode: int) -> None:
    """Write a file that must not exist, with this mode from its first byte on."""
    try:
        with open(path, "xb", opener=lambda name, flags: os.open(name, flags, mode)) as stream:
            os.fchmod(stream.fileno(), mode)
            stream.write(data)
            stream.flush()
            os.fsync(stream.fileno())
    except FileExistsError as error:
        raise ConfigError(f"{path} is there already; keys are never overwritten") from error
    except OSError as error:
        raise ConfigError(
            f"cannot write {path}: {error.strerror}; make room, or make the folder writable"
        ) from error
