"""The store against a model: whatever happens, index and disk agree, within the bytes allowed."""

from __future__ import annotations

import asyncio
import errno
import os
import tempfile
from collections.abc import Coroutine
from pathlib import Path
from typing import TypeVar

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from edge_tier.cache.disk import write_file
from edge_tier.cache.store import ChunkStore, StoreConfig
from wire.chunk import Buffer, Chunk

T = TypeVar("T")
BLOCK = 4096
CAPACITY = 12 * BLOCK
CHUNKS = [Chunk.of(bytes([number]) * (BLOCK * (1 + number % 3))) for number in range(16)]
chunks = st.sampled_from(CHUNKS)


class StoreMachine(RuleBasedStateMachine):
    def __init__(self) -> None:
        super().__init__()
        self._folder = tempfile.TemporaryDirectory()
        self._root = Path(self._folder.name)
        self._loop = asyncio.new_event_loop()
        self._full = False
        self._store = self._open()

    def _open(self) -> ChunkStore:
        config = StoreConfig(cache_bytes=CAPACITY, read_threads=1, write_threads=2)
        store = ChunkStore(self._root, config, write=self._write)
        self._run(store.start())
        return store

    def _write(self, path: Path, data: Buffer, fsync: bool) -> None:
        write_file(path, data, fsync)
        if self._full:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    def _run(self, work: Coroutine[object, object, T]) -> T:
        return self._loop.run_until_complete(work)

    def _on_disk(self) -> dict[str, bytes]:
        shards = {self._root / "chunks" / chunk.id[:2] for chunk in CHUNKS}
        return {path.name: path.read_bytes() for shard in shards for path in shard.glob("*")}

    @rule(chunk=chunks)
    def put(self, chunk: Chunk) -> None:
        stored = self._run(self._store.put(chunk))
        if stored is not None:
            assert stored.path.read_bytes() == chunk.data
        elif not self._full:
            assert self._store.stats.pinned_bytes > CAPACITY - 3 * BLOCK

    @rule(some=st.lists(chunks, max_size=8), dropped=st.lists(chunks, max_size=4))
    def put_and_drop_at_once(self, some: list[Chunk], dropped: list[Chunk]) -> None:
        async def together() -> None:
            puts = [self._store.put(chunk) for chunk in some]
            drops = [self._store.drop(chunk.id) for chunk in dropped]
            half = len(puts) // 2
            await asyncio.gather(*puts[:half], *drops, *puts[half:])

        self._run(together())

    @rule(chunk=chunks)
    def drop(self, chunk: Chunk) -> None:
        self._run(self._store.drop(chunk.id))
        assert self._store.locate(chunk.id) is None

    @rule(chunk=chunks)
    def read(self, chunk: Chunk) -> None:
        here = self._store.locate(chunk.id) is not None
        found = self._run(self._store.read(chunk.id))
        assert (found is not None) == here

    @rule(chunk=chunks, position=st.integers(0, BLOCK - 1))
    def rot(self, chunk: Chunk, position: int) -> None:
        stored = self._store.locate(chunk.id)
        if stored is not None:
            data = bytearray(stored.path.read_bytes())
            data[position] ^= 0x10
            stored.path.write_bytes(data)
            assert not self._run(self._store.verify(chunk.id))

    @rule(chunk=chunks)
    def vanish(self, chunk: Chunk) -> None:
        stored = self._store.locate(chunk.id)
        if stored is not None:
            stored.path.unlink()
            assert self._run(self._store.read(chunk.id)) is None

    @rule(wanted=st.lists(chunks, max_size=4))
    def pin(self, wanted: list[Chunk]) -> None:
        self._store.pin("owner", [chunk.id for chunk in wanted])

    @precondition(lambda self: not self._full)
    @rule()
    def fill_the_disk(self) -> None:
        self._full = True

    @precondition(lambda self: self._full)
    @rule()
    def free_the_disk(self) -> None:
        self._full = False

    @rule()
    def restart(self) -> None:
        before = self._store.stats.chunks
        self._run(self._store.aclose())
        self._store = self._open()
        assert self._store.stats.chunks == before

    @invariant()
    def index_and_disk_agree_within_the_bytes_allowed(self) -> None:
        on_disk = self._on_disk()
        assert len(on_disk) == self._store.stats.chunks
        for chunk in CHUNKS:
            stored = self._store.locate(chunk.id)
            assert (stored is not None) == (chunk.id in on_disk)
            assert stored is None or on_disk[chunk.id] == chunk.data
        assert sum(map(len, on_disk.values())) == self._store.stats.used_bytes <= CAPACITY
        assert list((self._root / "partial").iterdir()) == []

    def teardown(self) -> None:
        self._run(self._store.aclose())
        self._loop.close()
        self._folder.cleanup()


StoreMachine.TestCase.settings = settings(max_examples=10, stateful_step_count=25, deadline=None)
TestStoreMachine = StoreMachine.TestCase
