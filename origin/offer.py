"""What a publisher offers: files on this disk, and where they will stand in the revision.

Which kinds of files are taken at all is decided here, by name, for folders and for imports alike:
weights that hold nothing but numbers, and the small texts that belong to them. Whatever could run
on the machine that loads it (pickles, scripts, libraries) is not taken.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase
from pathlib import Path, PurePosixPath
from typing import Literal

from origin.errors import PublishError
from wire.manifest import MAX_FILES, FileRole

GGUF_SUFFIX = ".gguf"
SAFETENSORS_SUFFIX = ".safetensors"
Kind = Literal["weights", "text", "refused"]

_TEXT_SUFFIXES = frozenset(
    (".json", ".jinja", ".md", ".model", ".tiktoken", ".txt", ".vocab", ".yaml", ".yml")
)
_LICENCES = ("license", "licence", "notice", "copying", "use_policy", "use-policy")
_SPLIT = re.compile(r"(?P<stem>.+)-(?P<number>\d{5})-of-(?P<count>\d{5})(?P<suffix>\.\w+)")


@dataclass(frozen=True, slots=True, kw_only=True)
class LocalFile:
    """A file to publish."""

    file: Path
    """Where it is now."""
    path: str
    """Its path inside the revision (``wire.paths.file_path``)."""
    role: FileRole = "weights"
    variant: str = ""
    """The variant of the weights it belongs to (``Q4_K_M``); empty: it belongs to all."""
    sha256: str = ""
    """What the file must be, where its source announced it; empty: nobody did."""


@dataclass(frozen=True, slots=True)
class Part:
    """One file of several that are one (``name-00002-of-00003.gguf``)."""

    stem: str
    number: int
    count: int
    suffix: str

    def names(self) -> Iterator[str]:
        """The names of all parts, in order."""
        for number in range(1, self.count + 1):
            yield f"{self.stem}-{number:05d}-of-{self.count:05d}{self.suffix}"


def part_of(path: str) -> Part | None:
    """What the name says of a file in parts, or None where it is whole."""
    found = _SPLIT.fullmatch(path)
    if found is None:
        return None
    return Part(found["stem"], int(found["number"]), int(found["count"]), found["suffix"])


def kind_of(path: str) -> Kind:
    """Whether a file is taken, and as what, by its name."""
    name = PurePosixPath(path).name.lower()
    suffix = PurePosixPath(name).suffix
    if suffix in (GGUF_SUFFIX, SAFETENSORS_SUFFIX):
        return "weights"
    licence = name.startswith(_LICENCES) and suffix in ("", *_TEXT_SUFFIXES)
    return "text" if licence or suffix in _TEXT_SUFFIXES else "refused"


def role_of(path: str) -> FileRole:
    """The role of a file that is taken. The edge's own two files are made, not taken over."""
    return "weights" if kind_of(path) == "weights" else "other"


def chosen(paths: Iterable[str], include: Sequence[str] = ()) -> tuple[str, ...]:
    """Those of a folder's files that are published, sorted.

    Args:
        include: shell patterns; only what one of them fits is chosen. A pattern without ``/`` also
            fits the last segment. None: everything that is taken.

    Raises:
        PublishError: a pattern fits nothing; what it names is of a kind that is not taken; or no
            weights are left.
    """
    known = sorted(paths)
    found = {path for path in known if not include and kind_of(path) != "refused"}
    for pattern in include:
        fitting = [path for path in known if _fits(path, pattern)]
        if not fitting:
            raise PublishError(f"no file fits {pattern!r}")
        found.update(fitting)
    for path in found:
        if kind_of(path) == "refused":
            raise PublishError(refusal(path))
    if not any(kind_of(path) == "weights" for path in found):
        others = [path for path in known if kind_of(path) == "refused"]
        hint = f"; {refusal(others[0])}" if others else ""
        raise PublishError(f"there are no weights in GGUF or safetensors{hint}")
    return tuple(sorted(found))


def refusal(path: str) -> str:
    """Why a file is not taken."""
    return (
        f"{path[:200]} is not taken: weights come as GGUF or safetensors, and beside them only "
        "texts; pickles and scripts could run code on the machines that load them"
    )


def whole(path: str, known: Iterable[str]) -> tuple[str, ...]:
    """A file with the other parts of it, where it is one of several.

    Raises:
        PublishError: it is not known, is not taken, or parts are missing.
    """
    names = set(known)
    if path not in names:
        raise PublishError(f"there is no file {path[:200]!r}")
    if kind_of(path) == "refused":
        raise PublishError(refusal(path))
    part = part_of(path)
    if part is None:
        return (path,)
    if not 0 < part.number <= part.count <= MAX_FILES:
        raise PublishError(f"{path[:200]} is part {part.number} of {part.count}")
    wanted = tuple(part.names())
    missing = [name for name in wanted if name not in names]
    if missing:
        raise PublishError(f"{missing[0]} is missing; {part.stem} has {part.count} parts")
    return wanted


def from_disk(source: Path, include: Sequence[str] = ()) -> tuple[LocalFile, ...]:
    """What is published of a file (with all its parts) or of a folder.

    Hidden files are left out, and links to folders are not followed.

    Args:
        include: as for :func:`chosen`; for a folder only.

    Raises:
        PublishError: as :func:`chosen` and :func:`whole`, or the folder cannot be read.
    """
    try:
        if not source.is_dir():
            folder, paths = source.parent, _beside(source)
        else:
            folder, paths = source, chosen(_listed(source), include)
    except OSError as error:
        raise PublishError(f"cannot read {source}: {error.strerror}") from error
    return tuple(LocalFile(file=folder / path, path=path, role=role_of(path)) for path in paths)


def _beside(file: Path) -> tuple[str, ...]:
    if part_of(file.name) is None or not file.is_file():
        return whole(file.name, (file.name,))
    return whole(file.name, (path.name for path in file.parent.iterdir()))


def _listed(folder: Path) -> Iterator[str]:
    for path in sorted(folder.iterdir()):
        if path.name.startswith("."):
            continue
        if path.is_file():
            yield path.name
        elif path.is_dir() and not path.is_symlink():
            yield from (f"{path.name}/{inner}" for inner in _listed(path))


def _fits(path: str, pattern: str) -> bool:
    return fnmatchcase(path, pattern) or fnmatchcase(PurePosixPath(path).name, pattern)
