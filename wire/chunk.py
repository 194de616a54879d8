"""A chunk: a run of bytes named by its BLAKE3 hash, which never changes.

An unverified chunk cannot exist: the constructor hashes the bytes, and there is no way around it.
"""

from __future__ import annotations

import re
from typing import NewType

from blake3 import blake3

from wire.errors import ChunkMismatchError, NameInvalidError

ChunkId = NewType("ChunkId", str)
"""64 lower-case hexadecimal digits: the BLAKE3 hash (256 bits) of the chunk's bytes."""

MAX_CHUNK_BYTES = 8 * 1024 * 1024
"""No chunk is larger, so any buffer for one can be bounded before its bytes are believed."""

_HEX_256 = re.compile(r"[0-9a-f]{64}")

Buffer = bytes | bytearray | memoryview


def is_digest(text: str) -> bool:
    """Whether ``text`` is a 256-bit digest in lower-case hexadecimal."""
    return _HEX_256.fullmatch(text) is not None


def chunk_id(text: str) -> ChunkId:
    """Read a chunk id from the outside.

    Raises:
        NameInvalidError: not 64 lower-case hexadecimal digits.
    """
    if not is_digest(text):
        raise NameInvalidError("a chunk id is 64 lower-case hexadecimal digits (BLAKE3)")
    return ChunkId(text)


def hash_chunk(data: Buffer) -> ChunkId:
    """The id of these bytes. Releases the GIL while hashing."""
    return ChunkId(blake3(data).hexdigest())


class Chunk:
    """Bytes that are proven to be the chunk named ``id``.

    Raises:
        ChunkMismatchError: the bytes hash to something else.
    """

    __slots__ = ("data", "id")

    def __init__(self, id: ChunkId, data: Buffer) -> None:  # noqa: A002 - the field's own name
        found = hash_chunk(data)
        if found != id:
            raise ChunkMismatchError(f"chunk {id} holds bytes of {found} ({len(data)} B)")
        self.id = id
        self.data = data

    @classmethod
    def of(cls, data: Buffer) -> Chunk:
        """Name these bytes. They are hashed once; the id is true by construction."""
        self = cls.__new__(cls)
        self.id = hash_chunk(data)
        self.data = data
        return self

    def __len__(self) -> int:
        return len(self.data)

    def __repr__(self) -> str:
        return f"Chunk({self.id[:12]}…, {len(self.data)} B)"
