"""Addresses that open one thing for a while, and short-lived tokens of the registry.

Some clients ask for the parts of a file without the credential that they fetched its address with,
so the address itself must open it. Nothing is remembered: an HMAC-SHA256 (RFC 2104) over the
subject and its expiry proves that this tier, or another process of it with the same secret, gave it
out. What was given out counts until it expires.
"""

from __future__ import annotations

import hmac
import re
import time
from collections.abc import Callable, Mapping

EXPIRES, SIGNATURE = "expires", "signature"
"""The query's fields."""
_NUMBER = re.compile(r"[0-9]{1,12}")
_TOKEN = re.compile(r"hwr_([a-z0-9]{0,32})_([0-9]{1,12})_([0-9a-f]{64})")
_DERIVATION = b"headwater signed urls 1"


class Signer:
    """Signs and checks.

    Args:
        secret: known to this tier alone; a key of its own is derived from it.
        clock: seconds since 1970.
    """

    def __init__(self, secret: str, *, clock: Callable[[], float] = time.time) -> None:
        self._key = hmac.digest(secret.encode(), _DERIVATION, "sha256")
        self._clock = clock

    def query(self, subject: str, lifetime_s: float) -> dict[str, str]:
        """The query that makes an address open ``subject``."""
        expires = str(int(self._clock() + lifetime_s))
        return {EXPIRES: expires, SIGNATURE: self._signature("url", subject, expires)}

    def opens(self, subject: str, query: Mapping[str, str]) -> bool:
        """Whether an address's query opens ``subject`` now."""
        expires = query.get(EXPIRES, "")
        return self._holds("url", subject, expires, query.get(SIGNATURE, ""))

    def token(self, holder: str, lifetime_s: float) -> str:
        """A short-lived token for ``holder`` (lower-case letters and digits; may be empty)."""
        expires = str(int(self._clock() + lifetime_s))
        return f"hwr_{holder}_{expires}_{self._signature('token', holder, expires)}"

    def holder(self, token: str) -> str | None:
        """For whom a token was made; None where it is not ours or has expired."""
        match = _TOKEN.fullmatch(token)
        if match is None:
            return None
        holder, expires, signature = match.groups()
        return holder if self._holds("token", holder, expires, signature) else None

    def _holds(self, kind: str, subject: str, expires: str, signature: str) -> bool:
        if not _NUMBER.fullmatch(expires) or not signature.isascii():
            return False
        genuine = hmac.compare_digest(self._signature(kind, subject, expires), signature)
        return genuine and self._clock() < int(expires)

    def _signature(self, kind: str, subject: str, expires: str) -> str:
        message = "\0".join((kind, subject, expires)).encode("utf-8", "surrogateescape")
        return hmac.digest(self._key, message, "sha256").hex()
