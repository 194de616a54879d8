"""What a folder holds that is to become a static site: looked over, bounded, and named for caches.

Whatever would surprise somebody is refused and not left out: links that lead out of the folder or
to another folder, sockets and devices, names that cannot be addresses. Only hidden files stay
behind (``.git``, ``.env``), and how many of them is told.
"""

from __future__ import annotations

import os
import re
import stat
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase
from pathlib import Path, PurePosixPath

from origin.errors import PublishError
from origin.media_types import is_document, media_type
from wire.errors import NameInvalidError
from wire.manifest import MAX_STATIC_FILES
from wire.paths import file_path
from wire.static_file import StaticFile

_HASHED = re.compile(r"[-.]([A-Za-z0-9_-]{8,64})\.[A-Za-z0-9]{1,12}(?:\.map)?$")
_HEX = re.compile(r"[0-9a-f]{8,64}")
_BASE32 = re.compile(r"[A-Z2-7]{8}")


@dataclass(frozen=True, slots=True, kw_only=True)
class FolderLimits:
    """Bounds of a site. Sizes in bytes."""

    files: int = MAX_STATIC_FILES
    file_bytes: int = 2 * 10**9
    total_bytes: int = 20 * 10**9
    depth: int = 32


@dataclass(frozen=True, slots=True)
class SiteFile:
    """A file of a site."""

    file: Path
    path: str
    """Inside the site."""
    size: int
    static: StaticFile


@dataclass(frozen=True, slots=True)
class SiteFolder:
    """What a folder holds. ``hidden``: names that were left out because they begin with a dot."""

    files: tuple[SiteFile, ...]
    hidden: tuple[str, ...]


def read_folder(
    folder: Path, *, immutable: Sequence[str] = (), limits: FolderLimits | None = None
) -> SiteFolder:
    """Look a folder over; nothing is read but names and sizes.

    Args:
        immutable: shell patterns of files whose names change with their content, beside those that
            :func:`is_hashed` knows. A pattern without ``/`` also fits the last segment.

    Raises:
        NameInvalidError: a name that cannot be an address; says which.
        PublishError: it is no folder or cannot be read, is empty or too large, a pattern fits
            nothing, or something in it is no file that can be published.
    """
    bounds = limits or FolderLimits()
    root = folder.resolve()
    if not root.is_dir():
        raise PublishError(f"{folder} is not a folder; a static site is published as one")
    hidden: list[str] = []
    found: list[SiteFile] = []
    total = 0
    try:
        for path, size in _walk(root, root, "", bounds.depth, hidden):
            total += size
            _check_bounds(path, size, len(found) + 1, total, bounds)
            found.append(SiteFile(root / path, path, size, _static(path, immutable)))
    except OSError as error:
        raise PublishError(f"cannot read {error.filename}: {error.strerror}") from error
    if not found:
        raise PublishError(f"{folder} holds no files to publish")
    for pattern in immutable:
        if not any(_fits(one.path, pattern) for one in found):
            raise PublishError(f"no file fits {pattern!r}, which --immutable names")
    return SiteFolder(tuple(sorted(found, key=lambda one: one.path)), tuple(sorted(hidden)))


def is_hashed(path: str) -> bool:
    """Whether a name looks as bundlers make it: ``app-3f9a02bc.js``, ``app.BfX3k9aQ.css``.

    A file that is wrongly taken for one would be stale in browsers for a year, so a word
    (``user-settings.js``) and a date (``report-20240131.pdf``) are none, and a page never is.
    """
    found = _HASHED.search(PurePosixPath(path).name)
    if found is None or is_document(media_type(path)):
        return False
    hash_ = found[1]
    digits = sum(character.isdigit() for character in hash_)
    if not digits or digits == len(hash_):
        return False
    if _HEX.fullmatch(hash_) or _BASE32.fullmatch(hash_):
        return True
    return any(c.islower() for c in hash_) and any(c.isupper() for c in hash_)


def _static(path: str, immutable: Sequence[str]) -> StaticFile:
    named = any(_fits(path, pattern) for pattern in immutable)
    return StaticFile(type=media_type(path), immutable=named or is_hashed(path))


def _walk(
    folder: Path, root: Path, before: str, depth: int, hidden: list[str]
) -> Iterator[tuple[str, int]]:
    """The files below a folder with their sizes."""
    if depth < 0:
        raise PublishError(f"{before} lies too deep in the folder")
    with os.scandir(folder) as entries:
        listed = sorted(entries, key=lambda entry: entry.name)
    for entry in listed:
        path = f"{before}{entry.name}"
        if entry.name.startswith("."):
            hidden.append(path)
            continue
        try:
            file_path(path)
        except NameInvalidError as error:
            raise NameInvalidError(
                f"{path[:200]!r} cannot be an address: {error.message}"
            ) from None
        if entry.is_symlink():
            _check_link(Path(entry.path), root, path)
        if entry.is_dir():
            yield from _walk(Path(entry.path), root, f"{path}/", depth - 1, hidden)
            continue
        about = entry.stat()
        if not stat.S_ISREG(about.st_mode):
            raise PublishError(f"{path} is neither a file nor a folder")
        yield path, about.st_size


def _check_link(link: Path, root: Path, path: str) -> None:
    target = link.resolve()
    if not target.is_relative_to(root):
        raise PublishError(f"{path} is a link that leads out of the folder; put the file there")
    if not target.is_file():
        raise PublishError(f"{path} is a link to no file; a folder cannot stand twice in a site")
    if any(part.startswith(".") for part in target.relative_to(root).parts):
        raise PublishError(f"{path} is a link to a hidden file")


def _check_bounds(path: str, size: int, count: int, total: int, limits: FolderLimits) -> None:
    if count > limits.files:
        raise PublishError(f"the folder holds more than {limits.files} files")
    if size > limits.file_bytes:
        raise PublishError(f"{path} has {size} B; a file of a site has {limits.file_bytes} at most")
    if total > limits.total_bytes:
        raise PublishError(f"the files of a site have {limits.total_bytes} B at most, together")


def _fits(path: str, pattern: str) -> bool:
    return fnmatchcase(path, pattern) or fnmatchcase(PurePosixPath(path).name, pattern)
