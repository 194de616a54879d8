from __future__ import annotations

import pytest
from blake3 import blake3
from hypothesis import given
from hypothesis import strategies as st

from wire.chunk import Chunk, ChunkId, chunk_id, hash_chunk, is_digest
from wire.errors import ChunkMismatchError, NameInvalidError


@given(st.binary(max_size=2048))
def test_a_chunk_is_named_by_the_blake3_of_its_bytes(data: bytes) -> None:
    chunk = Chunk.of(data)
    assert chunk.id == blake3(data).hexdigest()
    assert bytes(Chunk(chunk.id, data).data) == data
    assert len(chunk) == len(data)


@given(st.binary(min_size=1, max_size=512), st.integers(min_value=0), st.integers(0, 7))
def test_one_flipped_bit_cannot_become_a_chunk(data: bytes, at: int, bit: int) -> None:
    name = hash_chunk(data)
    rotten = bytearray(data)
    rotten[at % len(data)] ^= 1 << bit
    with pytest.raises(ChunkMismatchError) as caught:
        Chunk(name, rotten)
    assert name in caught.value.message


@pytest.mark.parametrize(
    "text", ["", "ab", "A" * 64, "g" * 64, "0" * 63, "0" * 65, "../" + "0" * 61, "0" * 64 + "\n"]
)
def test_what_is_no_digest_is_no_chunk_id(text: str) -> None:
    assert not is_digest(text)
    with pytest.raises(NameInvalidError):
        chunk_id(text)


def test_a_chunk_shows_its_name_and_size_but_not_its_bytes() -> None:
    assert "secret" not in repr(Chunk.of(b"secret"))
    assert chunk_id("0" * 64) == ChunkId("0" * 64)
