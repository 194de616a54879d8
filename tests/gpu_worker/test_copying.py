from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest
from blake3 import blake3
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from gpu_worker.copying import BLOCK_BYTES, clone_range, copy_proven, hash_range

DATA = os.urandom(300_000)


class Pair:
    """Two open files."""

    def __init__(self, folder: Path) -> None:
        (folder / "source").write_bytes(DATA)
        (folder / "target").write_bytes(bytes(len(DATA)))
        self.source = os.open(folder / "source", os.O_RDONLY)
        self.target = os.open(folder / "target", os.O_RDWR)
        self.shared: list[tuple[int, int, int]] = []

    def share(self, source: int, target: int, offset: int, at: int, size: int) -> bool:
        """As a file system that can, which takes whole blocks only."""
        assert not offset % BLOCK_BYTES
        assert not at % BLOCK_BYTES
        assert size
        assert not size % BLOCK_BYTES
        self.shared.append((offset, at, size))
        os.pwrite(target, os.pread(source, size, offset), at)
        return True

    def read(self, at: int, size: int) -> bytes:
        return os.pread(self.target, size, at)

    def close(self) -> None:
        os.close(self.source)
        os.close(self.target)


def write(handle: int, data: memoryview, at: int) -> None:
    assert os.pwrite(handle, data, at) == len(data)


def refuse(*_: int) -> bool:
    return False


@pytest.fixture
def pair(tmp_path: Path) -> Iterator[Pair]:
    made = Pair(tmp_path)
    yield made
    made.close()


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=50)
@given(
    offset=st.integers(0, 20_000),
    shift=st.one_of(st.integers(-5, 5).map(lambda n: n * BLOCK_BYTES), st.integers(0, 9_000)),
    size=st.integers(0, 270_000),
    able=st.booleans(),
)
def test_what_is_copied_is_what_was_hashed(
    pair: Pair, offset: int, shift: int, size: int, able: bool
) -> None:
    at = max(0, offset + shift)
    clone = pair.share if able else refuse
    found = copy_proven(pair.source, pair.target, offset, at, size, write=write, clone=clone)
    wanted = DATA[offset : offset + size]
    assert pair.read(at, size) == wanted
    assert found == blake3(wanted).hexdigest()


def test_whole_blocks_are_shared_where_both_parts_begin_alike(pair: Pair) -> None:
    size = 3 * BLOCK_BYTES
    copy_proven(pair.source, pair.target, 100, 4_196, size, write=write, clone=pair.share)
    assert pair.shared == [(4_096, 8_192, 2 * BLOCK_BYTES)]


def test_parts_that_begin_differently_cannot_be_shared(pair: Pair) -> None:
    copy_proven(pair.source, pair.target, 100, 101, 50_000, write=write, clone=pair.share)
    assert pair.shared == []


def test_a_cut_source_is_an_error(pair: Pair) -> None:
    with pytest.raises(OSError, match="shorter"):
        copy_proven(pair.source, pair.target, len(DATA) - 10, 0, 20, write=write)


def test_the_hash_of_shared_blocks_is_that_of_the_target(pair: Pair) -> None:
    """A file system that says it has shared, and has not, is found out."""

    def lie(*_: int) -> bool:
        return True

    found = copy_proven(pair.source, pair.target, 0, 0, BLOCK_BYTES, write=write, clone=lie)
    assert found == blake3(bytes(BLOCK_BYTES)).hexdigest()


def test_memory_shares_no_blocks() -> None:
    first, second = os.memfd_create("first"), os.memfd_create("second")
    try:
        os.write(first, DATA)
        os.truncate(second, len(DATA))
        assert not clone_range(first, second, 0, 0, BLOCK_BYTES)
        assert copy_proven(first, second, 0, 0, len(DATA), write=write) == blake3(DATA).hexdigest()
    finally:
        os.close(first)
        os.close(second)


def test_hashing_stops_where_the_file_does(pair: Pair) -> None:
    assert hash_range(pair.source, 5, 10 * len(DATA)) == blake3(DATA[5:]).hexdigest()
