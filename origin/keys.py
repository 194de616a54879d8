"""The origin's keys as files: PKCS#8 in PEM (RFC 5958, RFC 7468), Ed25519, mode 600.

Three keys with three homes. The root key is encrypted by a passphrase and belongs offline; the
publisher's key belongs where models are published, which may be offline too; only the online key
belongs on the origin. ``root.json`` is no secret: every client is installed with it.
"""

from __future__ import annotations

import os
import stat
from dataclasses import dataclass
from pathlib import Path

from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import (
    BestAvailableEncryption,
    Encoding,
    KeySerializationEncryption,
    NoEncryption,
    PrivateFormat,
    load_pem_private_key,
)
from securesystemslib.signer import CryptoSigner

from origin.documents import Lifetimes
from origin.signing import Repository
from wire.errors import ConfigError

ROOT_KEY, PUBLISHER_KEY, ONLINE_KEY = "root.key", "publisher.key", "online.key"
ROOT_FILE = "root.json"
_MAX_KEY_BYTES = 16 * 1024


@dataclass(frozen=True, slots=True)
class KeySet:
    """What :func:`init_keys` made."""

    root: CryptoSigner
    publisher: CryptoSigner
    online: CryptoSigner
    repository: Repository
    """Empty; its ``files`` are to be stored by the origin. Its first root is ``root.json``."""


def init_keys(
    folder: Path, passphrase: str, *, now: float, lifetimes: Lifetimes | None = None
) -> KeySet:
    """Make the three keys and the first root, each in a file of its own in ``folder``.

    Args:
        passphrase: encrypts the root key.
        now: seconds since 1970.

    Raises:
        ConfigError: a file is there already, or cannot be written, or the passphrase is empty.
    """
    if not passphrase:
        raise ConfigError("the root key needs a passphrase; give one that is not empty")
    _make_folder(folder)
    for name in (ROOT_KEY, PUBLISHER_KEY, ONLINE_KEY, ROOT_FILE):
        if os.path.lexists(folder / name):
            raise ConfigError(f"{folder / name} is there already; keys are never overwritten")
    root = new_key(folder / ROOT_KEY, passphrase)
    publisher = new_key(folder / PUBLISHER_KEY)
    online = new_key(folder / ONLINE_KEY)
    repository = Repository.create(root, publisher, online, now=now, lifetimes=lifetimes)
    _write_new(folder / ROOT_FILE, repository.first_root, 0o644)
    return KeySet(root, publisher, online, repository)


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
            mode = stat.S_IMODE(os.fstat(stream.fileno()).st_mode)
            if mode & 0o077:
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
