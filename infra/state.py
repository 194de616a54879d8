"""The state directory: everything that the system keeps on this machine, in one place.

``keys/`` the origin's keys and their passphrase · ``secrets/`` tokens and the first API key ·
``origin/`` ``edge/`` ``worker/`` ``cloud/`` what the tiers store · ``run/`` where each tier listens
· ``logs/`` · ``headwater.toml``, ``cloud.toml`` the configuration in force · ``ready.json`` while
everything answers. Files with secrets have mode 600, the folder itself 700.
"""

from __future__ import annotations

import fcntl
import os
import secrets
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import msgspec

from wire.errors import ConfigError, ConflictError
from wire.files import write_atomically

READY_NAME = "ready.json"
MAX_READY_BYTES = 64 * 1024


class ReadyRegion(msgspec.Struct, frozen=True, kw_only=True):
    """A region: where its edge and its worker answer."""

    name: str
    edge: str
    worker: str


class Ready(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """What ``ready.json`` says once everything answers. URLs are ``http://host:port``. Where there
    are regions, ``edge`` and ``worker`` are the first one's."""

    origin: str
    edge: str
    worker: str
    cloud: str
    api_key: str
    admin_token: str
    state_dir: str
    regions: tuple[ReadyRegion, ...] = ()

    def __repr__(self) -> str:
        return f"Ready(origin={self.origin!r}, edge={self.edge!r}, state_dir={self.state_dir!r})"


@dataclass(frozen=True, slots=True)
class StateDir:
    """Where things are below one folder. Paths only; nothing is read or made by asking."""

    root: Path

    @property
    def keys(self) -> Path:
        return self.root / "keys"

    @property
    def passphrase_file(self) -> Path:
        return self.keys / "root.passphrase"

    @property
    def publisher_key(self) -> Path:
        return self.keys / "publisher.key"

    @property
    def trust_root(self) -> Path:
        return self.keys / "root.json"

    @property
    def origin_store(self) -> Path:
        return self.root / "origin"

    @property
    def admin_token(self) -> Path:
        return self.root / "secrets" / "admin-token"

    @property
    def worker_token(self) -> Path:
        return self.root / "secrets" / "worker-token"

    @property
    def edge_pull_token(self) -> Path:
        """What the edge shows to the origin."""
        return self.root / "secrets" / "edge-pull-token"

    @property
    def edge_report_token(self) -> Path:
        """Under which the edge reports to the origin; opens nothing else."""
        return self.root / "secrets" / "edge-report-token"

    def pull_tokens(self, tier: str) -> Path:
        """The hashes of the pull tokens that a tier takes."""
        return self.root / "secrets" / f"{tier}-pull-tokens.json"

    @property
    def cloud_token(self) -> Path:
        return self.root / "secrets" / "cloud-token"

    @property
    def api_key(self) -> Path:
        return self.root / "secrets" / "api-key"

    @property
    def edge_keys(self) -> Path:
        return self.root / "edge" / "keys.json"

    @property
    def edge_policies(self) -> Path:
        """The edge's policy file."""
        return self.root / "policies.toml"

    @property
    def edge_audit(self) -> Path:
        return self.root / "edge" / "audit.jsonl"

    @property
    def edge_pepper(self) -> Path:
        return self.root / "secrets" / "edge-pepper"

    @property
    def config_file(self) -> Path:
        return self.root / "headwater.toml"

    @property
    def cloud_config_file(self) -> Path:
        return self.root / "cloud.toml"

    @property
    def ready_file(self) -> Path:
        return self.root / READY_NAME

    def region(self, name: str) -> StateDir:
        """What a region has of its own, below this."""
        return StateDir(self.root / "regions" / name)

    def tier(self, name: str) -> Path:
        """What a tier stores."""
        return self.root / name

    def run_file(self, name: str) -> Path:
        """Where a tier says that it listens: ``{"url", "pid"}``."""
        return self.root / "run" / f"{name}.json"

    def log(self, name: str) -> Path:
        """A tier's log."""
        return self.root / "logs" / f"{name}.log"

    def make(self) -> None:
        """Make the folders. Raises ``ConfigError`` where that is not possible."""
        try:
            self.root.mkdir(mode=0o700, parents=True, exist_ok=True)
            for name in ("secrets", "edge", "run", "logs"):
                (self.root / name).mkdir(mode=0o700, exist_ok=True)
        except OSError as error:
            raise ConfigError(
                f"cannot make the state directory {self.root}: {error.strerror}; "
                "choose another with --state-dir"
            ) from error

    @contextmanager
    def locked(self) -> Iterator[None]:
        """Keep every other launcher away from this directory, by flock(2) for life.

        Raises:
            ConflictError: another one holds it; nothing was touched.
        """
        descriptor = os.open(self.root / "lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                holder = os.pread(descriptor, 20, 0).decode("ascii", "replace").strip()
                raise ConflictError(
                    f"the state directory {self.root} is in use by process {holder or '?'}; "
                    "stop that one, or choose another with --state-dir"
                ) from None
            os.ftruncate(descriptor, 0)
            os.pwrite(descriptor, f"{os.getpid()}\n".encode(), 0)
            yield
        finally:
            os.close(descriptor)


def read_ready(path: Path) -> Ready | None:
    """Read ``ready.json``; None where there is none.

    Raises:
        ConfigError: it is there and cannot be used.
    """
    try:
        data = _read_private(path, MAX_READY_BYTES)
    except FileNotFoundError:
        return None
    try:
        return msgspec.json.decode(data, type=Ready)
    except msgspec.DecodeError:
        raise ConfigError(f"{path} is not a ready file; remove it, or start again") from None


def write_ready(path: Path, ready: Ready) -> None:
    """Write ``ready.json`` whole, mode 600. Raises ``ConfigError`` where that is not possible."""
    write_private(path, msgspec.json.format(msgspec.json.encode(ready), indent=2) + b"\n")


def read_secret(path: Path) -> str:
    """A secret from a file that only its owner may read.

    Raises:
        ConfigError: missing, empty, or readable by others.
    """
    try:
        text = _read_private(path, MAX_READY_BYTES).decode("utf-8", "replace").strip()
    except FileNotFoundError:
        raise ConfigError(f"there is no file {path}") from None
    if not text:
        raise ConfigError(f"{path} is empty")
    return text


def ensure_secret(path: Path, prefix: str) -> str:
    """The secret in this file; 256 random bits are put there where it does not exist."""
    if not path.exists():
        write_private(path, f"{prefix}{secrets.token_urlsafe(32)}\n".encode())
    return read_secret(path)


def write_private(path: Path, data: bytes) -> None:
    """Write a file of mode 600 so that a reader sees the old content or the new, never a part.

    Raises:
        ConfigError: it cannot be written.
    """
    try:
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        write_atomically(path, data)
    except OSError as error:
        raise ConfigError(f"cannot write {path}: {error.strerror}") from error


def _read_private(path: Path, limit_bytes: int) -> bytes:
    try:
        with path.open("rb") as stream:
            mode = stat.S_IMODE(os.fstat(stream.fileno()).st_mode)
            if mode & 0o077:
                raise ConfigError(
                    f"{path} is open to others (mode {mode:o}); run: chmod 600 {path}"
                )
            data = stream.read(limit_bytes + 1)
    except FileNotFoundError:
        raise
    except OSError as error:
        raise ConfigError(f"cannot read {path}: {error.strerror}") from error
    if len(data) > limit_bytes:
        raise ConfigError(f"{path} is larger than {limit_bytes} B")
    return data
