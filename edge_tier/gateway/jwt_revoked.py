"""Tokens and subjects that are ended before they expire, in a file that is followed."""

from __future__ import annotations

from pathlib import Path

import msgspec
import structlog

from edge_tier.gateway.private_files import file_signature, read_private
from wire.errors import ConfigError

MAX_REVOKED_BYTES = 16 * 1024 * 1024

_log = structlog.get_logger("auth")


class Revoked(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What is ended: tokens by their ``jti``, and all tokens of a subject by its ``sub``."""

    jti: frozenset[str] = frozenset()
    sub: frozenset[str] = frozenset()


class RevokedTokens:
    """The list in force. ``lists`` is replaced whole, so that a change is seen by identity.

    A file that turns unreadable or goes away is reported once, and the last list stays in force.

    Args:
        path: may not be there yet: nothing is revoked then. None: nothing ever is.

    Raises:
        ConfigError: the file is there and cannot be used.
    """

    def __init__(self, path: Path | None) -> None:
        self._path = path
        self._seen: tuple[int, int, int] | None = None
        self.lists = Revoked()
        self._follow()

    def holds(self, subject: str, token_id: str) -> bool:
        """Whether this token is ended."""
        return subject in self.lists.sub or (bool(token_id) and token_id in self.lists.jti)

    def look(self) -> None:
        """Take over a changed file. Never raises."""
        try:
            self._follow()
        except ConfigError as error:
            _log.error("revoked tokens unusable, the last list holds", reason=error.message)

    def _follow(self) -> None:
        if self._path is None:
            return
        signature = file_signature(self._path)
        if signature == self._seen:
            return
        self._seen = signature
        data = read_private(self._path, limit_bytes=MAX_REVOKED_BYTES)
        try:
            self.lists = msgspec.json.decode(data, type=Revoked)
        except (msgspec.DecodeError, UnicodeDecodeError) as error:
            raise ConfigError(f"{self._path}: not a list of revoked tokens: {error}") from None
