"""Publishing what no publisher would: large emptiness, and files that no engine can load."""

from __future__ import annotations

import os
import struct
import time
from collections.abc import Iterator
from pathlib import Path

from origin.admin_client import OriginAdmin
from origin.chunker import plan, scan
from origin.keys import load_key
from origin.offline import sign_revisions
from wire.chunk import ChunkId
from wire.gguf import read_gguf
from wire.manifest import FileEntry, build, encode, revision_of
from wire.paths import DEFAULT_CHANNEL


def publish_unseen(
    file: Path, model: str, origin: OriginAdmin, *, key_file: Path, store: Path
) -> str:
    """Publish a GGUF's bytes as a revision of their own, whatever they hold, and sign it.

    The chunks are put into the origin's folder with the file's holes, so that gigabytes cost
    neither time nor disk. Returns the revision.
    """
    with file.open("rb") as stream:
        layout = read_gguf(stream, file.stat().st_size)
    entry = scan(file, plan(layout, layout.file_size), role="weights")
    _place(file, entry, store)
    data = encode(build(model, (entry,), {}))
    revision = revision_of(data)
    origin.put_manifest(revision, data)
    signed = sign_revisions(
        origin.signed_revisions(),
        load_key(key_file),
        [(model, revision, len(data))],
        now=time.time(),
    )
    origin.publish(signed)
    origin.roll(model, DEFAULT_CHANNEL, revision)
    return revision


def _place(file: Path, entry: FileEntry, store: Path) -> None:
    source = os.open(file, os.O_RDONLY)
    try:
        for offset, ref in entry.placed():
            target = chunk_file(store, ref.id)
            target.parent.mkdir(parents=True, exist_ok=True)
            with target.open("wb") as stream:
                stream.truncate(ref.size)
                for start, end in _data(source, offset, offset + ref.size):
                    os.pwrite(stream.fileno(), os.pread(source, end - start, start), start - offset)
    finally:
        os.close(source)


def _data(descriptor: int, start: int, end: int) -> Iterator[tuple[int, int]]:
    """The parts of a file that are no holes (lseek(2), SEEK_DATA)."""
    while start < end:
        try:
            start = os.lseek(descriptor, start, os.SEEK_DATA)
        except OSError:
            return  # nothing but a hole up to the end
        if start >= end:
            return
        stop = min(os.lseek(descriptor, start, os.SEEK_HOLE), end)
        yield start, stop
        start = stop


def chunk_file(store: Path, chunk: ChunkId | str) -> Path:
    """Where a folder of chunks keeps one: the origin's store, and the edge's ``cache/chunks``."""
    return store / "chunks" / chunk[:2] / chunk


def flip_bit(file: Path) -> None:
    """Rot: one bit in the middle of a file, in place."""
    with file.open("r+b") as stream:
        stream.seek(file.stat().st_size // 2)
        byte = stream.read(1)[0]
        stream.seek(-1, os.SEEK_CUR)
        stream.write(bytes([byte ^ 0x04]))


def with_key(data: bytes, key: str, value: int | float) -> bytes:
    """A GGUF with another value under a key that holds a 32-bit number."""
    form = "<f" if isinstance(value, float) else "<I"
    name = struct.pack("<Q", len(key)) + key.encode()
    at = data.index(name) + len(name) + 4  # the value's type comes first
    return data[:at] + struct.pack(form, value) + data[at + 4 :]
