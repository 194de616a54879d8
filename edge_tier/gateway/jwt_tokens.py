"""Who is asking: signed tokens of an identity provider (RFC 7519, RFC 8725).

The header of a token chooses nothing but which known key it is checked with: the algorithm is the
key's own, and keys or addresses that a header carries (``jwk``, ``jku``, ``x5u``) are never looked
at. Only the one spelling of a token that its issuer wrote is accepted. (An ECDSA signature has a
twin that is valid too, for the same claims; nothing here depends on a token having one signature.)
"""

from __future__ import annotations

import base64
import re
import time
from collections import Counter
from collections.abc import Callable
from typing import Any

import jwt
import structlog

from edge_tier.gateway.credentials import CHALLENGE, CallerCache, bearer_token, invalid
from edge_tier.gateway.jwks import KeyHealth, KeySet, KeySource
from edge_tier.gateway.jwt_claims import RefusedTokenError, Verified, check_claims
from edge_tier.gateway.jwt_config import JwtConfig
from edge_tier.gateway.jwt_revoked import RevokedTokens
from edge_tier.gateway.request import Caller
from edge_tier.gateway.strict_json import strict_object
from wire.errors import HeadwaterError

_FORM = re.compile(r"([A-Za-z0-9_-]+)\.([A-Za-z0-9_-]+)\.([A-Za-z0-9_-]+)")
_TYPES = frozenset({"jwt", "at+jwt", "application/at+jwt"})
_SPARE_CHARS = 64
"""For the scheme and spaces in a header, beside the token."""

_log = structlog.get_logger("auth")


class AuthBusyError(HeadwaterError):
    """Tokens cannot be checked now: no keys have been fetched yet, or too many bad ones came."""

    status = 503
    code = "auth_unavailable"


def verify(
    token: str,
    keys: KeySet,
    config: JwtConfig,
    now_s: float,
    ended: Callable[[str, str], bool] = lambda _subject, _token_id: False,
) -> Verified:
    """What a token says, where it is signed by one of these keys and holds now. Pure.

    The signature comes last: it costs most, and a token that is refused anyway need not have it.

    Args:
        ended: whether this subject, or the token with this id, was revoked.

    Raises:
        RefusedTokenError: not so; the reason ``unknown key`` may be cured by newer keys.
    """
    match = _FORM.fullmatch(token)
    if match is None or len(token) > config.max_token_bytes:
        raise RefusedTokenError("form")
    header = _part(match[1])
    # ``crit`` covers ``b64`` (RFC 7797), whose payload would not be what was signed here.
    if "crit" in header or "b64" in header or not _is_type(header.get("typ", "JWT")):
        raise RefusedTokenError("header")
    kid = header.get("kid")
    pinned = keys.get(kid) if isinstance(kid, str) else None
    if pinned is None:
        raise RefusedTokenError("unknown key")
    if header.get("alg") != pinned.algorithm or pinned.algorithm not in config.algorithms:
        raise RefusedTokenError("algorithm")
    verified = check_claims(_part(match[2]), config, now_s)
    if ended(verified.subject, verified.token_id):
        raise RefusedTokenError("revoked")
    try:
        jwt.PyJWS([pinned.algorithm]).decode(token, pinned.key, [pinned.algorithm])
    except (jwt.PyJWTError, ValueError):
        raise RefusedTokenError("signature") from None
    return verified


def _part(segment: str) -> dict[str, Any]:
    """A segment as an object; in canonical base64url alone (RFC 7515 section 2)."""
    try:
        data = base64.urlsafe_b64decode(segment + "=" * (-len(segment) % 4))
        if base64.urlsafe_b64encode(data).rstrip(b"=") != segment.encode():
            raise RefusedTokenError("form")
        return strict_object(data)
    except ValueError:
        raise RefusedTokenError("form") from None


def _is_type(value: object) -> bool:
    return isinstance(value, str) and value.lower() in _TYPES


class TokenAuthenticator:
    """Tells callers by their token. Bounded work for bad ones, almost none for repeated good ones.

    A checked token is remembered by the whole header until it expires; all are forgotten when the
    keys or the list of revoked tokens change. Used by one thread.

    Args:
        keys: where public keys come from; its ``run`` must be running for a URL.
    """

    def __init__(
        self,
        config: JwtConfig,
        keys: KeySource,
        *,
        clock: Callable[[], float] = time.monotonic,
        wall_clock: Callable[[], float] = time.time,
        look_every_s: float = 0.25,
        cache_entries: int = 20_000,
    ) -> None:
        config.check()
        self._config = config
        self._source = keys
        self._revoked = RevokedTokens(config.revoked_file)
        self._clock = clock
        self._wall_clock = wall_clock
        self._look_every_s = look_every_s
        self._cache_entries = cache_entries
        self._cache = CallerCache(cache_entries)
        self._in_force = (keys.keys, self._revoked.lists)
        self._next_look_s = clock() + look_every_s
        self._most_chars = config.max_token_bytes + _SPARE_CHARS
        self._failures = _Allowance(config.failed_checks_per_s, clock)
        self._next_log_s = 0.0
        self.refused: Counter[str] = Counter()
        """Refusals by reason, of which there are few."""

    def authenticate(self, authorization: str | None) -> Caller:
        """The caller whose token stands in this ``Authorization`` header.

        Raises:
            InvalidKeyError: no header, or no valid token in it.
            AuthBusyError: it cannot be checked now.
        """
        if self._clock() >= self._next_look_s:
            self._look()
        now_s = self._wall_clock()
        if authorization and len(authorization) <= self._most_chars:
            try:
                caller = self._cache.get(authorization, now_s)
            except UnicodeEncodeError:
                raise invalid() from None
            if caller is not None:
                return caller
        token = bearer_token(authorization, most=self._most_chars)
        assert authorization is not None
        try:
            verified = self._check(token, now_s)
        except RefusedTokenError as refused:
            self._note(refused.reason)
            raise invalid() from None
        if now_s < verified.expires_s:
            self._cache.put(authorization, verified.caller, verified.expires_s)
        return verified.caller

    async def run(self) -> None:
        """Keep the keys fresh until cancelled."""
        await self._source.run()

    def key_health(self) -> dict[str, KeyHealth]:
        """By issuer, how well its keys are doing; looked at now, whether a token came or not."""
        self._source.look()
        return {self._config.issuer: self._source.health}

    def _check(self, token: str, now_s: float) -> Verified:
        keys = self._source.keys
        if keys is None:
            self._source.want()
            raise _busy("the keys that tokens are checked with cannot be had yet", 2)
        if not self._failures.left():
            raise _busy("too many tokens with a bad signature", 1)
        try:
            return verify(token, keys, self._config, now_s, self._revoked.holds)
        except RefusedTokenError as refused:
            if refused.reason == "unknown key":
                self._source.want()
            elif refused.reason == "signature":
                self._failures.take()
            raise

    def _look(self) -> None:
        self._next_look_s = self._clock() + self._look_every_s
        self._source.look()
        self._revoked.look()
        in_force = (self._source.keys, self._revoked.lists)
        if in_force[0] is not self._in_force[0] or in_force[1] is not self._in_force[1]:
            self._in_force = in_force
            self._cache = CallerCache(self._cache_entries)

    def _note(self, reason: str) -> None:
        """Count a refusal, and log one a second: a flood of tokens is not a flood of lines."""
        self.refused[reason] += 1
        now = self._clock()
        if now >= self._next_log_s:
            self._next_log_s = now + 1.0
            _log.info("token refused", reason=reason, so_far=self.refused.total())


class _Allowance:
    """So many things a second, and a second's worth at once."""

    def __init__(self, per_s: float, clock: Callable[[], float]) -> None:
        self._per_s = per_s
        self._clock = clock
        self._most = max(1.0, per_s)
        self._left = self._most
        self._at_s = clock()

    def left(self) -> bool:
        now = self._clock()
        self._left = min(self._most, self._left + (now - self._at_s) * self._per_s)
        self._at_s = now
        return self._left >= 1.0

    def take(self) -> None:
        self._left -= 1.0


def _busy(message: str, retry_after_s: int) -> AuthBusyError:
    headers = {"Retry-After": str(retry_after_s), "WWW-Authenticate": CHALLENGE}
    return AuthBusyError(message, headers=headers)
