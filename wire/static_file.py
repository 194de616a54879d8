"""What a manifest says of a file of a static site, beside its bytes. Pure.

A compressed form of a file is a file of its own that stands beside it under the name that web
servers expect (``app.js`` and ``app.js.br``), so a site that was pulled to a disk can be served by
any of them. It is never an address of its own under ``/assets``.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Literal

import msgspec

from wire.errors import ManifestInvalidError

MODEL: Literal["model"] = "model"
STATIC: Literal["static"] = "static"
"""The kinds of a revision (``wire.manifest.Kind``)."""

Coding = Literal["", "gzip", "br", "zstd"]
"""A content coding (RFC 9110 section 8.4.1, RFC 7932, RFC 8878); empty: the file as it is."""
SUFFIXES: Mapping[Coding, str] = {"gzip": ".gz", "br": ".br", "zstd": ".zst"}
"""How the name of a compressed form ends."""

MAX_TYPE_CHARS = 127
_NAME = r"[A-Za-z0-9][A-Za-z0-9!#$&^_.+-]{0,63}"
_MEDIA_TYPE = re.compile(rf"{_NAME}/{_NAME}(?:; charset=utf-8)?")


class StaticFile(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """How a browser is given a file."""

    type: str
    """The media type, perhaps with ``; charset=utf-8``; of a compressed form that of its original
    (RFC 9110 section 8.3)."""
    coding: Coding = ""
    immutable: bool = False
    """The name changes with the content, so whoever has it need never ask again."""


def check_static_files(files: Mapping[str, StaticFile | None]) -> None:
    """Check what a static site says of its files.

    The type becomes a header, so it can hold nothing that would end one.

    Raises:
        ManifestInvalidError: a file without it, a media type that is none, or a compressed form
            that does not belong to a file beside it.
    """
    for path, static in files.items():
        if static is None:
            raise ManifestInvalidError(f"{path}: a file of a static site has a media type")
        if len(static.type) > MAX_TYPE_CHARS or not _MEDIA_TYPE.fullmatch(static.type):
            raise ManifestInvalidError(f"{path}: {static.type[:80]!r} is no media type")
        if static.coding:
            _check_coded(path, static, files)


def _check_coded(path: str, coded: StaticFile, files: Mapping[str, StaticFile | None]) -> None:
    suffix = SUFFIXES[coded.coding]
    original = files.get(path.removesuffix(suffix)) if path.endswith(suffix) else None
    if original is None or original.coding:
        raise ManifestInvalidError(f"{path}: there is no file that it is the {coded.coding} of")
    if (original.type, original.immutable) != (coded.type, coded.immutable):
        raise ManifestInvalidError(f"{path}: says otherwise of itself than the file it stands for")
