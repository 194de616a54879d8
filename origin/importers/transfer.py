"""The download of one URL as a state machine: what to ask next, and what to make of an answer.

No socket, file or clock here; :mod:`origin.importers.download` has them. Redirects are checked hop
by hop and counted. An interrupted download goes on with ``Range`` and ``If-Range`` (RFC 9110,
sections 13.1.5 and 14.2), only under a strong entity tag: a weak one does not promise equal bytes.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field

from origin.errors import ImportRefusedError
from origin.importers.addresses import Target, parse_url, redirected
from wire.errors import NotFoundError, SourceUnavailableError, TooLargeError, UnauthorizedError

_REDIRECTS = frozenset((301, 302, 303, 307, 308))
_RETRIED = frozenset((408, 425, 429, 500, 502, 503, 504))
_STRONG = re.compile(r'"[\x21\x23-\x7e]{1,256}"')
_RANGE = re.compile(r"bytes ([0-9]{1,18})-([0-9]{1,18})/([0-9]{1,18})")
_LENGTH = re.compile(r"[0-9]{1,18}")


@dataclass(frozen=True, slots=True, kw_only=True)
class FetchLimits:
    """How far an import by URL goes."""

    max_bytes: int = 200 * 10**9
    max_redirects: int = 5
    max_failures: int = 5
    """Attempts in a row that brought no byte."""
    max_pause_s: float = 30.0
    """Between two attempts."""
    idle_s: float = 30.0
    """Silence after which an attempt has failed."""
    total_s: float = 12 * 3_600.0
    allow_private_network: bool = False
    """Also addresses of this machine and of private networks."""
    any_port: bool = False
    """Not only 443 and 8443."""


@dataclass(frozen=True, slots=True)
class Partial:
    """What is on disk of an interrupted download: bytes, and the entity tag that they are of."""

    size: int = 0
    etag: str = ""


@dataclass(frozen=True, slots=True)
class Ask:
    """A request to send."""

    target: Target
    headers: Mapping[str, str]


@dataclass(frozen=True, slots=True)
class Body:
    """The answer's body is to be written from ``offset`` on; what stands there goes."""

    offset: int


@dataclass(slots=True)
class Transfer:
    """One download, from its URL to its last byte.

    Args:
        url: as the operator gave it.
        partial: what an earlier run left.

    Raises:
        ImportRefusedError: the URL is not one to go to.
    """

    url: str
    limits: FetchLimits
    partial: Partial = field(default_factory=Partial)
    total: int | None = None
    done: bool = False
    _target: Target = field(init=False)
    _redirects: int = 0
    _failures: int = 0

    def __post_init__(self) -> None:
        self._target = parse_url(self.url, any_port=self.limits.any_port)
        if not self.partial.etag:
            self.partial = Partial()

    @property
    def received(self) -> int:
        """Bytes of the file that are there."""
        return self.partial.size

    def ask(self) -> Ask:
        """What to ask now."""
        headers = {"Accept": "*/*", "Accept-Encoding": "identity", "Connection": "close"}
        if self.partial.size:
            headers["Range"] = f"bytes={self.partial.size}-"
            headers["If-Range"] = self.partial.etag
        return Ask(self._target, headers)

    def answered(self, status: int, headers: Mapping[str, str]) -> Body | None:
        """What to do with an answer; None: ask again.

        Args:
            headers: names in lower case.

        Raises:
            ImportRefusedError, NotFoundError, UnauthorizedError, TooLargeError: give up.
            SourceUnavailableError: this attempt failed.
        """
        if status in _REDIRECTS:
            self._follow(headers.get("location", ""))
            return None
        if status == 416 and self.partial.size:
            self.partial = Partial()  # not the file that it was: from the start
            return None
        if status in (200, 206):
            return self._body(status, headers)
        where = self._target.shown
        if status in _RETRIED:
            raise SourceUnavailableError(f"{where} answered {status}")
        if status in (401, 403):
            raise UnauthorizedError(f"{where} wants credentials ({status}); an import sends none")
        if status in (404, 410):
            raise NotFoundError(f"there is nothing at {where} ({status})")
        raise ImportRefusedError(f"{where} answered {status}")

    def got(self, count: int) -> None:
        """``count`` bytes more have been written.

        Raises:
            TooLargeError: more than announced, or than the limit.
        """
        size = self.partial.size + count
        if size > self.limits.max_bytes or (self.total is not None and size > self.total):
            raise TooLargeError(f"{self._target.shown} sends more than it may: {size} B and on")
        self.partial = Partial(size, self.partial.etag)
        self._failures = 0

    def ended(self) -> None:
        """The body is over; :attr:`done` says whether the file is whole.

        Raises:
            SourceUnavailableError: bytes are missing.
        """
        if self.total is not None and self.partial.size < self.total:
            raise SourceUnavailableError(
                f"{self._target.shown} broke off at {self.partial.size} of {self.total} B"
            )
        self.done = True

    def failed(self, error: SourceUnavailableError) -> float:
        """An attempt failed; the next starts at the first URL again, after so many seconds.

        Raises:
            SourceUnavailableError: it was one too many.
        """
        self._failures += 1
        if self._failures >= self.limits.max_failures:
            raise error
        self._redirects = 0
        self._target = parse_url(self.url, any_port=self.limits.any_port)
        if not self.partial.etag:
            self.partial = Partial()
        return float(min(self.limits.max_pause_s, 0.5 * 2**self._failures))

    def _follow(self, location: str) -> None:
        self._redirects += 1
        if self._redirects > self.limits.max_redirects:
            raise ImportRefusedError(f"more than {self.limits.max_redirects} redirects")
        self._target = redirected(self._target, location, any_port=self.limits.any_port)

    def _body(self, status: int, headers: Mapping[str, str]) -> Body:
        if headers.get("content-encoding", "identity").lower() != "identity":
            raise ImportRefusedError(f"{self._target.shown} sends a file in an encoding")
        etag = headers.get("etag", "")
        strong = etag if _STRONG.fullmatch(etag) else ""
        if status == 206:
            self._resume(headers.get("content-range", ""), etag)
        else:
            self.total = self._length(headers)
            self.partial = Partial(0, strong)
        if self.total is not None and self.total > self.limits.max_bytes:
            raise TooLargeError(
                f"{self._target.shown} has {self.total} B; the limit is {self.limits.max_bytes} B"
            )
        return Body(self.partial.size)

    def _resume(self, text: str, etag: str) -> None:
        found = _RANGE.fullmatch(text)
        if not self.partial.size or found is None:
            raise ImportRefusedError(f"{self._target.shown} answered a range that was not asked")
        first, last, total = map(int, found.groups())
        if (first, last + 1) != (self.partial.size, total) or etag not in ("", self.partial.etag):
            raise ImportRefusedError(
                f"{self._target.shown} answered bytes {first}-{last} of {total}; asked was "
                f"{self.partial.size} to the end of the same file"
            )
        self.total = total

    def _length(self, headers: Mapping[str, str]) -> int | None:
        """What the body has; None where it says at its end that it is whole."""
        length = headers.get("content-length", "")
        chunked = headers.get("transfer-encoding", "").lower()
        if _LENGTH.fullmatch(length) and not chunked:
            return int(length)
        if not length and chunked == "chunked":
            return None
        if not length and not chunked:  # or the head broke off
            raise SourceUnavailableError(f"{self._target.shown} does not say how long the file is")
        raise ImportRefusedError(f"{self._target.shown} says in two ways how long the file is")
