"""Which URLs and addresses an import may go to. No I/O here.

A URL is read by one strict grammar, and what is outside of it is refused, so that no two readers
can see two hosts in it. Only addresses of the public Internet are gone to (IANA special-purpose
registries for IPv4 and IPv6), unless the operator allows private networks.
"""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from urllib.parse import urljoin

from origin.errors import ImportRefusedError

MAX_URL_CHARACTERS = 8_192
HTTPS_PORT = 443
_PORTS = frozenset((HTTPS_PORT, 8443))

_URL = re.compile(
    r"(?P<scheme>[A-Za-z][A-Za-z0-9+.-]*)://"
    r"(?P<host>\[[0-9A-Fa-f:.]+\]|[A-Za-z0-9.-]+)"
    r"(?::(?P<port>[1-9][0-9]{0,4}))?"
    r"(?P<path>/(?:[A-Za-z0-9._~!$&'()*+,;=:@/-]|%[0-9A-Fa-f]{2})*)?"
    r"(?P<query>\?(?:[A-Za-z0-9._~!$&'()*+,;=:@/?\[\]-]|%[0-9A-Fa-f]{2})*)?"
)
"""RFC 3986 without user information, fragment and names that are no DNS names."""
_LABEL = re.compile(r"[a-z0-9](?:[a-z0-9-]{0,61}[a-z0-9])?")
_HIDDEN = re.compile(r"%(?:[01][0-9a-f]|2e|2f|5c|7f|25)", re.IGNORECASE)
"""Encoded controls, dots, slashes, backslashes and percent signs in a path."""

_CLOSED_IPV4 = tuple(
    ipaddress.IPv4Network(text)
    for text in (
        "0.0.0.0/8", "10.0.0.0/8", "100.64.0.0/10", "127.0.0.0/8", "169.254.0.0/16",
        "172.16.0.0/12", "192.0.0.0/24", "192.0.2.0/24", "192.31.196.0/24", "192.52.193.0/24",
        "192.88.99.0/24", "192.168.0.0/16", "192.175.48.0/24", "198.18.0.0/15",
        "198.51.100.0/24", "203.0.113.0/24", "224.0.0.0/4", "240.0.0.0/4",
    )
)  # fmt: skip
_OPEN_IPV6 = ipaddress.IPv6Network("2000::/3")
"""All that IANA gives out for unicast. NAT64, mapped, unique local and link-local lie outside."""
_CLOSED_IPV6 = tuple(
    ipaddress.IPv6Network(text)
    for text in ("2001::/23", "2001:db8::/32", "2002::/16", "2620:4f:8000::/48", "3fff::/20")
)


@dataclass(frozen=True, slots=True)
class Target:
    """What a URL names. ``host`` as it stands in the Host header; ``path`` with its query."""

    host: str
    port: int
    path: str

    @property
    def url(self) -> str:
        """The URL in one form."""
        port = "" if self.port == HTTPS_PORT else f":{self.port}"
        return f"https://{self.host}{port}{self.path}"

    @property
    def shown(self) -> str:
        """The URL without its query, which may be a secret."""
        return self.url.partition("?")[0]

    @property
    def address(self) -> str:
        """The host where it is an address, without brackets; else empty."""
        text = self.host.strip("[]")
        return text if _is_address(text) else ""


def parse_url(text: str, *, any_port: bool = False) -> Target:
    """Read a URL that an import may ask for.

    Args:
        any_port: not only 443 and 8443.

    Raises:
        ImportRefusedError: not https, or not of the strict form; says why.
    """
    if len(text) > MAX_URL_CHARACTERS:
        raise ImportRefusedError(f"the URL has {len(text)} characters, not {MAX_URL_CHARACTERS}")
    found = _URL.fullmatch(text)
    if found is None:
        raise ImportRefusedError(
            "the URL is not https://HOST[:PORT]/PATH of plain characters: no user name, no "
            "backslash, no fragment, nothing that would have to be guessed"
        )
    if found["scheme"].lower() != "https":
        raise ImportRefusedError(f"{found['scheme']}: is refused; an import goes by https only")
    port = int(found["port"] or HTTPS_PORT)
    if port > 65_535 or (port not in _PORTS and not any_port):
        raise ImportRefusedError(f"port {port} is refused; an import goes to 443 or 8443")
    path = found["path"] or "/"
    if _HIDDEN.search(path) or {".", ".."} & set(path.split("/")):
        raise ImportRefusedError("the URL's path holds dots, slashes or controls in disguise")
    return Target(_host(found["host"].lower()), port, path + (found["query"] or ""))


def redirected(target: Target, location: str, *, any_port: bool = False) -> Target:
    """Where an answer from ``target`` sends the client, checked like the first URL.

    Raises:
        ImportRefusedError: as :func:`parse_url`.
    """
    if not location or not location.isascii() or not location.isprintable() or "\\" in location:
        raise ImportRefusedError("a redirect without a plain Location is refused")
    try:
        joined = urljoin(target.url, location)
    except ValueError as error:
        raise ImportRefusedError("a redirect's Location is no URL") from error
    return parse_url(joined, any_port=any_port)


def is_public(address: str) -> bool:
    """Whether an address is one of the public Internet's unicast addresses."""
    try:
        parsed = ipaddress.ip_address(address)
    except ValueError:
        return False
    if isinstance(parsed, ipaddress.IPv4Address):
        return not any(parsed in network for network in _CLOSED_IPV4)
    return parsed in _OPEN_IPV6 and not any(parsed in network for network in _CLOSED_IPV6)


def check_addresses(
    found: Iterable[str], host: str, allowed: Callable[[str], bool] = is_public
) -> tuple[str, ...]:
    """The addresses of a host, all of which an import may go to.

    One that it may not go to refuses them all: a name that means both is no accident.

    Raises:
        ImportRefusedError: there is none, or one is refused.
    """
    addresses = tuple(dict.fromkeys(found))
    if not addresses:
        raise ImportRefusedError(f"{host} has no address")
    for address in addresses:
        if not allowed(address):
            raise ImportRefusedError(
                f"{host} is at {address[:60]}, which is not on the public Internet; if that is "
                "meant, give --allow-private-network"
            )
    return addresses


def _host(text: str) -> str:
    """A DNS name, or an address in its only form."""
    bare = text.strip("[]")
    if bare != text or _is_number(text.rpartition(".")[2]):
        if not _is_address(bare) or (":" in bare) != (bare != text):
            raise ImportRefusedError(f"{text[:60]} is neither a DNS name nor an address")
        address = ipaddress.ip_address(bare)
        return f"[{address.compressed}]" if address.version == 6 else str(address)
    if len(text) > 253 or not all(_LABEL.fullmatch(label) for label in text.split(".")):
        raise ImportRefusedError(f"{text[:60]} is no DNS name")
    return text


def _is_number(label: str) -> bool:
    """Whether some reader could take a last label for a part of an IPv4 address."""
    return bool(re.fullmatch(r"[0-9]+|0x[0-9a-f]*", label)) or not label


def _is_address(text: str) -> bool:
    try:
        ipaddress.ip_address(text)
    except ValueError:
        return False
    return "%" not in text
