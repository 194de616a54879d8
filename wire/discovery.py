"""Servers behind one name: ``dns+http://NAME:PORT`` stands for every address that NAME has.

A worker must be heard by each edge and not by one of them, whichever a load balancer picks; where
edges come and go, nobody can write a list. A headless Service of Kubernetes, or any name with
several A and AAAA records, is that list.
"""

from __future__ import annotations

import socket
from collections.abc import Callable, Sequence
from urllib.parse import urlsplit

import structlog

from wire.errors import ConfigError

PREFIX = "dns+"
MAX_ADDRESSES = 128
"""Of one name: each costs a thread and a connection."""

Resolve = Callable[[str, int], Sequence[str]]
"""The addresses of a host, without duplicates. Raises ``OSError`` where there is none now."""


def resolve(host: str, port: int) -> Sequence[str]:
    """Ask the system (getaddrinfo(3)). Blocks; raises ``OSError``."""
    found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    return list(dict.fromkeys(str(address[0]) for *_, address in found))


class Name:
    """One such URL, and the addresses that were found last.

    Args:
        url: ``dns+http://NAME[:PORT]``. There is no ``dns+https``: a certificate names a host, and
            what is connected to here is an address.

    Raises:
        ConfigError: the URL is not of that form.
    """

    def __init__(self, url: str, resolve: Resolve = resolve) -> None:
        try:
            parts = urlsplit(url.removeprefix(PREFIX))
            host, port = parts.hostname, parts.port or 80
        except ValueError:
            host, port = None, 0
        shown = f"{PREFIX}…@{url.rpartition('@')[2]}" if "@" in url else url
        if (
            host is None
            or parts.scheme != "http"
            or parts.path.strip("/")
            or parts.query
            or "@" in parts.netloc  # a password that would be dropped, and missed later
        ):
            raise ConfigError(f"a URL to look up must be dns+http://name[:port], not {shown!r}")
        self._host, self._port = host, port
        self._resolve = resolve
        self._found: tuple[str, ...] = ()
        self._log = structlog.get_logger("discovery")

    def look(self) -> tuple[str, ...]:
        """The URLs behind the name, sorted; those of before where it cannot be looked up now: a
        name server that is away must not take the servers with it. Blocks."""
        try:
            addresses = sorted(self._resolve(self._host, self._port))
        except OSError as error:
            if self._found:
                self._log.warning("not looked up", host=self._host, why=str(error))
            return self._found
        found = tuple(self._url(address) for address in addresses[:MAX_ADDRESSES])
        if found != self._found:
            self._log.info("looked up", host=self._host, addresses=len(addresses))
        self._found = found
        return found

    def _url(self, address: str) -> str:
        shown = f"[{address}]" if ":" in address else address
        return f"http://{shown}:{self._port}"


def split(urls: Sequence[str]) -> tuple[list[str], list[str]]:
    """Those that name a server, and those that are to be looked up."""
    named = [url for url in urls if url.startswith(PREFIX)]
    return [url for url in urls if not url.startswith(PREFIX)], named
