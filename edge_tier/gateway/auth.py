"""Who is asking: API keys, kept as keyed HMACs, never as themselves.

What is stored of a key is HMAC-SHA256 (RFC 2104) of the whole of it under a pepper of this edge:
a stolen key file opens nothing without the pepper, and secrets of 190 random bits need no slow
hash. Keys arrive as bearer tokens (RFC 6750); refusals have the codes that OpenAI's clients know.
"""

from __future__ import annotations

import hmac
import re
import secrets
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Protocol

import msgspec
import structlog

from edge_tier.gateway.key_records import (
    KeyRecord,
    decode_records,
    encode_records,
    key_id_of,
    new_key,
)
from edge_tier.gateway.private_files import (
    create_private,
    exclusive,
    read_private,
    replace_private,
)
from edge_tier.gateway.request import Caller, Limits, Policy, Scope
from wire.errors import (
    ConfigError,
    ForbiddenError,
    NameInvalidError,
    NotFoundError,
    UnauthorizedError,
)

MAX_HEADER_CHARS = 256
MAX_KEY_FILE_BYTES = 64 * 1024 * 1024
MAX_PEPPER_FILE_BYTES = 1024
PEPPER_BYTES = 32

_PEPPER = re.compile(rb"[0-9a-f]{%d}" % (2 * PEPPER_BYTES))
_CHALLENGE = 'Bearer realm="headwater"'

_log = structlog.get_logger("auth")


class InvalidKeyError(UnauthorizedError):
    """No API key, or one that is unknown, wrong or revoked; which of these is not said."""

    code = "invalid_api_key"


class ModelForbiddenError(ForbiddenError):
    """The caller's policy does not list the model."""

    code = "model_not_found"


class Authenticator(Protocol):
    """Tells callers by their credential."""

    def authenticate(self, authorization: str | None) -> Caller:
        """The caller behind an ``Authorization`` header. Raises ``InvalidKeyError``."""
        ...


def require_scope(caller: Caller, scope: Scope) -> None:
    """Check that the caller may do this kind of thing. Raises ``ForbiddenError``."""
    if scope not in caller.scopes:
        challenge = f'{_CHALLENGE}, error="insufficient_scope", scope="{scope}"'
        raise ForbiddenError(
            f"key {caller.key_id} lacks the scope {scope!r}",
            headers={"WWW-Authenticate": challenge},
        )


def require_model(caller: Caller, model: str) -> None:
    """Check that the caller may name this model; ``auto`` must be listed like any other.

    Raises:
        ModelForbiddenError: the policy lists models, and not this one.
    """
    if caller.policy.models and model not in caller.policy.models:
        raise ModelForbiddenError(f"key {caller.key_id} may not use the model {model[:64]!r}")


def bearer_token(authorization: str | None) -> str:
    """The credential in an ``Authorization`` header; the scheme's case is free (RFC 9110 11.1).

    Raises:
        InvalidKeyError: none, not Bearer, or longer than a key can be.
    """
    if not authorization:
        raise InvalidKeyError(
            "no API key: send it as 'Authorization: Bearer hw-...'",
            headers={"WWW-Authenticate": _CHALLENGE},
        )
    if len(authorization) > MAX_HEADER_CHARS or authorization[:7].lower() != "bearer ":
        raise _invalid()
    return authorization[7:].strip(" ")


def read_pepper(path: Path, *, create: bool) -> bytes:
    """The edge's pepper: 64 hexadecimal digits in a file that only its owner may read.

    Args:
        create: make one where there is none. Of several processes that try, one wins and all read
            the same.

    Raises:
        ConfigError: missing, open to others, or not a pepper.
    """
    if create and not path.exists():
        create_private(path, secrets.token_hex(PEPPER_BYTES).encode() + b"\n")
    text = read_private(path, limit_bytes=MAX_PEPPER_FILE_BYTES).strip()
    if not _PEPPER.fullmatch(text):
        raise ConfigError(f"pepper {path} must hold {2 * PEPPER_BYTES} hexadecimal digits")
    return bytes.fromhex(text.decode())


class KeyStore:
    """The keys of an edge, in one JSON file that several processes may read and change.

    A reader looks whether the file changed at most once in ``look_every_s``; after that time a
    revocation by another process is in force. A file that turns unreadable is reported, and what
    was read last stays in force. Writers take turns and replace the file whole; they block, so
    a server calls them in a thread.

    Raises:
        ConfigError: the file is there but cannot be used.
    """

    def __init__(
        self,
        path: Path,
        pepper: bytes,
        *,
        clock: Callable[[], float] = time.monotonic,
        wall_clock: Callable[[], float] = time.time,
        look_every_s: float = 1.0,
    ) -> None:
        self._path = path
        # Copied for every key: keying the hash anew costs more than hashing (RFC 2104, section 4).
        self._keyed = hmac.new(pepper, digestmod="sha256")
        self._clock = clock
        self._wall_clock = wall_clock
        self._look_every_s = look_every_s
        self._next_look_s = clock() + look_every_s
        # An unknown id is compared with this, so that it takes as long as a wrong secret.
        self._nobody: tuple[bytes, Caller | None] = (secrets.token_bytes(32), None)
        self._callers: dict[str, tuple[bytes, Caller | None]] = {}
        self._records: dict[str, KeyRecord] = {}
        self._seen = self._signature()
        self._load()

    @classmethod
    def open(cls, path: Path, pepper_path: Path) -> KeyStore:
        """The store at ``path``. A pepper is made where there are no keys yet, never later.

        Raises:
            ConfigError: a file cannot be used, or there are keys whose pepper is lost.
        """
        return cls(path, read_pepper(pepper_path, create=not path.exists()))

    def authenticate(self, authorization: str | None) -> Caller:
        """The caller whose key stands in this ``Authorization`` header.

        Raises:
            InvalidKeyError: no header, or no valid key in it.
        """
        self._look()
        key = bearer_token(authorization)
        key_id = key_id_of(key)
        if key_id is None:
            raise _invalid()
        expected, caller = self._callers.get(key_id, self._nobody)
        if not hmac.compare_digest(self._digest(key), expected) or caller is None:
            raise _invalid()
        return caller

    def create(
        self,
        *,
        tenant: str,
        scopes: frozenset[Scope] = frozenset({"chat"}),
        limits: Limits | None = None,
        policy: Policy | None = None,
        note: str = "",
    ) -> tuple[KeyRecord, str]:
        """A new key. The second value is the key itself, which is kept nowhere.

        Raises:
            NameInvalidError: a tenant, scope, limit or note that cannot be one.
            ConfigError: the file cannot be written.
        """
        with self._changing() as records:
            key_id, key = new_key(records)
            record = KeyRecord(
                key_id=key_id,
                tenant=tenant,
                scopes=scopes,
                limits=limits or Limits(),
                policy=policy or Policy(),
                created=self._now(),
                digest=self._digest(key).hex(),
                note=note,
            )
            if problem := record.problem():
                raise NameInvalidError(problem)
            records[key_id] = record
        return record, key

    def list(self) -> tuple[KeyRecord, ...]:
        """All records, the revoked ones too, oldest first."""
        self._look()
        return tuple(self._records.values())

    def revoke(self, key_id: str) -> KeyRecord:
        """End a key for good; doing it twice changes nothing.

        Raises:
            NotFoundError: no such key.
            ConfigError: the file cannot be written; the key is still valid.
        """
        with self._changing() as records:
            record = records.get(key_id)
            if record is None:
                raise NotFoundError(f"no key {key_id[:64]!r}")
            if record.revoked is None:
                record = msgspec.structs.replace(record, revoked=self._now())
                records[key_id] = record
        return record

    def _digest(self, key: str) -> bytes:
        keyed = self._keyed.copy()
        keyed.update(key.encode("ascii"))
        return keyed.digest()

    def _now(self) -> datetime:
        return datetime.fromtimestamp(self._wall_clock(), UTC)

    def _signature(self) -> tuple[int, int, int] | None:
        """Differs whenever the file was replaced; None where there is none."""
        try:
            found = self._path.stat()
        except FileNotFoundError:
            return None
        except OSError as error:
            raise ConfigError(f"cannot read {self._path}: {error.strerror}") from error
        return found.st_ino, found.st_mtime_ns, found.st_size

    def _look(self) -> None:
        now = self._clock()
        if now < self._next_look_s:
            return
        self._next_look_s = now + self._look_every_s
        try:
            signature = self._signature()
            if signature != self._seen:
                # Noted first: an unusable file is reported once, not every second.
                self._seen = signature
                self._load()
        except ConfigError as error:
            _log.error("key file unusable, last read keys stay in force", reason=error.message)

    def _load(self) -> None:
        """Take over the file's records; where there is no file there are none yet."""
        if self._seen is None:
            if self._records:
                raise ConfigError(f"key file {self._path} is gone")
            return
        self._records = decode_records(read_private(self._path, limit_bytes=MAX_KEY_FILE_BYTES))
        self._callers = {
            record.key_id: (bytes.fromhex(record.digest), record.caller())
            for record in self._records.values()
            if record.revoked is None
        }

    @contextmanager
    def _changing(self) -> Iterator[dict[str, KeyRecord]]:
        """The current records, to be changed in place; written if the block ends well."""
        with exclusive(self._path):
            self._seen = self._signature()
            self._load()
            records = dict(self._records)
            yield records
            data = encode_records(records.values())
            replace_private(self._path, data, limit_bytes=MAX_KEY_FILE_BYTES)
            self._seen = self._signature()
            self._load()


def _invalid() -> InvalidKeyError:
    return InvalidKeyError(
        "the API key is not valid here: check it, or ask for a new one",
        headers={"WWW-Authenticate": f'{_CHALLENGE}, error="invalid_token"'},
    )
