from __future__ import annotations

import asyncio
import errno
import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Any

import pytest

from edge_tier.cache.disk import write_file
from edge_tier.cache.store import ChunkStore, StoreConfig
from tests.fakes.cache import FaultyDisk, StoreFactory
from wire.chunk import Buffer, Chunk, ChunkId, hash_chunk
from wire.errors import ConfigError

KIB = 1024


def _chunk(number: int, size: int = 4 * KIB) -> Chunk:
    return Chunk.of(number.to_bytes(8, "big") * (size // 8))


def _files(root: Path) -> set[str]:
    return {path.name for path in (root / "chunks").rglob("*") if path.is_file()}


@pytest.fixture
def root(tmp_path: Path) -> Path:
    return tmp_path / "chunks"


async def test_a_stored_chunk_is_located_as_a_file_with_its_bytes(store: ChunkStore) -> None:
    chunk = _chunk(1)
    stored = await store.put(chunk)
    assert stored is not None
    assert store.locate(chunk.id) == stored
    assert stored.path.read_bytes() == chunk.data
    assert stored.path.parts[-2:] == (chunk.id[:2], chunk.id)
    assert stored.size == 4 * KIB


async def test_what_is_not_here_is_not_located(store: ChunkStore) -> None:
    absent = hash_chunk(b"absent")
    assert store.locate(absent) is None
    assert await store.read(absent) is None
    assert not await store.verify(absent)
    await store.drop(absent)


async def test_reading_gives_a_verified_chunk(store: ChunkStore) -> None:
    chunk = _chunk(1)
    await store.put(chunk)
    found = await store.read(chunk.id)
    assert found is not None
    assert found.data == chunk.data
    assert await store.verify(chunk.id)


async def test_an_empty_chunk_can_be_stored(store: ChunkStore) -> None:
    await store.put(Chunk.of(b""))
    found = await store.read(Chunk.of(b"").id)
    assert found is not None
    assert len(found) == 0


async def test_storing_twice_writes_once(store: ChunkStore, disk: FaultyDisk) -> None:
    first, second, third = await asyncio.gather(*(store.put(_chunk(1)) for _ in range(3)))
    assert first is second is third
    assert await store.put(_chunk(1)) is first
    assert disk.writes == 1


async def test_the_folder_stays_within_its_bytes(open_store: StoreFactory, root: Path) -> None:
    async with open_store(cache_bytes=40 * KIB) as store:
        for number in range(50):
            await store.put(_chunk(number))
        assert store.stats.used_bytes <= 40 * KIB
        assert store.stats.evicted == 40
        assert len(_files(root)) == store.stats.chunks == 10


async def test_small_chunks_cost_a_whole_block(open_store: StoreFactory) -> None:
    async with open_store(cache_bytes=40 * KIB) as store:
        for number in range(50):
            await store.put(Chunk.of(number.to_bytes(8, "big")))
        assert store.stats.chunks == 10


async def test_pinned_chunks_stay(open_store: StoreFactory) -> None:
    async with open_store(cache_bytes=40 * KIB) as store:
        kept = [_chunk(number) for number in range(5)]
        store.pin("chat@stable", [chunk.id for chunk in kept])
        for number in range(50):
            await store.put(_chunk(number))
        assert all(store.locate(chunk.id) for chunk in kept)
        assert store.stats.pinned_bytes == 20 * KIB
        store.unpin("chat@stable")
        assert store.stats.pinned_bytes == 0


async def test_pins_take_their_share_and_no_more(open_store: StoreFactory) -> None:
    async with open_store(cache_bytes=40 * KIB, pinned_share=0.5) as store:
        kept = [_chunk(number) for number in range(10)]
        store.pin("chat@stable", [chunk.id for chunk in kept])
        for chunk in kept:
            await store.put(chunk)
        assert store.stats.pinned_bytes == 20 * KIB
        assert await store.put(_chunk(99)) is not None
        assert store.pin_owners == ("chat@stable",)


async def test_asking_whether_a_chunk_is_here_is_no_use_of_it(store: ChunkStore) -> None:
    assert _chunk(1).id not in store
    await store.put(_chunk(1))
    assert _chunk(1).id in store


async def test_where_pins_leave_no_room_a_chunk_is_not_stored(
    open_store: StoreFactory, root: Path
) -> None:
    async with open_store(cache_bytes=4 * KIB) as store:
        store.pin("all", [_chunk(0).id])
        await store.put(_chunk(0))
        assert await store.put(_chunk(1)) is None
        assert store.stats.refused == 1
        assert store.degraded == ""
        assert _files(root) == {_chunk(0).id}


async def test_dropping_removes_the_file(store: ChunkStore, root: Path) -> None:
    await store.put(_chunk(1))
    await store.drop(_chunk(1).id)
    assert store.locate(_chunk(1).id) is None
    assert _files(root) == set()
    assert store.stats.used_bytes == 0


async def test_a_chunk_dropped_while_it_is_written_is_not_kept(
    store: ChunkStore, root: Path
) -> None:
    chunk = _chunk(1)
    writing = asyncio.create_task(store.put(chunk))
    await asyncio.sleep(0)
    await store.drop(chunk.id)
    assert await writing is None
    assert store.locate(chunk.id) is None
    assert _files(root) == set()


async def test_a_chunk_dropped_and_stored_again_at_once_is_kept(
    store: ChunkStore, root: Path
) -> None:
    chunk = _chunk(1)
    first = asyncio.create_task(store.put(chunk))
    await asyncio.sleep(0)
    dropping = asyncio.create_task(store.drop(chunk.id))
    await asyncio.sleep(0)
    second = asyncio.create_task(store.put(chunk))
    await asyncio.gather(first, dropping, second)
    assert store.locate(chunk.id) is not None
    assert _files(root) == {chunk.id}


async def test_a_caller_that_leaves_does_not_stop_the_writing(store: ChunkStore) -> None:
    chunk = _chunk(1)
    task = asyncio.create_task(store.put(chunk))
    await asyncio.sleep(0)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert await store.put(chunk) is not None
    assert store.stats.stored == 1


async def test_a_flipped_bit_is_found_dropped_and_counted(store: ChunkStore, root: Path) -> None:
    for number, check in ((1, store.verify), (2, store.read)):
        stored = await store.put(_chunk(number))
        assert stored is not None
        data = bytearray(stored.path.read_bytes())
        data[100] ^= 1
        stored.path.write_bytes(data)
        assert not await check(stored.id)
        assert store.locate(stored.id) is None
    assert store.stats.corrupt == 2
    assert _files(root) == set()


async def test_a_file_that_grew_or_shrank_is_rotten(store: ChunkStore) -> None:
    for number, data in ((1, b"short"), (2, b"x" * 8 * KIB)):
        stored = await store.put(_chunk(number))
        assert stored is not None
        stored.path.write_bytes(data)
        assert await store.read(stored.id) is None
    assert store.stats.corrupt == 2


async def test_a_vanished_file_is_a_miss_and_no_error(store: ChunkStore) -> None:
    for number, check in ((1, store.verify), (2, store.read)):
        stored = await store.put(_chunk(number))
        assert stored is not None
        stored.path.unlink()
        assert not await check(stored.id)
        assert store.locate(stored.id) is None
    assert store.stats.vanished == 2
    assert store.degraded == ""


async def test_a_file_that_cannot_be_read_is_a_miss_and_shows(store: ChunkStore) -> None:
    stored = await store.put(_chunk(1))
    assert stored is not None
    stored.path.unlink()
    stored.path.mkdir()
    assert await store.read(stored.id) is None
    assert store.stats.read_errors == 1
    assert "Is a directory" in store.degraded


@pytest.mark.parametrize("code", [errno.ENOSPC, errno.EIO, errno.EDQUOT])
async def test_a_failing_disk_degrades_and_a_later_success_clears(
    store: ChunkStore, disk: FaultyDisk, root: Path, code: int
) -> None:
    disk.error = code
    assert await store.put(_chunk(1)) is None
    assert os.strerror(code) in store.degraded
    assert store.stats.store_errors == 1
    assert store.locate(_chunk(1).id) is None
    assert store.stats.used_bytes == 0
    assert list((root / "partial").iterdir()) == []
    disk.error = None
    assert await store.put(_chunk(1)) is not None
    assert store.degraded == ""


async def test_a_disk_that_works_again_is_noticed_without_a_miss(
    store: ChunkStore, disk: FaultyDisk, root: Path
) -> None:
    disk.fill_up()
    await store.put(_chunk(1))
    assert not await store.probe()
    assert "No space" in store.degraded
    disk.error = errno.EIO
    assert not await store.probe()
    assert os.strerror(errno.EIO) in store.degraded
    disk.error = None
    assert await store.probe()
    assert store.degraded == ""
    assert list((root / "partial").iterdir()) == []
    writes = disk.writes
    assert await store.probe()
    assert disk.writes == writes, "a sound disk is not tried"


async def test_a_disk_with_room_for_less_than_what_failed_is_still_full(tmp_path: Path) -> None:
    def write(path: Path, data: Buffer, fsync: bool) -> None:
        if len(data) >= KIB:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        write_file(path, data, fsync)

    store = ChunkStore(tmp_path / "chunks", StoreConfig(), write=write)
    await store.start()
    await store.put(Chunk.of(bytes(KIB)))
    assert not await store.probe()
    await store.aclose()


async def test_a_full_disk_costs_one_eviction_and_not_the_whole_cache(
    store: ChunkStore, disk: FaultyDisk
) -> None:
    for number in range(20):
        await store.put(_chunk(number))
    disk.fill_up()
    for number in range(20, 40):
        assert await store.put(_chunk(number)) is None
    assert store.stats.chunks >= 18


async def test_room_given_back_to_a_full_disk_is_used(tmp_path: Path) -> None:
    """A disk with room for two chunks, whatever the configuration allows."""
    folder = tmp_path / "chunks"

    def write(path: Path, data: object, fsync: bool) -> None:
        assert isinstance(data, bytes)
        path.write_bytes(data)
        if len(_files(folder)) >= 2:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    store = ChunkStore(folder, StoreConfig(cache_bytes=1024 * KIB), write=write)
    await store.start()
    for number in range(10):
        assert await store.put(_chunk(number)) is not None
    assert store.degraded == ""
    assert store.stats.chunks == 2
    await store.aclose()


async def test_a_restart_finds_everything_again(open_store: StoreFactory) -> None:
    async with open_store() as store:
        for number in range(20):
            await store.put(_chunk(number))
        before = store.stats
    async with open_store() as store:
        assert store.stats.chunks == 20
        assert store.stats.used_bytes == before.used_bytes
        for number in range(20):
            assert await store.read(_chunk(number).id) is not None


async def test_a_smaller_cache_drops_the_oldest_at_the_start(
    open_store: StoreFactory, root: Path
) -> None:
    async with open_store() as store:
        for number in range(20):
            stored = await store.put(_chunk(number))
            assert stored is not None
            os.utime(stored.path, (number, number))
    async with open_store(cache_bytes=20 * KIB) as store:
        assert {number for number in range(20) if store.locate(_chunk(number).id)} == set(
            range(15, 20)
        )
        assert len(_files(root)) == 5


async def test_leftovers_and_foreign_files_are_not_taken_for_chunks(
    open_store: StoreFactory, root: Path
) -> None:
    async with open_store() as store:
        await store.put(_chunk(1))
    (root / "partial" / "17").write_bytes(b"half a chunk")
    empty, misplaced = hash_chunk(b"power cut"), hash_chunk(b"elsewhere")
    linked = hash_chunk(b"link")
    for shard in {"00", "01", empty[:2], linked[:2]}:
        (root / "chunks" / shard).mkdir(exist_ok=True)
    (root / "chunks" / empty[:2] / empty).write_bytes(b"")
    (root / "chunks" / ("00" if misplaced[:2] != "00" else "01") / misplaced).write_bytes(b"x")
    (root / "chunks" / "00" / "README").write_bytes(b"mine")
    (root / "chunks" / "README").write_bytes(b"mine")
    (root / "chunks" / linked[:2] / linked).symlink_to("/etc/hostname")
    async with open_store() as store:
        assert store.stats.chunks == 1
        assert store.stats.leftovers == 1
        assert list((root / "partial").iterdir()) == []
        assert store.locate(empty) is store.locate(misplaced) is store.locate(linked) is None


async def test_two_stores_never_share_a_folder(store: ChunkStore, root: Path) -> None:
    other = ChunkStore(root, StoreConfig())
    with pytest.raises(ConfigError, match="another process"):
        await other.start()
    await other.aclose()


@pytest.mark.parametrize(
    "values", [{"cache_bytes": 0}, {"read_threads": 0}, {"write_threads": -1}, {"small_share": 1.0}]
)
def test_bounds_that_make_no_sense_are_refused(values: dict[str, Any]) -> None:
    with pytest.raises(ConfigError):
        StoreConfig(**values)


async def test_the_event_loop_goes_on_while_a_disk_is_slow(tmp_path: Path) -> None:
    go = threading.Event()

    def write(path: Path, data: object, fsync: bool) -> None:
        assert go.wait(30)  # blocks its thread, as a disk would
        assert isinstance(data, bytes)
        path.write_bytes(data)

    store = ChunkStore(tmp_path, StoreConfig(), write=write)
    await store.start()
    task = asyncio.create_task(store.put(_chunk(1)))
    for _ in range(50):
        await asyncio.sleep(0.001)
    assert not task.done()
    go.set()
    await task
    await store.aclose()


_WRITER = """
import asyncio, sys
from pathlib import Path
from edge_tier.cache.store import ChunkStore, StoreConfig
from wire.chunk import Chunk

async def main() -> None:
    store = ChunkStore(Path(sys.argv[1]), StoreConfig(cache_bytes=64 * 1024 * 1024))
    await store.start()
    print("ready", flush=True)
    for number in range(1_000_000):
        await asyncio.gather(
            *(store.put(Chunk.of(b"%d/%d" % (number, n) * 50_000)) for n in range(8))
        )

asyncio.run(main())
"""


def test_after_kill_9_every_file_is_whole(root: Path) -> None:
    with subprocess.Popen(
        [sys.executable, "-c", _WRITER, str(root)],
        stdout=subprocess.PIPE,
        env={**os.environ, "PYTHONPATH": str(Path(__file__).parents[3])},
    ) as writer:
        assert writer.stdout is not None
        writer.stdout.readline()
        while len(_files(root)) < 20:
            time.sleep(0.01)
        writer.send_signal(signal.SIGKILL)

    async def verify_all() -> None:
        store = ChunkStore(root, StoreConfig(cache_bytes=64 * 1024 * KIB))
        await store.start()
        names = _files(root)
        assert store.stats.chunks == len(names) >= 20
        assert all([await store.verify(ChunkId(name)) for name in names])
        assert list((root / "partial").iterdir()) == []
        await store.aclose()

    asyncio.run(verify_all())
