from __future__ import annotations

import asyncio
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from origin.errors import StoreError
from origin.store import ObjectStore
from tests.fakes.publishing import chunk_file, flip_bit
from tests.fakes.revisions import chunk_of, make_revision
from wire.chunk import Chunk, ChunkId, hash_chunk
from wire.errors import ChunkMismatchError, ConfigError, ManifestInvalidError, NotFoundError

REVISION = make_revision({"m.gguf": [chunk_of(1), chunk_of(2)]})


@pytest.fixture(params=["folder", "bucket"])
def store(request: pytest.FixtureRequest, tmp_path: Path) -> ObjectStore:
    """A local folder, and a store that has no files (as S3 has none)."""
    return ObjectStore(str(tmp_path / "store") if request.param == "folder" else "memory:///")


async def fill(store: ObjectStore) -> None:
    for data in REVISION.chunks.values():
        await store.put_chunk(Chunk.of(data))
    await store.put_manifest(REVISION.id, REVISION.data)


async def test_what_is_put_is_given_back(store: ObjectStore) -> None:
    await fill(store)
    for name, data in REVISION.chunks.items():
        assert bytes((await store.chunk(name)).data) == data
    assert await store.manifest(REVISION.id) == REVISION.data


async def test_what_is_missing_is_named_in_the_order_asked(store: ObjectStore) -> None:
    await store.put_chunk(Chunk.of(b"here"))
    wanted = [hash_chunk(str(n).encode()) for n in range(100)]
    asked = [*wanted[:50], hash_chunk(b"here"), *wanted[50:], wanted[0]]
    assert await store.missing_chunks(asked) == wanted
    with pytest.raises(NotFoundError):
        await store.chunk(wanted[0])
    with pytest.raises(NotFoundError):
        await store.manifest("0" * 64)


async def test_a_manifest_needs_all_its_chunks(store: ObjectStore) -> None:
    await store.put_chunk(Chunk.of(chunk_of(1)))
    with pytest.raises(NotFoundError, match="1 chunks"):
        await store.put_manifest(REVISION.id, REVISION.data)
    with pytest.raises(NotFoundError):
        await store.manifest(REVISION.id)


async def test_a_manifest_of_another_name_is_refused(store: ObjectStore) -> None:
    await fill(store)
    with pytest.raises(ManifestInvalidError):
        await store.put_manifest("0" * 64, REVISION.data)


async def test_trust_documents_are_kept_by_name(store: ObjectStore) -> None:
    assert await store.trust_documents() == {}
    await store.put_trust_documents({"1.root.json": b"r", "timestamp.json": b"t"})
    await store.put_trust_documents({"timestamp.json": b"t2"}, based_on=b"t")
    assert await store.trust_documents() == {"1.root.json": b"r", "timestamp.json": b"t2"}
    gone = ["1.root.json", "9.never.json"]
    await store.put_trust_documents({"a.json": b"a"}, remove=gone, based_on=b"t2")
    assert await store.trust_documents() == {"timestamp.json": b"t2", "a.json": b"a"}


@pytest.mark.parametrize("key", ["chunk:" + "a" * 64, "channel:chat@stable", "ü/../%00" * 40])
async def test_takedowns_are_remembered_whatever_the_key(store: ObjectStore, key: str) -> None:
    assert await store.gone_keys() == set()
    await store.mark_gone([key])
    await store.mark_gone([key])
    await store.mark_gone(["trust", "chunk:" + "b" * 64])
    assert await store.gone_keys() == {key, "trust", "chunk:" + "b" * 64}


# Rot


async def test_trust_documents_of_an_older_store_move_at_the_next_change(tmp_path: Path) -> None:
    (tmp_path / "trust").mkdir()
    for name, text in {"1.root.json": b"r", "timestamp.json": b"t"}.items():
        (tmp_path / "trust" / name).write_bytes(text)
    store = ObjectStore(str(tmp_path))
    assert await store.trust_documents() == {"1.root.json": b"r", "timestamp.json": b"t"}
    await store.put_trust_documents({"timestamp.json": b"t2"}, based_on=b"t")
    again = ObjectStore(str(tmp_path))
    assert await again.trust_documents() == {"1.root.json": b"r", "timestamp.json": b"t2"}


@pytest.fixture
def rotten() -> list[ChunkId]:
    """Chunks that were reported."""
    return []


@pytest.fixture
async def folder_store(tmp_path: Path, rotten: list[ChunkId]) -> ObjectStore:
    store = ObjectStore(str(tmp_path), on_corrupt=rotten.append)
    await fill(store)
    return store


async def test_a_rotten_chunk_is_set_aside_counted_and_healed_by_another_put(
    folder_store: ObjectStore, tmp_path: Path, rotten: list[ChunkId]
) -> None:
    name, data = next(iter(REVISION.chunks.items()))
    flip_bit(chunk_file(tmp_path, name))
    with pytest.raises(ChunkMismatchError):
        await folder_store.chunk(name)
    assert rotten == [name]
    assert folder_store.locate(name) is None
    assert (tmp_path / "corrupt" / name).exists()
    assert await folder_store.missing_chunks(REVISION.chunks) == [name]
    await folder_store.put_chunk(Chunk.of(data))
    assert bytes((await folder_store.chunk(name)).data) == data


async def test_many_readers_of_a_rotten_chunk_count_it_once(
    folder_store: ObjectStore, tmp_path: Path, rotten: list[ChunkId]
) -> None:
    name = next(iter(REVISION.chunks))
    flip_bit(chunk_file(tmp_path, name))
    reads = (folder_store.chunk(name) for _ in range(8))
    results = await asyncio.gather(*reads, return_exceptions=True)
    assert {type(result) for result in results} <= {ChunkMismatchError, NotFoundError}
    assert rotten == [name]


async def test_a_copy_that_healed_while_it_was_judged_is_put_back(tmp_path: Path) -> None:
    name, data = next(iter(REVISION.chunks.items()))

    def heal(_id: ChunkId) -> None:
        """Somebody published again between the reading and the renaming."""
        (tmp_path / "corrupt" / name).write_bytes(data)

    store = ObjectStore(str(tmp_path), on_corrupt=heal)
    await fill(store)
    flip_bit(chunk_file(tmp_path, name))
    with pytest.raises(ChunkMismatchError):
        await store.chunk(name)
    assert bytes((await store.chunk(name)).data) == data


async def test_the_located_size_is_that_of_the_file_now(
    folder_store: ObjectStore, tmp_path: Path
) -> None:
    name = next(iter(REVISION.chunks))
    located = folder_store.locate(name)
    assert located is not None
    assert (located.path, located.size) == (chunk_file(tmp_path, name), 1_000)
    located.path.write_bytes(b"cut")
    cut = folder_store.locate(name)
    assert cut is not None
    assert cut.size == 3
    assert ObjectStore("memory:///").locate(name) is None


async def test_a_rotten_manifest_is_not_given_and_healed_by_another_put(
    folder_store: ObjectStore, tmp_path: Path
) -> None:
    flip_bit(tmp_path / "manifests" / REVISION.id)
    with pytest.raises(ManifestInvalidError, match="rotten"):
        await folder_store.manifest(REVISION.id)
    await folder_store.put_manifest(REVISION.id, REVISION.data)
    assert await folder_store.manifest(REVISION.id) == REVISION.data


# Faults of the place


@pytest.mark.parametrize("location", ["nosuch://bucket", "/dev/null/store"])
def test_a_place_that_cannot_be_a_store_is_a_configuration_error(location: str) -> None:
    with pytest.raises(ConfigError, match="cannot open the store"):
        ObjectStore(location)


async def test_a_write_that_fails_says_what_and_leaves_nothing(tmp_path: Path) -> None:
    store = ObjectStore(str(tmp_path))
    (tmp_path / "chunks").write_text("no folder")
    with pytest.raises(StoreError, match="cannot write chunks/"):
        await store.put_chunk(Chunk.of(b"data"))
    assert list((tmp_path / "staging").iterdir()) == []


async def test_a_read_that_fails_is_no_absence(tmp_path: Path) -> None:
    store = ObjectStore(str(tmp_path))
    (tmp_path / "manifests" / REVISION.id).mkdir(parents=True)
    with pytest.raises(StoreError):
        await store.manifest(REVISION.id)


async def test_each_origin_keeps_its_view_of_the_fleet(store: ObjectStore) -> None:
    assert await store.fleet("east") is None
    await store.put_fleet("east", b"one")
    await store.put_fleet("east", b"two")
    await store.put_fleet("west", b"three")
    assert (await store.fleet("east"), await store.fleet("west")) == (b"two", b"three")


_WRITER = """
import asyncio, sys
from origin.store import ObjectStore
from wire.chunk import Chunk
async def main():
    store = ObjectStore(sys.argv[1])
    for number in range(10_000):
        await store.put_chunk(Chunk.of(number.to_bytes(4, "big") * 200_000))
        print(number, flush=True)
asyncio.run(main())
"""


def test_a_writer_killed_at_any_moment_leaves_only_whole_objects(tmp_path: Path) -> None:
    arguments = [sys.executable, "-c", _WRITER, str(tmp_path)]
    root = Path(__file__).resolve().parents[2]
    with subprocess.Popen(arguments, stdout=subprocess.PIPE, cwd=root) as writer:
        assert writer.stdout is not None
        for _ in range(5):
            writer.stdout.readline()
        writer.kill()
    stored = [path for path in (tmp_path / "chunks").rglob("*") if path.is_file()]
    assert len(stored) >= 5
    assert all(hash_chunk(path.read_bytes()) == path.name for path in stored)
    asyncio.run(ObjectStore(str(tmp_path)).sweep())
    assert not (tmp_path / "staging").exists()


@settings(max_examples=25, deadline=None)
@given(data=st.binary(max_size=2_000), at=st.integers(min_value=0), bit=st.integers(0, 7))
def test_no_flipped_bit_is_ever_given_out(
    tmp_path_factory: pytest.TempPathFactory, data: bytes, at: int, bit: int
) -> None:
    folder = tmp_path_factory.mktemp("store")
    chunk = Chunk.of(data + b".")

    async def scenario() -> None:
        store = ObjectStore(str(folder))
        await store.put_chunk(chunk)
        file = chunk_file(folder, chunk.id)
        rotten = bytearray(file.read_bytes())
        rotten[at % len(rotten)] ^= 1 << bit
        file.write_bytes(rotten)
        with pytest.raises(ChunkMismatchError):
            await store.chunk(chunk.id)

    asyncio.run(scenario())
