"""Configuration of the console: table ``[origin.console]``."""

from __future__ import annotations

from dataclasses import dataclass
from urllib.parse import urlsplit

from wire.errors import ConfigError

MAX_LOGINS = 1_024
"""What a table of logins may hold at most."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ConsoleConfig:
    """What the console shows, to how many, and where its playground may send prompts."""

    enabled: bool = True
    """False: there is nothing at ``/console``."""
    interval_ms: int = 500
    """Between two looks at the fleet, while somebody watches. A look that takes long makes the next
    one wait, so that all of them take at most a fifth of one core."""
    idle_s: float = 5.0
    """Between two samples of the edges' counters while nobody watches, so that whoever comes sees
    rates at once."""
    max_viewers: int = 64
    """Live streams at once."""
    backlog_looks: int = 16
    """How many looks a viewer may be behind; one that is further gets the whole state again."""
    ping_s: float = 10.0
    """Silence after which a comment is sent."""
    write_timeout_s: float = 30.0
    """A viewer, or a page with an answer of the playground, that takes nothing for so long is given
    up."""
    session_s: float = 43_200.0
    """How long a login holds."""
    max_logins: int = 64
    """Logins that hold at once; one more ends the one that was used last longest ago."""
    secure_cookie: bool = False
    """Mark the cookie as one for https alone, also where the request does not say that it came by
    https (``X-Forwarded-Proto``)."""
    login_tries: int = 10
    """Wrong tokens that are answered and logged at once, of all clients together; whoever has the
    token is let in also after more."""
    login_tries_per_minute: float = 10.0
    """How soon there may be more."""
    edges: tuple[str, ...] = ()
    """URLs of the edges that the playground may ask. Only these: what an edge says of itself is not
    believed. Empty: there is no playground."""
    connect_timeout_s: float = 5.0
    """To such an edge."""
    answer_timeout_s: float = 600.0
    """For a whole answer of the playground."""
    silence_timeout_s: float = 120.0
    """Within an answer."""
    max_prompt_bytes: int = 1024 * 1024
    """Of a request of the playground; a larger one is refused (413)."""
    max_answer_bytes: int = 16 * 1024 * 1024
    """Of an answer of the playground; a longer one is broken off."""
    max_chats: int = 16
    """Answers of the playground at once."""

    def __post_init__(self) -> None:
        if min(self.interval_ms, self.session_s, self.max_viewers, self.backlog_looks) < 1:
            raise ConfigError(
                "origin.console: interval_ms, session_s, max_viewers and backlog_looks are at "
                "least 1"
            )
        if not 1 <= self.max_logins <= MAX_LOGINS:
            raise ConfigError(f"origin.console: max_logins is 1 to {MAX_LOGINS}")
        for url in self.edges:
            parts = urlsplit(url)
            host = parts.hostname and parts.netloc == parts.netloc.rpartition("@")[2]
            if parts.scheme not in {"http", "https"} or not host or parts.path.strip("/"):
                raise ConfigError(
                    f"origin.console.edges: {url!r} is not http[s]://host[:port] without a path"
                )
