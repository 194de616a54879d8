"""Who may use the console: logins as signed cookies, and how many wrong tokens are looked at.

A login is not kept anywhere. Its cookie says until when it holds, with a MAC under a key that is
made of the administrator's token: every origin with that token takes it, and a new token ends all
logins. Pure; the clock is given.
"""

from __future__ import annotations

import hmac
import secrets
from collections.abc import Callable
from hashlib import sha256

from wire.errors import HeadwaterError

COOKIE = "headwater_console"
_PURPOSE = b"headwater console login, version 1"
_MAX_COOKIE_CHARS = 160
_NONCE_BYTES = 9


class TooManyTriesError(HeadwaterError):
    """Too many wrong tokens lately; none is looked at for a while."""

    status = 429
    code = "too_many_tries"


class Logins:
    """Makes and reads cookies.

    Args:
        token: the administrator's.
        clock: seconds since 1970.
        lasts_s: how long a login holds.
    """

    def __init__(self, token: str, *, clock: Callable[[], float], lasts_s: float) -> None:
        self._token = token.encode()
        self._key = hmac.digest(self._token, _PURPOSE, sha256)
        self._clock = clock
        self._lasts_s = lasts_s

    def opens(self, token: str) -> bool:
        """Whether this is the administrator's token; takes the same time for all of one length."""
        return hmac.compare_digest(token.encode("utf-8", "surrogateescape"), self._token)

    def make(self) -> tuple[str, int]:
        """A cookie's value, and until when it holds."""
        until = int(self._clock() + self._lasts_s)
        text = f"{until}.{secrets.token_urlsafe(_NONCE_BYTES)}"
        return f"{text}.{self._mac(text)}", until

    def until(self, cookie: str) -> float | None:
        """Until when a cookie holds; None where it is not ours, or over."""
        if len(cookie) > _MAX_COOKIE_CHARS or not cookie.isascii():
            return None
        text, _, mac = cookie.rpartition(".")
        if not hmac.compare_digest(mac, self._mac(text)):
            return None
        until = int(text.partition(".")[0])
        return until if until > self._clock() else None

    def _mac(self, text: str) -> str:
        return hmac.digest(self._key, text.encode(), sha256).hex()


class Tries:
    """A bucket of wrong tries, one for all clients, so that nothing grows with their number.

    Args:
        clock: monotonic seconds.
        at_once: how many there may be.
        per_minute: how many come back.
    """

    def __init__(self, *, clock: Callable[[], float], at_once: int, per_minute: float) -> None:
        self._clock = clock
        self._most = float(at_once)
        self._per_s = per_minute / 60
        self._left = self._most
        self._at = clock()

    def check(self) -> None:
        """Raises ``TooManyTriesError`` where none is left."""
        now = self._clock()
        self._left = min(self._most, self._left + (now - self._at) * self._per_s)
        self._at = now
        if self._left < 1:
            wait_s = int((1 - self._left) / self._per_s) + 1 if self._per_s > 0 else 3_600
            raise TooManyTriesError(
                f"too many wrong tokens; try again in {wait_s} s",
                headers={"Retry-After": str(wait_s)},
            )

    def failed(self) -> None:
        """One more was wrong."""
        self._left -= 1
