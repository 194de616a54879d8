"""A bounded folder of verified chunks: ``chunks/ab/abcdef…``, one file a chunk.

What is where stands in memory, so a hit costs no system call. Files appear whole or not at all
(``disk.Folder``), what stays is decided in ``eviction.Eviction``, and a start reads the index back
from the folder. Blocking calls run in threads: reads in a pool, and everything that changes the
folder in lanes of one thread each, chosen by chunk, so that all changes of one chunk happen in the
order in which they were decided. A disk that fails costs hits, never an answer (threat 14).
"""

from __future__ import annotations

import asyncio
import errno
import os
from collections.abc import Awaitable, Callable, Iterable, Iterator
from concurrent.futures import Executor, ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path
from stat import S_ISREG
from typing import TypeVar

import structlog
from blake3 import blake3

from edge_tier.cache.disk import Folder, Writer, write_file
from edge_tier.cache.eviction import Eviction
from wire.chunk import MAX_CHUNK_BYTES, Chunk, ChunkId, is_digest
from wire.errors import ChunkMismatchError, ConfigError
from wire.source import StoredChunk

_log = structlog.get_logger("chunk-store")

_CHUNKS = "chunks"
_BLOCK_BYTES = 4096
_READ_BYTES = 1 << 20
_FULL = (errno.ENOSPC, errno.EDQUOT)

T = TypeVar("T")


@dataclass(frozen=True, slots=True, kw_only=True)
class StoreConfig:
    """Bounds of a chunk store."""

    cache_bytes: int = 50 * 1024**3
    """Bytes on disk, each chunk rounded up to 4 KiB."""
    small_share: float = 0.1
    """Share of them for chunks that are new (``Eviction``)."""
    pinned_share: float = 0.8
    """Share of them that pins may take; what is pinned beyond may be evicted."""
    fsync: bool = False
    """Flush each chunk: only a power cut needs it, and every chunk is verified again anyway."""
    read_threads: int = 4
    """Reads of chunks at once; at least 1."""
    write_threads: int = 4
    """Writes of different chunks at once; at least 1."""

    def __post_init__(self) -> None:
        if min(self.cache_bytes, self.read_threads, self.write_threads) < 1:
            raise ConfigError("cache_bytes, read_threads and write_threads must be at least 1")
        if not 0 < self.small_share < 1:
            raise ConfigError(f"small_share must be between 0 and 1, not {self.small_share}")
        if not 0 <= self.pinned_share <= 1:
            raise ConfigError(f"pinned_share must be 0 to 1, not {self.pinned_share}")


@dataclass(frozen=True, slots=True)
class StoreStats:
    """What a store holds and has been through. Counters run from its start."""

    chunks: int = 0
    used_bytes: int = 0
    pinned_bytes: int = 0
    capacity_bytes: int = 0
    stored: int = 0
    evicted: int = 0
    refused: int = 0
    """Not stored because pinned chunks left no room."""
    corrupt: int = 0
    """Stored chunks found rotten, and dropped."""
    vanished: int = 0
    """Files that somebody else removed."""
    store_errors: int = 0
    read_errors: int = 0
    leftovers: int = 0
    """Unfinished files found at the start."""


class ChunkStore:
    """Chunks at rest. Call :meth:`start` before anything else.

    Args:
        root: the folder; this store alone uses it.
        write: how bytes get into a new file.
    """

    def __init__(self, root: Path, config: StoreConfig, *, write: Writer = write_file) -> None:
        self._folder = Folder(root, fsync=config.fsync, write=write)
        self._config = config
        self._eviction = Eviction(
            config.cache_bytes, small_share=config.small_share, pinned_share=config.pinned_share
        )
        self._index: dict[ChunkId, StoredChunk | int] = {}
        """The size alone, until the chunk is first used: paths are dear to build and to hold."""
        self._writing: dict[ChunkId, asyncio.Task[StoredChunk | None]] = {}
        self._tasks: set[asyncio.Task[StoredChunk | None]] = set()
        self._readers = ThreadPoolExecutor(config.read_threads, thread_name_prefix="chunk-read")
        self._lanes = tuple(
            ThreadPoolExecutor(1, thread_name_prefix=f"chunk-write-{lane}")
            for lane in range(config.write_threads)
        )
        self._counts = StoreStats(capacity_bytes=config.cache_bytes)
        self._degraded = ""
        self._failed_bytes = 0
        """Of the write that failed last: what must fit again before all is well."""

    async def start(self) -> None:
        """Take the folder, remove leftovers and read the index back.

        Raises:
            ConfigError: the folder cannot be used, or another process uses it.
        """
        surplus = await _run(self._readers, self._rebuild)
        await self._discard(surplus)

    @property
    def degraded(self) -> str:
        """Why the last attempt to store a chunk failed; empty while all is well."""
        return self._degraded

    @property
    def stats(self) -> StoreStats:
        return replace(
            self._counts,
            chunks=len(self._index),
            used_bytes=self._eviction.used_bytes,
            pinned_bytes=self._eviction.pinned_bytes,
        )

    def locate(self, id: ChunkId) -> StoredChunk | None:  # noqa: A002
        """Where the chunk is at rest, counted as a use; None where it is not. No I/O."""
        stored = self._index.get(id)
        if stored is None:
            return None
        self._eviction.touch(id)
        return stored if isinstance(stored, StoredChunk) else self._enter(id, stored)

    def __contains__(self, id: ChunkId) -> bool:  # noqa: A002
        """Whether the chunk is here; unlike ``locate`` that is no use of it."""
        return id in self._index

    def pin(self, owner: str, ids: Iterable[ChunkId]) -> None:
        """Keep exactly these chunks for ``owner``, once they are here, in place of what it kept.

        All pins together take ``pinned_share`` of the bytes and no more.
        """
        self._eviction.pin(owner, ids)

    def unpin(self, owner: str) -> None:
        """Release all that ``owner`` kept."""
        self._eviction.unpin(owner)

    @property
    def pin_owners(self) -> tuple[str, ...]:
        """Who pins something."""
        return self._eviction.owners

    async def probe(self) -> bool:
        """Where the disk failed, try whether it takes as much again; whether all is well now.

        Without it a store that nobody misses anything in would stay degraded for ever.
        """
        if self._degraded:
            size = max(1, self._failed_bytes)
            try:
                await _run(self._lanes[0], self._folder.probe, size)
            except OSError as error:
                self._degrade("store", error)
            else:
                self._degraded = ""
                _log.info("disk works again")
        return not self._degraded

    async def put(self, chunk: Chunk) -> StoredChunk | None:
        """Store a chunk; where it is now. A caller that is cancelled does not stop it.

        None: there is no room, the disk failed (see :attr:`degraded`), or the chunk was dropped
        while it was written.
        """
        if chunk.id in self._index:
            return self.locate(chunk.id)
        task = self._writing.get(chunk.id)
        if task is None:
            task = asyncio.create_task(self._store(chunk), name=f"store {chunk.id}")
            self._writing[chunk.id] = task
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)
        return await asyncio.shield(task)

    async def read(self, id: ChunkId) -> Chunk | None:  # noqa: A002
        """The chunk from disk, verified. One that is rotten is dropped; None where it is gone."""
        stored = self.locate(id)
        if stored is None:
            return None
        return await self._checked(stored, _read_chunk)

    async def verify(self, id: ChunkId) -> bool:  # noqa: A002
        """Whether the chunk is here and sound; one that is rotten is dropped."""
        stored = self.locate(id)
        if stored is None:
            return False
        return await self._checked(stored, _check_chunk) is not None

    async def drop(self, id: ChunkId) -> None:  # noqa: A002
        """Remove a chunk, also one that is just being written."""
        if id in self._index or id in self._writing:
            self._forget(id)
            await self._unlink(id)

    async def aclose(self) -> None:
        """Finish what is being written and give the folder back; may be called twice."""
        await asyncio.gather(*self._tasks, return_exceptions=True)
        for executor in (self._readers, *self._lanes):
            executor.shutdown(wait=False)
        self._folder.close()

    async def _store(self, chunk: Chunk) -> StoredChunk | None:
        id, size = chunk.id, _on_disk(len(chunk))  # noqa: A001
        if not self._is_mine(id):
            return None  # dropped before it began
        try:
            victims = self._eviction.admit(id, size)
            if victims is None:
                self._count(refused=1)
                return None
            await self._evict(victims)
            error = await self._write(chunk)
            if error is not None and error.errno in _FULL and not self._degraded:
                # Somebody else filled the disk: give room back once. While it stays full nothing
                # more is evicted, or misses would eat up all the hits.
                await self._evict(self._eviction.reclaim(size))
                error = await self._write(chunk)
            return await self._settle(chunk, error)
        finally:
            if self._is_mine(id):
                self._forget(id)

    async def _settle(self, chunk: Chunk, error: OSError | None) -> StoredChunk | None:
        """Enter what was written into the index, unless it was dropped meanwhile."""
        id = chunk.id  # noqa: A001
        if error is not None:
            self._failed_bytes = len(chunk)
            self._fail("store", id, error)
            self._count(store_errors=1)
            return None
        self._degraded = ""
        if not self._is_mine(id):
            if id not in self._index and id not in self._writing:
                await self._unlink(id)
            return None
        del self._writing[id]
        self._count(stored=1)
        return self._enter(id, len(chunk))

    def _enter(self, id: ChunkId, size: int) -> StoredChunk:  # noqa: A002
        stored = self._index[id] = StoredChunk(id, self._folder.root / _name(id), size)
        return stored

    def _is_mine(self, id: ChunkId) -> bool:  # noqa: A002
        return self._writing.get(id) is asyncio.current_task()

    async def _checked(self, stored: StoredChunk, check: Callable[[StoredChunk], T]) -> T | None:
        """Run ``check`` in a thread; a chunk that fails it is dropped and counted."""
        try:
            return await _run(self._readers, check, stored)
        except ChunkMismatchError:
            self._count(corrupt=1)
        except FileNotFoundError:
            self._count(vanished=1)
        except OSError as error:
            self._fail("read", stored.id, error)
            self._count(read_errors=1)
        if self._index.get(stored.id) is stored:
            await self.drop(stored.id)
        return None

    async def _write(self, chunk: Chunk) -> OSError | None:
        try:
            await _run(self._lane(chunk.id), self._folder.place, _name(chunk.id), chunk.data)
        except OSError as error:
            return error
        return None

    async def _evict(self, victims: Iterable[str]) -> None:
        ids = [ChunkId(victim) for victim in victims]
        for id in ids:  # noqa: A001
            self._forget(id)
        self._count(evicted=len(ids))
        await self._discard(ids)

    async def _discard(self, ids: Iterable[ChunkId]) -> None:
        await asyncio.gather(*map(self._unlink, ids))

    def _forget(self, id: ChunkId) -> None:  # noqa: A002
        self._index.pop(id, None)
        self._writing.pop(id, None)
        self._eviction.remove(id)

    async def _unlink(self, id: ChunkId) -> None:  # noqa: A002
        try:
            await _run(self._lane(id), self._folder.remove, _name(id))
        except OSError as error:
            self._fail("remove", id, error)
            self._count(store_errors=1)

    def _lane(self, id: ChunkId) -> Executor:  # noqa: A002
        return self._lanes[int(id[:2], 16) % len(self._lanes)]

    def _fail(self, verb: str, id: ChunkId, error: OSError) -> None:  # noqa: A002
        if self._degrade(verb, error):  # a full disk fails every miss; say so once
            _log.warning("disk failed", chunk=id, reason=self._degraded)

    def _degrade(self, verb: str, error: OSError) -> bool:
        """Remember why; whether that is news."""
        reason = os.strerror(error.errno) if error.errno else type(error).__name__
        before, self._degraded = self._degraded, f"cannot {verb} chunks: {reason}"
        return self._degraded != before

    def _count(self, **increments: int) -> None:
        counts = self._counts
        self._counts = replace(
            counts, **{name: getattr(counts, name) + by for name, by in increments.items()}
        )

    def _rebuild(self) -> list[ChunkId]:
        """Read the index back, oldest file first; the chunks that no longer fit."""
        self._count(leftovers=self._folder.open(_CHUNKS))
        surplus: list[ChunkId] = []
        for _, id, size in sorted(_scan(self._folder.root / _CHUNKS)):  # noqa: A001
            victims = self._eviction.restore(id, _on_disk(size))
            self._index[id] = size
            for victim in [id] if victims is None else victims:
                del self._index[ChunkId(victim)]
                surplus.append(ChunkId(victim))
        return surplus


def _scan(root: Path) -> Iterator[tuple[int, ChunkId, int]]:
    """(modified at, in ns; id; size) of each file that can be a chunk; others are left alone.

    An empty file is what a power cut leaves of a chunk.
    """
    for shard in root.iterdir():
        if not (shard.is_dir() and not shard.is_symlink()):
            continue
        prefix = shard.name
        with os.scandir(shard) as entries:
            for entry in entries:
                name = entry.name
                if not (name[:2] == prefix and is_digest(name)):
                    continue
                try:  # not suppress(): a context manager for each of 100,000 files is dear
                    stat = entry.stat(follow_symlinks=False)
                except FileNotFoundError:
                    continue
                if S_ISREG(stat.st_mode) and 0 < stat.st_size <= MAX_CHUNK_BYTES:
                    yield stat.st_mtime_ns, ChunkId(name), stat.st_size


def _read_chunk(stored: StoredChunk) -> Chunk:
    with stored.path.open("rb", buffering=0) as file:
        data = file.read(stored.size + 1)
    return Chunk(stored.id, data)


def _check_chunk(stored: StoredChunk) -> bool:
    """Hash the file in small blocks. Reading, unlike a memory map, survives a bad sector."""
    hasher, block = blake3(), bytearray(_READ_BYTES)
    with stored.path.open("rb", buffering=0) as file, memoryview(block) as view:
        while count := file.readinto(block):
            hasher.update(view[:count])
    if hasher.hexdigest() != stored.id:
        raise ChunkMismatchError(f"stored chunk {stored.id} is rotten")
    return True


def _name(id: ChunkId) -> str:  # noqa: A002
    return f"{_CHUNKS}/{id[:2]}/{id}"


def _on_disk(size_bytes: int) -> int:
    return max(1, -(-size_bytes // _BLOCK_BYTES)) * _BLOCK_BYTES


def _run(executor: Executor, function: Callable[..., T], *args: object) -> Awaitable[T]:
    return asyncio.get_running_loop().run_in_executor(executor, function, *args)
