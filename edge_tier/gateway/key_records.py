"""What is kept of API keys, and its form on disk. Pure: bytes and values in, values and bytes out.

A key reads ``hw-<key_id>-<secret>``: the short id is public and finds the record in one look-up;
the secret has 32 characters out of 62, 190 bits.
"""

from __future__ import annotations

import re
import secrets
import string
from collections.abc import Iterable
from datetime import datetime
from typing import Literal

import msgspec

from edge_tier.gateway.request import Caller, Limits, Policy, Scope
from wire.errors import ConfigError

MAX_NOTE_CHARS = 256
MAX_MODELS = 256
TENANT = re.compile(r"[A-Za-z0-9][A-Za-z0-9._@:-]{0,127}")
POLICY_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")

_ID_CHARS = string.ascii_lowercase + string.digits
_SECRET_CHARS = string.ascii_letters + string.digits
_KEY = re.compile(r"hw-([a-z0-9]{4,32})-[A-Za-z0-9]{27,64}")  # 27 characters: 160 bits
_ID = re.compile(r"[a-z0-9]{4,32}")
_DIGEST = re.compile(r"[0-9a-f]{64}")


class KeyRecord(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What is kept of a key: everything but the key."""

    key_id: str
    tenant: str
    scopes: frozenset[Scope]
    limits: Limits
    policy: Policy
    created: datetime
    expires: datetime | None = None
    revoked: datetime | None = None
    rotated: datetime | None = None
    """When the secret was last replaced."""
    digest: str
    """HMAC-SHA256 of the key under the edge's pepper, 64 hexadecimal digits."""
    previous_digest: str = ""
    """Of the secret before the last rotation; empty: it opens nothing any more."""
    previous_until: datetime | None = None
    note: str = ""

    def __repr__(self) -> str:
        state = "revoked" if self.revoked else "valid"
        return f"KeyRecord(key_id={self.key_id!r}, tenant={self.tenant!r}, {state})"

    def caller(self) -> Caller:
        """Who asks with this key."""
        return Caller(
            key_id=self.key_id,
            tenant=self.tenant,
            scopes=self.scopes,
            limits=self.limits,
            policy=self.policy,
        )

    def problem(self) -> str | None:
        """Why this record cannot be one, or None."""
        limits = self.limits
        if not _ID.fullmatch(self.key_id):
            return "a key id is 4 to 32 lower-case letters and digits"
        if not TENANT.fullmatch(self.tenant):
            return f"key {self.key_id}: a tenant is 1 to 128 letters, digits and ._@:-"
        if not _DIGEST.fullmatch(self.digest):
            return f"key {self.key_id}: the digest must have 64 hexadecimal digits"
        if not self.scopes:
            return f"key {self.key_id}: at least one scope is needed"
        if len(self.note) > MAX_NOTE_CHARS:
            return f"key {self.key_id}: the note is longer than {MAX_NOTE_CHARS} characters"
        if min(msgspec.structs.astuple(limits)) < 0:
            return f"key {self.key_id}: a limit is below 0 (0 means unlimited)"
        return self._rotation_problem() or self._policy_problem()

    def _rotation_problem(self) -> str | None:
        if self.previous_until is not None and not _DIGEST.fullmatch(self.previous_digest):
            return f"key {self.key_id}: the previous digest must have 64 hexadecimal digits"
        if any(time is not None and time.tzinfo is None for time in self._times()):
            return f"key {self.key_id}: a time has no zone"
        return None

    def _policy_problem(self) -> str | None:
        policy = self.policy
        if policy.name and not POLICY_NAME.fullmatch(policy.name):
            return f"key {self.key_id}: a policy's name is 1 to 64 letters, digits and ._-"
        if len(policy.models) > MAX_MODELS or any(not 0 < len(m) <= 256 for m in policy.models):
            return f"key {self.key_id}: at most {MAX_MODELS} models of 1 to 256 characters"
        return None

    def _times(self) -> tuple[datetime | None, ...]:
        return self.created, self.expires, self.revoked, self.rotated, self.previous_until


class _Document(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    # Version 1 knew no expiry: a reader of that age must refuse the file, not overlook one.
    version: Literal[1, 2] = 2
    keys: tuple[KeyRecord, ...] = ()


def encode_records(records: Iterable[KeyRecord]) -> bytes:
    """The key file with these records."""
    return msgspec.json.format(msgspec.json.encode(_Document(keys=tuple(records))), indent=1)


def decode_records(data: bytes) -> dict[str, KeyRecord]:
    """Read a key file; by key id, oldest first.

    Raises:
        ConfigError: not a key file, or a record in it that cannot be one.
    """
    try:
        keys = msgspec.json.decode(data, type=_Document).keys
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        # The decoder names a place in the document, never a value.
        raise ConfigError(f"not a key file: {error}") from None
    for record in keys:
        if problem := record.problem():
            raise ConfigError(f"key file: {problem}")
    records = {record.key_id: record for record in keys}
    if len(records) != len(keys):
        raise ConfigError("key file: a key id stands there twice")
    return records


def key_id_of(key: str) -> str | None:
    """The public id in a key, or None where the text has not the form of one."""
    match = _KEY.fullmatch(key)
    return match[1] if match else None


def new_key(taken: Iterable[str]) -> tuple[str, str]:
    """A fresh key id that is not ``taken``, and the key with it."""
    used = frozenset(taken)
    key_id = _random(_ID_CHARS, 8)
    while key_id in used:
        key_id = _random(_ID_CHARS, 8)
    return key_id, secret_for(key_id)


def secret_for(key_id: str) -> str:
    """A fresh key with this id."""
    return f"hw-{key_id}-{_random(_SECRET_CHARS, 32)}"


def _random(alphabet: str, length: int) -> str:
    return "".join(secrets.choice(alphabet) for _ in range(length))
