"""Who is asking: API keys, kept as keyed HMACs, never as themselves.

What is stored of a key is HMAC-SHA256 (RFC 2104) of the whole of it under a pepper of this edge:
a stolen key file opens nothing without the pepper, and secrets of 190 random bits need no slow
hash. A key that was checked once is remembered (``CallerCache``) until it ends or the file changes.

What runs when a key is revoked runs to its end: revocation refuses the next request.
"""

from __future__ import annotations

import hmac
import math
import re
import secrets
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path

import msgspec
import structlog

from edge_tier.gateway.credentials import (
    MAX_KEY_HEADER_CHARS,
    Authenticator,
    CallerCache,
    InvalidKeyError,
    ModelForbiddenError,
    bearer_token,
    invalid,
    require_model,
    require_scope,
)
from edge_tier.gateway.key_records import (
    KeyRecord,
    decode_records,
    encode_records,
    key_id_of,
    new_key,
    secret_for,
)
from edge_tier.gateway.private_files import (
    create_private,
    exclusive,
    file_signature,
    read_private,
    replace_private,
)
from edge_tier.gateway.request import Caller, Limits, Policy, Scope
from wire.errors import ConfigError, ConflictError, NameInvalidError, NotFoundError

__all__ = [
    "Authenticator",
    "InvalidKeyError",
    "KeyStore",
    "ModelForbiddenError",
    "bearer_token",
    "read_pepper",
    "require_model",
    "require_scope",
]

MAX_KEY_FILE_BYTES = 64 * 1024 * 1024
MAX_PEPPER_FILE_BYTES = 1024
PEPPER_BYTES = 32
MAX_GRACE_S = 30 * 86_400

_PEPPER = re.compile(rb"[0-9a-f]{%d}" % (2 * PEPPER_BYTES))

_log = structlog.get_logger("auth")


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


class _Entry(msgspec.Struct, frozen=True):
    """A digest that opens, for whom, and until which wall time."""

    digest: bytes
    caller: Caller | None
    until_s: float


class KeyStore:
    """The keys of an edge, in one JSON file that several processes may read and change.

    A reader looks whether the file changed at most once in ``look_every_s`` (one stat(2)); a
    revocation by another process is in force with the first request after that time. A file that
    turns unreadable is reported, and what was read last stays in force. Writers take turns and
    replace the file whole; they block, so a server calls them in a thread.

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
        look_every_s: float = 0.25,
        cache_entries: int = 20_000,
    ) -> None:
        self._path = path
        # Copied for every key: keying the hash anew costs more than hashing (RFC 2104, section 4).
        self._keyed = hmac.new(pepper, digestmod="sha256")
        self._clock = clock
        self._wall_clock = wall_clock
        self._look_every_s = look_every_s
        self._next_look_s = clock() + look_every_s
        # An unknown id is compared with this, so that it takes as long as a wrong secret.
        self._nobody: tuple[_Entry, ...] = (_Entry(secrets.token_bytes(32), None, 0.0),)
        self._entries: dict[str, tuple[_Entry, ...]] = {}
        self._cache_entries = cache_entries
        self._cache = CallerCache(cache_entries)
        self._records: dict[str, KeyRecord] = {}
        self._seen = file_signature(path)
        self._load()

    @classmethod
    def open(
        cls,
        path: Path,
        pepper_path: Path,
        *,
        look_every_s: float = 0.25,
        cache_entries: int = 20_000,
    ) -> KeyStore:
        """The store at ``path``. A pepper is made where there are no keys yet, never later.

        Raises:
            ConfigError: a file cannot be used, or there are keys whose pepper is lost.
        """
        pepper = read_pepper(pepper_path, create=not path.exists())
        return cls(path, pepper, look_every_s=look_every_s, cache_entries=cache_entries)

    def authenticate(self, authorization: str | None) -> Caller:
        """The caller whose key stands in this ``Authorization`` header.

        Raises:
            InvalidKeyError: no header, or no valid key in it.
        """
        if self._clock() >= self._next_look_s:
            self._look()
        now_s = self._wall_clock()
        # Taken before the entries are looked at: should another thread load a file in between, the
        # caller found goes into a cache that nobody asks any more.
        cache = self._cache
        if authorization and len(authorization) <= MAX_KEY_HEADER_CHARS:
            try:
                caller = cache.get(authorization, now_s)
            except UnicodeEncodeError:
                raise invalid() from None
            if caller is not None:
                return caller
        found = self._check(bearer_token(authorization), now_s)
        assert authorization is not None
        assert found.caller is not None
        cache.put(authorization, found.caller, found.until_s)
        return found.caller

    def create(
        self,
        *,
        tenant: str,
        scopes: frozenset[Scope] = frozenset({"chat"}),
        limits: Limits | None = None,
        policy: Policy | None = None,
        expires: datetime | None = None,
        note: str = "",
    ) -> tuple[KeyRecord, str]:
        """A new key. The second value is the key itself, which is kept nowhere.

        Raises:
            NameInvalidError: a tenant, scope, limit, expiry or note that cannot be one.
            ConfigError: the file cannot be written.
        """
        if expires is not None and (expires.tzinfo is None or expires <= self._now()):
            raise NameInvalidError("a key must expire in the future, at a time with a zone")
        with self._changing() as records:
            key_id, key = new_key(records)
            record = KeyRecord(
                key_id=key_id,
                tenant=tenant,
                scopes=scopes,
                limits=limits or Limits(),
                policy=policy or Policy(),
                created=self._now(),
                expires=expires,
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

    def get(self, key_id: str) -> KeyRecord:
        """One record. Raises ``NotFoundError``."""
        self._look()
        return _known(self._records, key_id)

    def rotate(self, key_id: str, *, grace_s: float = 0.0) -> tuple[KeyRecord, str]:
        """A new secret for a key. Its id stays, and with it its limits, budgets and history.

        Args:
            grace_s: how long the secret before this one stays valid too; an older one never does.

        Raises:
            NotFoundError: no such key.
            ConflictError: revoked; it is ended for good.
            NameInvalidError: a grace that cannot be one.
            ConfigError: the file cannot be written; nothing changed.
        """
        if not 0 <= grace_s <= MAX_GRACE_S:
            raise NameInvalidError(f"the grace must be 0 to {MAX_GRACE_S} seconds")
        with self._changing() as records:
            record = _known(records, key_id)
            if record.revoked is not None:
                raise ConflictError(f"key {key_id} is revoked; create another")
            now = self._now()
            key = secret_for(key_id)
            record = msgspec.structs.replace(
                record,
                digest=self._digest(key).hex(),
                rotated=now,
                previous_digest=record.digest if grace_s else "",
                previous_until=now + timedelta(seconds=grace_s) if grace_s else None,
            )
            records[key_id] = record
        return record, key

    def fingerprint(self, secret: str) -> str:
        """Names a secret in a log without giving it away: 16 digits of its keyed hash."""
        return self._digest(secret).hex()[:16]

    def revoke(self, key_id: str) -> KeyRecord:
        """End a key for good; doing it twice changes nothing.

        Raises:
            NotFoundError: no such key.
            ConfigError: the file cannot be written; the key is still valid.
        """
        with self._changing() as records:
            record = _known(records, key_id)
            if record.revoked is None:
                record = msgspec.structs.replace(record, revoked=self._now())
                records[key_id] = record
        return record

    def _check(self, key: str, now_s: float) -> _Entry:
        """The valid entry behind a key, whatever was remembered. Raises ``InvalidKeyError``."""
        key_id = key_id_of(key)
        if key_id is None:
            raise invalid()
        digest = self._digest(key)
        for entry in self._entries.get(key_id, self._nobody):
            if hmac.compare_digest(digest, entry.digest) and now_s < entry.until_s:
                return entry
        raise invalid()

    def _digest(self, key: str) -> bytes:
        keyed = self._keyed.copy()
        keyed.update(key.encode())
        return keyed.digest()

    def _now(self) -> datetime:
        return datetime.fromtimestamp(self._wall_clock(), UTC)

    def _look(self) -> None:
        now = self._clock()
        if now < self._next_look_s:
            return
        self._next_look_s = now + self._look_every_s
        try:
            signature = file_signature(self._path)
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
        self._entries = {
            record.key_id: _entries(record)
            for record in self._records.values()
            if record.revoked is None
        }
        self._cache = CallerCache(self._cache_entries)  # after the entries; see authenticate

    @contextmanager
    def _changing(self) -> Iterator[dict[str, KeyRecord]]:
        """The current records, to be changed in place; written if the block ends well."""
        with exclusive(self._path):
            self._seen = file_signature(self._path)
            self._load()
            records = dict(self._records)
            yield records
            data = encode_records(records.values())
            replace_private(self._path, data, limit_bytes=MAX_KEY_FILE_BYTES)
            self._seen = file_signature(self._path)
            self._load()


def _known(records: dict[str, KeyRecord], key_id: str) -> KeyRecord:
    record = records.get(key_id)
    if record is None:
        raise NotFoundError(f"no key {key_id[:64]!r}")
    return record


def _entries(record: KeyRecord) -> tuple[_Entry, ...]:
    """What opens for this record: its secret, and for a while the one before it."""
    caller = record.caller()
    end_s = record.expires.timestamp() if record.expires else math.inf
    entries = [_Entry(bytes.fromhex(record.digest), caller, end_s)]
    if record.previous_until is not None:
        until_s = min(end_s, record.previous_until.timestamp())
        entries.append(_Entry(bytes.fromhex(record.previous_digest), caller, until_s))
    return tuple(entries)
