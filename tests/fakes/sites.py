"""Static sites to serve, in memory and in folders."""

from __future__ import annotations

import hashlib
from collections.abc import Collection, Mapping
from pathlib import Path

from origin.media_types import media_type
from origin.precompress import PrecompressConfig, compressed
from origin.static_folder import is_hashed
from tests.fakes.revisions import Revision
from wire.chunk import Chunk, ChunkId
from wire.manifest import ChunkRef, FileEntry, build, encode
from wire.static_file import STATIC, SUFFIXES, StaticFile

PIECE = 4_000
"""Bytes of a chunk, so that small files have several."""


def text(word: str, size: int = 10_000) -> bytes:
    """Content that compresses."""
    return (f"{word} " * size).encode()[:size]


def page(number: int) -> dict[str, bytes]:
    """A build of a site: a page, and the script with the hash in its name that it asks for."""
    script = text(f"let build = {number};")
    name = f"app-{hashlib.sha256(script).hexdigest()[:6]}a1.js"
    markup = f"<!doctype html><title>{number}</title><script src={name}></script>".encode()
    return {"index.html": markup, name: script}


def make_site(
    files: Mapping[str, bytes], model: str = "site", *, immutable: Collection[str] = ()
) -> Revision:
    """A revision of a static site, with the compressed forms that are worth having."""
    contents: dict[str, bytes] = {}
    chunks: dict[ChunkId, bytes] = {}
    entries = []
    for path, data in files.items():
        said = StaticFile(type=media_type(path), immutable=path in immutable or is_hashed(path))
        entries.append(_entry(path, data, said, chunks))
        contents[path] = data
        for coding, form in compressed(data, PrecompressConfig()):
            static = StaticFile(type=said.type, coding=coding, immutable=said.immutable)
            entries.append(_entry(path + SUFFIXES[coding], form, static, chunks))
            contents[path + SUFFIXES[coding]] = form
    manifest = encode(build(model, tuple(entries), {}, kind=STATIC))
    return Revision(model, manifest, chunks, contents)


def write_site(folder: Path, files: Mapping[str, bytes]) -> Path:
    """A folder with these files; what was there before is not removed."""
    for path, data in files.items():
        (folder / path).parent.mkdir(parents=True, exist_ok=True)
        (folder / path).write_bytes(data)
    return folder


def _entry(path: str, data: bytes, static: StaticFile, chunks: dict[ChunkId, bytes]) -> FileEntry:
    parts = [Chunk.of(data[at : at + PIECE]) for at in range(0, len(data), PIECE)]
    chunks |= {chunk.id: bytes(chunk.data) for chunk in parts}
    return FileEntry(
        path=path,
        size=len(data),
        sha256=hashlib.sha256(data).hexdigest(),
        role="other",
        chunks=tuple(ChunkRef(chunk.id, len(chunk)) for chunk in parts),
        static=static,
    )
