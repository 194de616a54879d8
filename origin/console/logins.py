"""The logins that hold: who they are of, as far as one can tell, and which are over. Pure.

A table of them stands in the store, for all origins there under one token. An origin changes it by
what it did since it wrote last (:class:`Changes`), laid over whatever stands there by then.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Annotated

import msgspec
from msgspec import Meta

from origin.console.config import MAX_LOGINS
from wire.workers import Moment

FORMAT = "headwater.logins/1"
MAX_TABLE_BYTES = 1024 * 1024
_READ_CHARS = 512
"""Of what a browser says of itself."""
_BROWSERS = (
    ("Edg", "Edge"),
    ("OPR/", "Opera"),
    ("SamsungBrowser/", "Samsung Internet"),
    ("Firefox/", "Firefox"),
    ("FxiOS/", "Firefox"),
    ("CriOS/", "Chrome"),
    ("HeadlessChrome/", "Chrome without a window"),
    ("Chrome/", "Chrome"),
    ("Safari/", "Safari"),
    ("curl/", "curl"),
)
"""What names it → its name. Each names those after it as well, so the order counts."""
_SYSTEMS = (
    ("Android", "Android"),
    ("iPhone", "iPhone"),
    ("iPad", "iPad"),
    ("CrOS", "ChromeOS"),
    ("Windows", "Windows"),
    ("Mac OS X", "macOS"),
    ("Linux", "Linux"),
)
_NETWORK_BITS = {4: 24, 6: 48}


class Login(msgspec.Struct, frozen=True, kw_only=True):
    """One login. Moments in seconds since 1970."""

    id: Annotated[str, Meta(min_length=1, max_length=32)]
    """What its cookie is told by; without its MAC it opens nothing."""
    made: Moment
    until: Moment
    seen: Moment
    """When it was used last, to about a minute."""
    browser: Annotated[str, Meta(max_length=64)] = ""
    address: Annotated[str, Meta(max_length=128)] = ""


class Table(msgspec.Struct, frozen=True, kw_only=True):
    """What stands in the store."""

    format: str = FORMAT
    logins: Annotated[tuple[Login, ...], Meta(max_length=MAX_LOGINS)] = ()


_decode = msgspec.json.Decoder(Table).decode


def decode_table(data: bytes) -> dict[str, Login]:
    """The logins of a table, by id.

    Raises:
        ValueError: it is damaged, or of a version that this one does not know.
    """
    try:
        table = _decode(data)
    except (msgspec.DecodeError, RecursionError) as error:
        raise ValueError(str(error)) from error
    if table.format != FORMAT:
        raise ValueError(f"format {table.format[:40]!r}")
    return {login.id: login for login in table.logins}


def encode_table(logins: Mapping[str, Login]) -> bytes:
    """The same as JSON; equal tables give equal bytes."""
    rows = sorted(logins.values(), key=lambda login: (login.made, login.id))
    return msgspec.json.encode(Table(logins=tuple(rows)))


@dataclass(slots=True)
class Changes:
    """What happened here since the table was written last."""

    added: dict[str, Login] = field(default_factory=dict)
    ended: set[str] = field(default_factory=set)
    seen: dict[str, float] = field(default_factory=dict)

    def __bool__(self) -> bool:
        """Whether something waits that others must know; when a login was used can wait."""
        return bool(self.added or self.ended)

    def less(self, written: Changes) -> Changes:
        """What is left after ``written`` has been."""
        return Changes(
            {id: one for id, one in self.added.items() if id not in written.added},  # noqa: A001
            self.ended - written.ended,
            {id: at for id, at in self.seen.items() if written.seen.get(id) != at},  # noqa: A001
        )

    def copy(self) -> Changes:
        """As it is now."""
        return Changes(dict(self.added), set(self.ended), dict(self.seen))


def changed(
    stored: Mapping[str, Login], changes: Changes, *, now: float, most: int
) -> dict[str, Login]:
    """A table with changes laid over it. To end a login wins over all else, and what stands in no
    table is not brought back by having been used.

    Args:
        most: so many hold; of more, those that were used last longest ago are over.
    """
    rows = {**stored, **changes.added}
    for id, at in changes.seen.items():  # noqa: A001
        if id in rows and at > rows[id].seen:
            rows[id] = msgspec.structs.replace(rows[id], seen=at)
    left = [row for id, row in rows.items() if id not in changes.ended and row.until > now]  # noqa: A001
    left.sort(key=lambda row: (row.seen, row.made, row.id), reverse=True)
    return {row.id: row for row in left[:most]}


def browser_words(agent: str) -> str:
    """What browser and system a ``User-Agent`` speaks of: words of ours alone, whatever it says."""
    said = agent[:_READ_CHARS]
    browser = _first(said, _BROWSERS) or "Another browser"
    system = _first(said, _SYSTEMS)
    return f"{browser} on {system}" if system else browser


def address_words(peer: str | None, forwarded: str = "") -> str:
    """From where somebody came, shortened to the network (/24, /48): enough to tell the office from
    elsewhere.

    Args:
        peer: of the connection.
        forwarded: ``X-Forwarded-For``. Its last address is what the nearest proxy saw, if there
            is one; whoever connects without a proxy may write anything here, so the peer is named
            too.
    """
    near = _network(peer or "")
    told = _network(forwarded[-_READ_CHARS:].rpartition(",")[2].strip())
    return f"{told} by way of {near or 'a proxy'}" if told else near


def oldest_first(logins: Iterable[Login]) -> list[Login]:
    """By when they were made."""
    return sorted(logins, key=lambda login: (login.made, login.id))


def _first(said: str, table: tuple[tuple[str, str], ...]) -> str:
    return next((words for part, words in table if part in said), "")


def _network(text: str) -> str:
    try:
        address = ipaddress.ip_address(text)
    except ValueError:
        return ""
    mapped = getattr(address, "ipv4_mapped", None)
    address = mapped or address
    if address.is_loopback:
        return "this machine"
    return str(ipaddress.ip_network((address.packed, _NETWORK_BITS[address.version]), strict=False))
