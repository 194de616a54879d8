"""A static site as it is served: its files by address, and what is always said of them. Pure.

An address is a file's path; that of a folder, with a slash at its end, is its ``index.html``. Every
address has one file and perhaps compressed forms of it, which are chosen by what the client takes.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass

from wire.channel import MAX_PREVIOUS
from wire.content_coding import IDENTITY, choose
from wire.errors import ConfigError, HeadwaterError
from wire.manifest import FileEntry, Manifest
from wire.paths import DEFAULT_CHANNEL, channel_name
from wire.static_file import STATIC, StaticFile

INDEX = "index.html"
NOT_FOUND_PAGE = "404.html"
_HEADER_VALUE = re.compile(r"[\x20-\x7e]{0,2048}")


@dataclass(frozen=True, slots=True, kw_only=True)
class AssetsConfig:
    """How static sites are served under ``/assets``. An empty header is not sent."""

    enabled: bool = True
    """False: there is nothing at ``/assets``."""
    channel: str = DEFAULT_CHANNEL
    """What an address means that names no channel."""
    max_age_s: int = 5
    """How long caches may keep a file whose name does not change with its content, unasked."""
    stale_while_revalidate_s: int = 30
    """How much longer they may give it out while they ask (RFC 5861)."""
    stale_if_error_s: int = 86_400
    """How much longer they may give it out where they get no answer."""
    keep_previous: int = 2
    """Revisions before the current one whose never-changing files are still given to pages that
    were opened before a roll: 0 to 4."""
    max_not_found_bytes: int = 256 * 1024
    """A larger ``404.html`` is not sent."""
    held_file_bytes: int = 64 * 1024
    """Files up to this size are kept in memory; larger ones are sent from the disk's cache."""
    held_bytes: int = 32 * 1024 * 1024
    """Of all files that are kept so; 0: none."""
    sites_held: int = 16
    """Revisions whose addresses are kept in memory."""
    content_security_policy: str = (
        "default-src 'self'; base-uri 'self'; object-src 'none'; form-action 'self'; "
        "frame-ancestors 'self'"
    )
    """Of where pages may load from, and who may frame them."""
    cross_origin_opener_policy: str = "same-origin"
    """Whether windows of other sites that open a page may reach into it."""
    cross_origin_resource_policy: str = "same-origin"
    """Whether pages of other sites may embed the files: ``cross-origin`` lets them."""
    cross_origin_embedder_policy: str = ""
    """``require-corp``, with the opener's policy, gives pages ``SharedArrayBuffer``."""
    access_control_allow_origin: str = ""
    """``*`` lets scripts of other sites read the files; fonts and modules need it there."""
    referrer_policy: str = "strict-origin-when-cross-origin"
    """What links from a page tell other sites of its address."""

    def __post_init__(self) -> None:
        channel_name(self.channel)
        ages = (self.max_age_s, self.stale_while_revalidate_s, self.stale_if_error_s)
        if not all(0 <= age <= 31_536_000 for age in ages):
            raise ConfigError("assets: an age is from 0 to 31536000 s (a year)")
        if not 0 <= self.keep_previous <= MAX_PREVIOUS:
            raise ConfigError(f"assets.keep_previous is from 0 to {MAX_PREVIOUS}")
        if self.held_bytes < 0 or self.held_file_bytes < 0:
            raise ConfigError("assets.held_bytes and held_file_bytes are at least 0")
        if self.sites_held < 1:
            raise ConfigError("assets.sites_held is at least 1")
        for name, value in self._policies().items():
            if not _HEADER_VALUE.fullmatch(value):
                raise ConfigError(f"assets: {name} is one line of printable ASCII, 2048 B at most")

    @property
    def moving(self) -> str:
        """``Cache-Control`` of a public file whose name does not change with its content."""
        return (
            f"public, max-age={self.max_age_s}, "
            f"stale-while-revalidate={self.stale_while_revalidate_s}, "
            f"stale-if-error={self.stale_if_error_s}"
        )

    def headers(self) -> dict[str, str]:
        """What is said with every file. A type is what the publisher said, and never guessed."""
        policies = {name: value for name, value in self._policies().items() if value}
        return {"X-Content-Type-Options": "nosniff", **policies}

    def _policies(self) -> dict[str, str]:
        return {
            "Content-Security-Policy": self.content_security_policy,
            "Cross-Origin-Opener-Policy": self.cross_origin_opener_policy,
            "Cross-Origin-Resource-Policy": self.cross_origin_resource_policy,
            "Cross-Origin-Embedder-Policy": self.cross_origin_embedder_policy,
            "Access-Control-Allow-Origin": self.access_control_allow_origin,
            "Referrer-Policy": self.referrer_policy,
        }


class NotAcceptableError(HeadwaterError):
    """The client takes the content neither as it is nor in any form that there is."""

    status = 406
    code = "not_acceptable"


@dataclass(frozen=True, slots=True)
class Resource:
    """What stands at an address: the file, and its compressed forms by coding, smallest first."""

    entry: FileEntry
    static: StaticFile
    coded: Mapping[str, FileEntry]

    def select(
        self, accept_encoding: str | None, *, ranged: bool = False, if_range: str | None = None
    ) -> tuple[FileEntry, str]:
        """The form that a client is given, and its coding (``identity``: the file as it is).

        Args:
            ranged: part of it is wanted. That is a part of the file, unless the client names by
                ``if_range`` the form of which it has the rest (RFC 9110 section 13.1.5).

        Raises:
            NotAcceptableError: the client takes none of them.
        """
        coding = choose(accept_encoding, tuple(self.coded))
        if ranged and coding is not None and coding != IDENTITY:
            coding = next(
                (name for name, e in self.coded.items() if if_range == f'"{e.sha256}"'),
                choose(accept_encoding, ()),
            )
        if coding is None:
            raise NotAcceptableError("the content is not to be had in a coding that is acceptable")
        return self.coded.get(coding, self.entry), coding


@dataclass(frozen=True, slots=True)
class Site:
    """A revision of a static site."""

    resources: Mapping[str, Resource]

    def at(self, path: str) -> Resource | None:
        """What stands at an address, relative to the site's."""
        if not path or path.endswith("/"):
            path += INDEX
        return self.resources.get(path)

    def is_folder(self, path: str) -> bool:
        """Whether the address lacks only the slash at its end."""
        return f"{path}/{INDEX}" in self.resources


def site_of(manifest: Manifest) -> Site | None:
    """The addresses of a revision; None where it is no static site."""
    if manifest.kind != STATIC:
        return None
    forms: dict[str, list[FileEntry]] = {}
    for entry in manifest.files:
        if entry.static is not None and entry.static.coding:
            forms.setdefault(entry.path.rpartition(".")[0], []).append(entry)
    resources = {}
    for entry in manifest.files:
        if entry.static is not None and not entry.static.coding:
            smallest_first = sorted(forms.get(entry.path, ()), key=lambda e: (e.size, e.path))
            coded: dict[str, FileEntry] = {
                e.static.coding: e for e in smallest_first if e.static is not None
            }
            resources[entry.path] = Resource(entry, entry.static, coded)
    return Site(resources)
