"""What every kind of credential shares: where it stands, how it is refused, how it is remembered.

Credentials arrive as bearer tokens (RFC 6750); refusals have the codes that OpenAI's clients know,
and do not say what was wrong.
"""

from __future__ import annotations

import hashlib
import secrets
from typing import Protocol

from edge_tier.gateway.request import Caller, Scope
from wire.errors import ForbiddenError, UnauthorizedError

MAX_KEY_HEADER_CHARS = 256
CHALLENGE = 'Bearer realm="headwater"'


class InvalidKeyError(UnauthorizedError):
    """No credential, or one that is unknown, wrong, expired or revoked; which is not said."""

    code = "invalid_api_key"


class ModelForbiddenError(ForbiddenError):
    """The caller's policy does not list the model."""

    code = "model_not_found"


class Authenticator(Protocol):
    """Tells callers by their credential."""

    def authenticate(self, authorization: str | None) -> Caller:
        """The caller behind an ``Authorization`` header. Raises ``InvalidKeyError``."""
        ...


class CallerCache:
    """Callers whose credential was checked already, by the whole header. Bounded.

    The key is the SHA-256 of a secret of this process and the whole header, so that no look-up
    depends on part of a credential: two headers that differ in one character have digests that
    share nothing, and how long a look-up takes says nothing of how much of a guess was right. No
    credential is kept in memory either. Only what was found valid is kept, so guesses fill nothing.

    Entries live in two generations: a full young one becomes the old one, and what is used of the
    old moves to the young. That is LRU to within a factor of two, at the cost of one look-up.

    Args:
        most: entries kept at the most, in both generations together; at least 2.
    """

    __slots__ = ("_half", "_old", "_salt", "_young")

    def __init__(self, most: int) -> None:
        self._half = max(1, most // 2)
        self._salt = secrets.token_bytes(32)
        self._young: dict[bytes, tuple[Caller, float]] = {}
        self._old: dict[bytes, tuple[Caller, float]] = {}

    def __len__(self) -> int:
        return len(self._young) + len(self._old)

    def get(self, authorization: str, now_s: float) -> Caller | None:
        """The caller, or None where it must be checked anew.

        Args:
            now_s: wall time; an entry whose end is not after it is not given.

        Raises:
            UnicodeEncodeError: not a text that a header can hold.
        """
        digest = hashlib.sha256(self._salt + authorization.encode()).digest()
        found = self._young.get(digest)
        if found is None:
            found = self._old.pop(digest, None)
            if found is None:
                return None
            self._keep(digest, found)
        return found[0] if now_s < found[1] else None

    def put(self, authorization: str, caller: Caller, until_s: float) -> None:
        """Remember a checked credential until this wall time."""
        digest = hashlib.sha256(self._salt + authorization.encode()).digest()
        self._keep(digest, (caller, until_s))

    def _keep(self, digest: bytes, entry: tuple[Caller, float]) -> None:
        if len(self._young) >= self._half:
            self._old, self._young = self._young, {}
        self._young[digest] = entry


def require_scope(caller: Caller, scope: Scope) -> None:
    """Check that the caller may do this kind of thing. Raises ``ForbiddenError``."""
    if scope not in caller.scopes:
        challenge = f'{CHALLENGE}, error="insufficient_scope", scope="{scope}"'
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


def bearer_token(authorization: str | None, *, most: int = MAX_KEY_HEADER_CHARS) -> str:
    """The credential in an ``Authorization`` header; the scheme's case is free (RFC 9110 11.1).

    Args:
        most: characters that the header may have.

    Raises:
        InvalidKeyError: none, not Bearer, or longer than a credential can be.
    """
    if not authorization:
        raise InvalidKeyError(
            "no API key: send it as 'Authorization: Bearer hw-...'",
            headers={"WWW-Authenticate": CHALLENGE},
        )
    if len(authorization) > most or authorization[:7].lower() != "bearer ":
        raise invalid()
    return authorization[7:].strip(" ")


def invalid() -> InvalidKeyError:
    """The one refusal that every bad credential gets."""
    return InvalidKeyError(
        "the API key is not valid here: check it, or ask for a new one",
        headers={"WWW-Authenticate": f'{CHALLENGE}, error="invalid_token"'},
    )
