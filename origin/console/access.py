"""Who may use the console: logins as signed cookies, and how many wrong tokens are answered.

A cookie says which login it is of and until when that holds, with a MAC under a key that is made of
the administrator's token: only who has the token can make one, and a new token ends all of them.
Whether the login was ended before is told by ``origin.console.ledger``. Pure; the clock is given.
"""

from __future__ import annotations

import hmac
import secrets
from collections.abc import Callable
from hashlib import sha256
from typing import NamedTuple

from wire.errors import HeadwaterError

_COOKIE = "headwater_console"
_PURPOSE = b"headwater console login, version 1"
_NAMED_BY = b"headwater console cookie's name, version 1"
_NAME_CHARS = 8
_MAX_COOKIE_CHARS = 160
_CLOCKS_APART_S = 300.0
"""How far the clocks of two origins may differ, for each to take the other's logins."""
_NONCE_BYTES = 9


class TooManyTriesError(HeadwaterError):
    """Too many wrong tokens lately, and this was one more."""

    status = 429
    code = "too_many_tries"


class Pass(NamedTuple):
    """What a cookie of ours says."""

    id: str
    """Of its login."""
    until: int
    """When that is over, seconds since 1970."""


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
        name = hmac.digest(self._key, _NAMED_BY, sha256).hex()[:_NAME_CHARS]
        self.name = name
        """Of the token, which it does not tell."""
        self.cookie = f"{_COOKIE}_{name}"
        """The cookie's name. A browser gives the cookies of one port of a machine to all others
        (RFC 6265, 8.5): two origins there with tokens of their own do not end each other's
        logins."""
        self._clock = clock
        self._lasts_s = lasts_s

    def opens(self, token: str) -> bool:
        """Whether this is the administrator's token; takes the same time for all of one length."""
        return hmac.compare_digest(token.encode("utf-8", "surrogateescape"), self._token)

    def make(self) -> tuple[str, Pass]:
        """A cookie's value for a new login, and what it says."""
        made = Pass(secrets.token_urlsafe(_NONCE_BYTES), int(self._clock() + self._lasts_s))
        text = f"{made.until}.{made.id}"
        return f"{text}.{self._mac(text)}", made

    def read(self, cookie: str) -> Pass | None:
        """What a cookie says; None where it is not ours, or over. One that holds for longer than a
        login does was made while a clock was wrong, and is over too."""
        if len(cookie) > _MAX_COOKIE_CHARS or not cookie.isascii():
            return None
        text, _, mac = cookie.rpartition(".")
        if not hmac.compare_digest(mac, self._mac(text)):
            return None
        until, _, id = text.partition(".")  # noqa: A001
        left_s = int(until) - self._clock()
        return Pass(id, int(until)) if 0 < left_s <= self._lasts_s + _CLOCKS_APART_S else None

    def _mac(self, text: str) -> str:
        return hmac.digest(self._key, text.encode(), sha256).hex()


class Tries:
    """A bucket of wrong tries, one for all clients, so that nothing grows with their number.

    It never stands in the way of who has the token: strangers could keep operators out with it. It
    bounds what strangers cost, and what they write into the log; what they find is up to the
    token, which ``headwater`` makes of 256 random bits.

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

    def failed(self) -> None:
        """One more was wrong. Raises ``TooManyTriesError`` where too many are."""
        now = self._clock()
        self._left = min(self._most, self._left + (now - self._at) * self._per_s)
        self._at = now
        if self._left < 1:
            wait_s = int((1 - self._left) / self._per_s) + 1 if self._per_s > 0 else 3_600
            raise TooManyTriesError(
                f"too many wrong tokens; try again in {wait_s} s",
                headers={"Retry-After": str(wait_s)},
            )
        self._left -= 1
