"""How two revisions differ: what a machine that has one must fetch for the other. Pure."""

from __future__ import annotations

from typing import Literal

import msgspec

from wire.manifest import FileEntry, Manifest

Change = Literal["new", "removed", "changed", "same"]


class FileDiff(msgspec.Struct, frozen=True, kw_only=True):
    """A file of either revision. Sizes in bytes."""

    path: str
    change: Change
    size_a: int
    size_b: int
    shared: int
    """Of the new file, bytes in chunks that any file of the old revision has."""
    moved: int
    """The rest of the new file. A chunk that stands in it twice is moved once."""


class Diff(msgspec.Struct, frozen=True, kw_only=True):
    """From revision A to revision B. Sizes in bytes."""

    size_a: int
    size_b: int
    shared: int
    """Of B: what A has as well."""
    moved: int
    """What has to be moved to whoever has A; a chunk in several files is moved once."""
    moved_chunks: int
    chunks_b: int
    files: list[FileDiff]
    metadata: dict[str, tuple[str, str]]
    """Keys whose values differ → the two values; empty where there is none."""


def diff(a: Manifest, b: Manifest) -> Diff:
    """How ``b`` differs from ``a``."""
    held = a.chunk_refs()
    before = {entry.path: entry for entry in a.files}
    after = {entry.path: entry for entry in b.files}
    wanted = b.chunk_refs()
    moved = [ref for name, ref in wanted.items() if name not in held]
    seen: set[str] = set(held)
    paths = sorted(before.keys() | after.keys())
    files = [_file(path, before.get(path), after.get(path), seen) for path in paths]
    keys = sorted(a.metadata.keys() | b.metadata.keys())
    values = {key: (a.metadata.get(key, ""), b.metadata.get(key, "")) for key in keys}
    return Diff(
        size_a=a.size,
        size_b=b.size,
        shared=b.size - sum(entry.moved for entry in files),
        moved=sum(ref.size for ref in moved),
        moved_chunks=len(moved),
        chunks_b=len(wanted),
        files=files,
        metadata={key: pair for key, pair in values.items() if pair[0] != pair[1]},
    )


def _file(path: str, old: FileEntry | None, new: FileEntry | None, seen: set[str]) -> FileDiff:
    """``seen`` holds the chunks that need not be moved, and gets those of this file."""
    moved = 0
    for ref in new.chunks if new is not None else ():
        if ref.id not in seen:
            moved += ref.size
            seen.add(ref.id)
    size = new.size if new is not None else 0
    return FileDiff(
        path=path,
        change=_change(old, new),
        size_a=old.size if old is not None else 0,
        size_b=size,
        shared=size - moved,
        moved=moved,
    )


def _change(old: FileEntry | None, new: FileEntry | None) -> Change:
    if old is None:
        return "new"
    if new is None:
        return "removed"
    return "same" if old.sha256 == new.sha256 else "changed"
