"""Sends an origin the chunks of a revision that it lacks."""

from __future__ import annotations

import os
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Protocol

from origin.chunker import Progress
from wire.chunk import Chunk, ChunkId
from wire.errors import ChunkMismatchError, ConflictError
from wire.manifest import ChunkRef, Manifest


class Receiver(Protocol):
    """The part of ``origin.admin_client.OriginAdmin`` that takes chunks."""

    def missing(self, ids: list[ChunkId]) -> set[ChunkId]:
        """Those that it lacks."""

    def put_chunk(self, chunk: Chunk) -> None:
        """Take one."""


Content = Path | bytes
"""A file of a revision: where it lies, or what it is."""
_UPLOADS = 4
"""Chunks under way at the same time; memory is this many times 8 MiB."""
_ASKED = 100_000
"""Chunk ids in one question."""


def send_missing(
    manifest: Manifest, contents: Mapping[str, Content], origin: Receiver, progress: Progress
) -> list[ChunkRef]:
    """Upload what the origin lacks, a few chunks at a time; a chunk of several files goes once.

    Args:
        contents: the files by their path in the manifest.

    Returns:
        What was sent.

    Raises:
        ConflictError: a file is not any more what its manifest says.
    """
    missing = _missing(list(manifest.chunk_refs()), origin)
    sends: dict[ChunkId, tuple[Content, int, ChunkRef]] = {}
    for entry in manifest.files:
        for offset, ref in entry.placed():
            if ref.id in missing:
                sends.setdefault(ref.id, (contents[entry.path], offset, ref))
    total = sum(ref.size for _, _, ref in sends.values())
    done = 0

    def send(item: tuple[Content, int, ChunkRef]) -> int:
        origin.put_chunk(_chunk(*item))
        return item[2].size

    with ThreadPoolExecutor(_UPLOADS, "publish") as pool:
        for size in pool.map(send, sends.values()):
            done += size
            progress("send", done, total)
    return [ref for _, _, ref in sends.values()]


def _missing(ids: list[ChunkId], origin: Receiver) -> set[ChunkId]:
    missing: set[ChunkId] = set()
    for start in range(0, len(ids), _ASKED):
        missing |= origin.missing(ids[start : start + _ASKED])
    return missing


def _chunk(content: Content, offset: int, ref: ChunkRef) -> Chunk:
    if isinstance(content, bytes):
        return Chunk(ref.id, content[offset : offset + ref.size])
    try:
        with content.open("rb", buffering=0) as stream:
            data = os.pread(stream.fileno(), ref.size, offset)
        return Chunk(ref.id, data)
    except OSError as error:
        raise ConflictError(f"cannot read {content} any more: {error.strerror}") from error
    except ChunkMismatchError as error:
        raise ConflictError(
            f"{content} changed while it was published; publish it again"
        ) from error
