from __future__ import annotations

import asyncio
import threading
from pathlib import Path

import pytest

from origin.errors import StoreError
from origin.store import ObjectStore
from origin.stores.folder import FolderObjects
from wire.chunk import Chunk
from wire.errors import ConflictError, NotFoundError, TooLargeError


@pytest.fixture
def objects(tmp_path: Path) -> FolderObjects:
    return FolderObjects(tmp_path / "store")


def test_an_object_is_read_only_within_its_bound(objects: FolderObjects) -> None:
    objects.put("chunks/ab/x", b"1234")
    assert bytes(objects.get("chunks/ab/x", 4)) == b"1234"
    with pytest.raises(TooLargeError, match="over 3 B"):
        objects.get("chunks/ab/x", 3)


def test_a_swap_needs_the_object_that_was_read(objects: FolderObjects) -> None:
    first = objects.swap("d", b"one", None)
    with pytest.raises(ConflictError):
        objects.swap("d", b"other", None)
    second = objects.swap("d", b"two", first)
    with pytest.raises(ConflictError):
        objects.swap("d", b"late", first)
    assert objects.get_tagged("d", 10) == (b"two", second)
    assert objects.get_tagged("d", 10, second) is None


def test_of_many_that_swap_at_once_one_succeeds(objects: FolderObjects, tmp_path: Path) -> None:
    """As with processes: each has opened the folder itself."""
    tag = objects.swap("d", b"0", None)
    won: list[int] = []

    def swap(number: int) -> None:
        try:
            FolderObjects(tmp_path / "store").swap("d", str(number).encode(), tag)
        except ConflictError:
            return
        won.append(number)

    threads = [threading.Thread(target=swap, args=(number,)) for number in range(1, 9)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(won) == 1
    assert bytes(objects.get("d", 10)) == str(won[0]).encode()


def test_a_listing_goes_below_and_knows_sizes(objects: FolderObjects) -> None:
    for name in ("chunks/ab/1", "chunks/ab/2", "chunks/cd/3", "chunksx/4"):
        objects.put(name, b"12")
    found = {stat.key: stat.size for page in objects.pages("chunks/") for stat in page}
    assert found == {"chunks/ab/1": 2, "chunks/ab/2": 2, "chunks/cd/3": 2}
    assert list(objects.pages("none/")) == []
    objects.remove(["chunks/ab/1", "chunks/ab/none", "none/x"])
    assert objects.stat("chunks/ab/1") is None
    objects.move("chunks/ab/2", "corrupt/2")
    assert bytes(objects.get("corrupt/2", 2)) == b"12"
    with pytest.raises(NotFoundError):
        objects.move("chunks/ab/2", "corrupt/2")


# Symbolic links


@pytest.fixture
def secret(tmp_path: Path) -> Path:
    file = tmp_path / "outside" / "secret"
    file.parent.mkdir()
    file.write_bytes(b"secret")
    return file


def test_a_link_is_no_object(objects: FolderObjects, tmp_path: Path, secret: Path) -> None:
    objects.put("chunks/ab/real", b"x")
    (tmp_path / "store/chunks/ab/secret").symlink_to(secret)
    (tmp_path / "store/chunks/ee").symlink_to(secret.parent)
    for key in ("chunks/ab/secret", "chunks/ee/secret"):
        assert objects.stat(key) is None
        with pytest.raises(NotFoundError):
            objects.get(key, 100)
    assert [stat.key for page in objects.pages("chunks/") for stat in page] == ["chunks/ab/real"]
    with pytest.raises(StoreError):
        objects.remove(["chunks/ee/secret"])
    assert secret.read_bytes() == b"secret"


def test_a_chunk_takes_the_place_of_a_link_and_not_of_what_it_leads_to(
    tmp_path: Path, secret: Path
) -> None:
    store, chunk = ObjectStore(str(tmp_path / "store")), Chunk.of(b"data")
    place = tmp_path / "store/chunks" / chunk.id[:2] / chunk.id
    place.parent.mkdir(parents=True)
    place.symlink_to(secret)
    assert store.locate(chunk.id) is None

    async def replace() -> Chunk:
        assert await store.missing_chunks([chunk.id]) == [chunk.id]
        await store.put_chunk(chunk)
        return await store.chunk(chunk.id)

    assert bytes(asyncio.run(replace()).data) == b"data"
    assert secret.read_bytes() == b"secret"


def test_what_is_no_file_is_a_fault_and_no_absence(objects: FolderObjects, tmp_path: Path) -> None:
    (tmp_path / "store/chunks/ab/x").mkdir(parents=True)
    with pytest.raises(StoreError):
        objects.get("chunks/ab/x", 10)
    assert objects.stat("chunks/ab/x") is None
